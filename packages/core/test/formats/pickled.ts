/** Writing pickles and PyTorch's archives by hand, instruction by instruction, lies included. */
import { writeZip } from "../../src/formats/zip.ts";

const utf8 = (text: string) => [...new TextEncoder().encode(text)];
const u32 = (n: number) => [n & 255, (n >>> 8) & 255, (n >>> 16) & 255, n >>> 24];
/** Little-endian, 8 bytes. */
export const u64 = (n: number) => [...u32(n % 2 ** 32), ...u32(Math.floor(n / 2 ** 32))];

export type Code = readonly number[];
export const PROTO2: Code = [0x80, 2];
export const STOP: Code = [0x2e];
export const MARK: Code = [0x28];
export const REDUCE: Code = [0x52];
export const NEWOBJ: Code = [0x81];
export const BUILD: Code = [0x62];
export const MEMOIZE: Code = [0x94];
export const put = (i: number): Code => [0x71, i];
export const get = (i: number): Code => [0x68, i];
export const str = (text: string): Code => [0x58, ...u32(utf8(text).length), ...utf8(text)];
export const int = (n: number): Code => [0x8a, 8, ...(n < 0 ? new Array(8).fill(255) : u64(n))];
export const global = (module: string, name: string): Code => [0x63, ...utf8(`${module}\n${name}\n`)];
export const tuple = (...values: Code[]): Code => [...MARK, ...values.flat(), 0x74];
export const list = (...values: Code[]): Code => [0x5d, ...MARK, ...values.flat(), 0x65];
export const dict = (entries: readonly [Code, Code][]): Code => [0x7d, ...MARK, ...entries.flatMap(([k, v]) => [...k, ...v]), 0x75];
export const call = (module: string, name: string, ...args: Code[]): Code => [...global(module, name), ...tuple(...args), ...REDUCE];
export const object = (module: string, name: string, state: Code): Code => [...global(module, name), 0x29, ...NEWOBJ, ...state, ...BUILD];
export const storage = (type: string, key: string, size: number): Code => [
  ...tuple(str("storage"), global("torch", `${type}Storage`), str(key), str("cpu"), int(size)),
  0x51,
];
export const tensor = (from: Code, offset: number, shape: readonly number[], strides: readonly number[]): Code =>
  call(
    "torch._utils",
    "_rebuild_tensor_v2",
    from,
    int(offset),
    tuple(...shape.map(int)),
    tuple(...strides.map(int)),
    [0x89],
    call("collections", "OrderedDict"),
  );

/** A whole pickle. */
export const pickle = (...code: Code[]): Uint8Array => Uint8Array.from([...PROTO2, ...code.flat(), ...STOP]);

/** An archive as torch.save writes it, with the storages under their keys. */
export function archive(
  content: Uint8Array,
  storages: Readonly<Record<string, Uint8Array>> = {},
  more: Readonly<Record<string, Uint8Array>> = {},
): Uint8Array {
  const files = new Map([["net/data.pkl", content]]);
  for (const [key, bytes] of Object.entries(storages)) files.set(`net/data/${key}`, bytes);
  for (const [path, bytes] of Object.entries(more)) files.set(path, bytes);
  return writeZip(files);
}

/** Bytes of float32 values. */
export const floats = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);

/** A stream as torch.save wrote it before 1.6: magic number, protocol, system, value, keys, storages. */
export function stream(value: Uint8Array, keys: Uint8Array, data: readonly (readonly number[])[]): Uint8Array {
  const magic = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e];
  return Uint8Array.from([...magic, ...pickle(int(1001)), ...pickle([0x7d]), ...value, ...keys, ...data.flat()]);
}

/** A tar archive of files that are given in parts. */
export function tar(files: Readonly<Record<string, readonly Uint8Array[]>>): Uint8Array {
  const blocks: number[] = [];
  for (const [path, parts] of Object.entries(files)) {
    const content = parts.flatMap((part) => [...part]);
    const header = new Uint8Array(512);
    const field = (at: number, text: string) => header.set(utf8(text), at);
    field(0, path);
    field(124, content.length.toString(8).padStart(11, "0"));
    field(148, " ".repeat(8));
    field(156, "0");
    field(257, "ustar\u000000");
    field(
      148,
      header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, "0"),
    );
    blocks.push(...header, ...content, ...new Array<number>((512 - (content.length % 512)) % 512).fill(0));
  }
  return Uint8Array.from([...blocks, ...new Array<number>(1024).fill(0)]);
}
