/**
 * PyTorch checkpoints: the zip archives of 1.6 and later, the streams of 0.4 to 1.5, and the tar archives before them. The pickle in
 * them is read into inert values (pickle.ts): tensors are known by the functions that rebuild them, everything else (an
 * argparse.Namespace, a whole module, a function of the operating system) is a record of a name, and nothing of it runs. Tensors
 * are views of storages in the file, read when asked for. The formats are those that torch/serialization.py writes and reads.
 */
import { checkOptions, kindOf } from "../runtime/check.ts";
import type { FormatError } from "../runtime/error.ts";
import {
  countElements,
  DAMAGED,
  type DType,
  elementsFromBytes,
  gather,
  ITEM_BYTES,
  malformed,
  type NdArray,
  type NdData,
} from "./array.ts";
import { PickleCut, PickledName, PickledObject, unpickle } from "./pickle.ts";
import { type ByteSource, type Bytes, bytesAt, partOf, sourceOf } from "./source.ts";
import type { StoredTensor } from "./stored.ts";
import { checkCrc, crc32, isDeflated, type ZipEntry, zipContent, zipDirectory } from "./zip.ts";

export interface TorchOptions {
  /** The file's name, for messages. */
  readonly name?: string | undefined;
  /** The most bytes that packed entries of an archive may unpack to. Default 2 GiB; PyTorch itself packs nothing. */
  readonly maxBytes?: number | undefined;
}

/** What a checkpoint holds, as its writer nested it. */
export interface TorchFile {
  readonly format: "zip" | "stream" | "tar";
  /** Maps for dictionaries, arrays for lists and tuples, `TorchTensor`s, and inert records of what is not known. */
  readonly value: unknown;
  /** Names outside the allow-list that PyTorch would have imported or called. Nothing of them was run. */
  readonly foreign: readonly string[];
}

/** Storage classes by name: their elements. */
const ELEMENTS: Readonly<Record<string, DType>> = {
  Double: "f64",
  Float: "f32",
  Half: "f16",
  BFloat16: "bf16",
  Long: "i64",
  Int: "i32",
  Short: "i16",
  Char: "i8",
  Byte: "u8",
  Bool: "bool",
  // Bytes whose type the tensor itself tells.
  Untyped: "u8",
};

/** Names of dtypes that only tensors over untyped storages have. */
const DTYPES: Readonly<Record<string, DType>> = { "torch.uint16": "u16", "torch.uint32": "u32" };

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001;
/** A pickle of tensors' names and shapes; the tensors themselves are elsewhere. */
const MAX_PICKLE = 2 ** 28;
const FIRST_READ = 2 ** 18;
const CHUNK = 2 ** 24;
/** Elements of a view that is larger than its storage, as `expand` makes them. */
const MAX_EXPANDED = 2 ** 22;

/** How to come to the bytes of a storage. */
interface Place {
  read(begin: number, end: number): Promise<Uint8Array>;
  readonly littleEndian: boolean;
}

/** One storage of the file, or a part of one, with a place once the file's layout is known; several tensors may be views of it. */
class Storage {
  readonly dtype: DType;
  /** In elements. */
  readonly size: number;
  /** Of the whole storage, in which this part begins `from` elements on. */
  private readonly root: Storage | undefined;
  private readonly from: number;
  private place: Place | undefined;

  constructor(dtype: DType, size: number, part?: { root: Storage; from: number }) {
    this.dtype = dtype;
    this.size = size;
    // A part of a part is one of the whole.
    this.root = part && (part.root.root ?? part.root);
    this.from = part ? part.root.from + part.from : 0;
  }

  put(place: Place): this {
    this.place = place;
    return this;
  }

  /** Elements of `dtype`, which a tensor may have of its own, in the bytes from `begin` to `end`. */
  async read(dtype: DType, begin: number, end: number, name: string): Promise<NdData> {
    const skip = this.from * ITEM_BYTES[this.dtype];
    const place = this.root?.place ?? (this.place as Place);
    return elementsFromBytes(dtype, await place.read(skip + begin, skip + end), place.littleEndian, name, begin);
  }
}

/** A tensor of the file: a strided view of a storage. */
export class TorchTensor implements StoredTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  private readonly strides: readonly number[];
  /** In bytes of the storage. */
  private readonly from: number;
  private readonly storage: Storage;
  private readonly name: string;

  /** @hidden Made by `open` alone. */
  constructor(storage: Storage, dtype: DType, from: number, shape: readonly number[], strides: readonly number[], name: string) {
    this.storage = storage;
    this.dtype = dtype;
    this.from = from;
    this.shape = shape;
    this.strides = strides;
    this.name = name;
  }

  async read(): Promise<NdArray> {
    const { dtype, shape, strides, storage, name } = this;
    const count = countElements(shape) as number;
    const item = ITEM_BYTES[dtype];
    const span = count === 0 ? 0 : 1 + shape.reduce((last, n, axis) => last + (n - 1) * (strides[axis] as number), 0);
    const elements = await storage.read(dtype, this.from, this.from + span * item, name);
    return { dtype, shape, data: isContiguous(shape, strides) ? elements : gather(elements, shape, strides) };
  }
}

function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= shape[axis] as number;
  }
  return true;
}

/** Does a file begin as one of PyTorch's does? `head` are its first 512 bytes or more. A zip archive may be another's. */
export function torchFormat(head: Uint8Array): TorchFile["format"] | undefined {
  const is = (at: number, text: string) => [...text].every((c, i) => head[at + i] === c.charCodeAt(0));
  if (is(0, "PK\x03\x04")) return "zip";
  if (is(257, "ustar")) return "tar";
  // The magic number's pickle, of any protocol.
  if ((head[0] === 0x80 && head[2] === 0x8a && head[3] === 10) || is(0, `L${MAGIC}L\n`)) return "stream";
  if (head[0] === 0x80 && head[2] === 0x95 && head[11] === 0x8a) return "stream";
  return undefined;
}

/**
 * Open a checkpoint. Tensors are not read yet; where they lie in the file is checked.
 * @throws FormatError when the file is none, or contradicts itself
 */
export async function open(file: Bytes, options: TorchOptions = {}): Promise<TorchFile> {
  checkOptions("openPyTorch", options, ["name", "maxBytes"]);
  const { name = "checkpoint", maxBytes = 2 ** 31 } = options;
  const source = sourceOf(name, file);
  const format = torchFormat(await source.read(0, Math.min(512, source.size)));
  if (!format)
    throw malformed(name, 0, "a PyTorch checkpoint (a zip archive, or a pickle that begins with PyTorch's magic number)", "another file");
  const reader = new Reader(source, name);
  const value = await (format === "zip" ? reader.zip(maxBytes) : format === "tar" ? reader.tar() : reader.stream());
  return { format, value, foreign: [...reader.foreign].sort() };
}

/** Reads the one file, whichever format, into values whose tensors know where they lie. */
class Reader {
  readonly foreign = new Set<string>();
  private readonly source: ByteSource;
  private readonly name: string;

  constructor(source: ByteSource, name: string) {
    this.source = source;
    this.name = name;
  }

  async zip(maxBytes: number): Promise<unknown> {
    const { source, name } = this;
    const entries = new Map((await zipDirectory(source, name, maxBytes, isDeflated)).map((entry) => [entry.path, entry]));
    const main = [...entries.keys()].filter((path) => /^[^/]+\/data\.pkl$/.test(path));
    if (main.length !== 1) throw malformed(name, undefined, "one data.pkl in the archive", main.length ? "several" : "none", NOT_TORCH);
    const folder = (main[0] as string).slice(0, -"data.pkl".length);
    if (entries.has(`${folder}constants.pkl`))
      throw malformed(name, undefined, "a saved state dict", "a TorchScript program", "Save the module's state_dict() from PyTorch.");
    const order = entries.get(`${folder}byteorder`);
    const byteOrder = order && order.size < 64 ? new TextDecoder().decode(await this.content(order)) : "little";
    if (byteOrder !== "little" && byteOrder !== "big")
      throw malformed(name, order?.begin, 'byteorder "little" or "big"', JSON.stringify(byteOrder.slice(0, 20)), DAMAGED);
    const main0 = entries.get(main[0] as string) as ZipEntry;
    if (main0.size > MAX_PICKLE) throw malformed(name, main0.begin, `a pickle of at most ${MAX_PICKLE} bytes`, `one of ${main0.size}`);
    const storages = new Map<string, Storage>();
    const pickle = await this.content(main0);
    const { value } = unpickle(
      pickle,
      {
        call: (callee, args) => this.call(callee, args),
        persistent: (id) => {
          const { kind, key, dtype, size } = this.storageOf(id);
          if (kind === "module") return (id as unknown[])[1];
          const entry = entries.get(`${folder}data/${key}`);
          const what = `storage ${JSON.stringify(key.slice(0, 40))}`;
          if (!entry) throw malformed(name, undefined, `${what} in the archive`, "none", DAMAGED);
          // A type that is not read here: the tensor stays a record of how it would be made.
          if (!dtype) return new PickledObject(nameOf((id as unknown[])[1]), []);
          if (entry.size !== size * ITEM_BYTES[dtype])
            throw malformed(name, entry.begin, `${size * ITEM_BYTES[dtype]} bytes of ${what}`, `${entry.size}`, DAMAGED);
          const storage =
            this.once(storages, key, dtype, size) ?? new Storage(dtype, size).put(this.archived(entry, byteOrder === "little"));
          storages.set(key, storage);
          return storage;
        },
      },
      `${name}, ${main0.path}`,
      main0.begin,
    );
    return value;
  }

  /** The content of a small entry. A checksum of zero is none: PyTorch can be told not to make them. */
  private async content(entry: ZipEntry): Promise<Uint8Array> {
    if (entry.crc === 0 && !isDeflated(entry)) return this.source.read(entry.begin, entry.end);
    return zipContent(this.source, entry, this.name);
  }

  /** A storage in an archive. Its checksum is compared once, before anything of it is given out. */
  private archived(entry: ZipEntry, littleEndian: boolean): Place {
    const { source, name } = this;
    if (isDeflated(entry)) {
      return { littleEndian, read: async (begin, end) => (await zipContent(source, entry, name)).subarray(begin, end) };
    }
    let verified = entry.crc === 0;
    const read = async (begin: number, end: number): Promise<Uint8Array> => {
      if (!verified && begin === 0 && end === entry.size) {
        const bytes = await source.read(entry.begin, entry.end);
        checkCrc(entry, crc32(bytes), name);
        verified = true;
        return bytes;
      }
      if (!verified) {
        let crc = 0;
        for (let at = entry.begin; at < entry.end; at += CHUNK) crc = crc32(await source.read(at, Math.min(at + CHUNK, entry.end)), crc);
        checkCrc(entry, crc, name);
        verified = true;
      }
      return source.read(entry.begin + begin, entry.begin + end);
    };
    return { littleEndian, read };
  }

  async stream(): Promise<unknown> {
    const { source, name } = this;
    const magic = await this.pickle(source, 0, {});
    if (magic.value !== MAGIC) throw malformed(name, 0, "PyTorch's magic number", kindOf(magic.value), NOT_TORCH);
    const protocol = await this.pickle(source, magic.end, {});
    if (protocol.value !== PROTOCOL) throw malformed(name, magic.end, `protocol ${PROTOCOL}`, kindOf(protocol.value));
    const system = await this.pickle(source, protocol.end, {});
    const storages = new Map<string, Storage>();
    const main = await this.pickle(source, system.end, {
      persistent: (id) => {
        const { kind, key, dtype, size } = this.storageOf(id);
        if (kind === "module") return (id as unknown[])[1];
        if (!dtype) throw malformed(name, undefined, "a storage of a known type", nameOf((id as unknown[])[1]), TYPES);
        const storage = this.once(storages, key, dtype, size) ?? new Storage(dtype, size);
        storages.set(key, storage);
        const view = (id as unknown[])[5];
        return Array.isArray(view) ? this.viewOf(storage, view[1], view[2]) : storage;
      },
    });
    const keys = await this.pickle(source, main.end, {});
    if (!Array.isArray(keys.value)) throw malformed(name, main.end, "a list of storages", kindOf(keys.value), DAMAGED);
    let at = keys.end;
    const placed = new Set<string>();
    for (const value of keys.value as unknown[]) {
      const key = keyOf(value);
      const storage = storages.get(key);
      if (!storage || placed.has(key))
        throw malformed(name, at, "each storage of the pickle once", JSON.stringify(key.slice(0, 40)), DAMAGED);
      placed.add(key);
      at = await this.place(source, at, storage, `storage ${JSON.stringify(key)}`);
    }
    for (const key of storages.keys())
      if (!placed.has(key)) throw malformed(name, at, `storage ${JSON.stringify(key.slice(0, 40))} in the file`, "none", DAMAGED);
    if (at !== source.size) throw malformed(name, at, "the file's end", `${source.size - at} more bytes`, DAMAGED);
    return main.value;
  }

  async tar(): Promise<unknown> {
    const { source, name } = this;
    const files = await tarFiles(source, name);
    const part = (path: string) => files.get(path) ?? fail(malformed(name, undefined, `${path} in the archive`, "none", NOT_TORCH));
    const storages = new Map<string, Storage>();
    const tensors = new Map<string, TorchTensor>();
    const count = (value: unknown, what: string) =>
      Number.isSafeInteger(value) && (value as number) >= 0
        ? (value as number)
        : fail(malformed(name, undefined, `a number of ${what}`, kindOf(value), DAMAGED));

    const first = part("storages");
    const number = await this.pickle(first, 0, {});
    let at = number.end;
    for (let i = count(number.value, "storages"); i > 0; i--) {
      const { value, end } = await this.pickle(first, at, {});
      const [key, , type] = Array.isArray(value) ? (value as unknown[]) : [];
      const dtype = elementsOf(type);
      if (!dtype) throw malformed(name, undefined, "a storage of a known type", nameOf(type), TYPES);
      const size = await bytesAt(first, end, 8, name, "a storage's size").then((bytes) => int64(bytes, 0));
      if (!(size >= 0)) throw malformed(name, undefined, "a storage's size", String(size), DAMAGED);
      const storage = new Storage(dtype, size);
      at = await this.place(first, end, storage, `storage ${JSON.stringify(keyOf(key))}`);
      storages.set(keyOf(key), storage);
    }
    const views = await this.pickle(first, at, {});
    for (const view of Array.isArray(views.value) ? (views.value as unknown[]) : []) {
      const [key, root, from, length] = Array.isArray(view) ? (view as unknown[]) : [];
      const base = storages.get(keyOf(root));
      if (!base) throw malformed(name, undefined, "a view of a storage of the file", kindOf(root), DAMAGED);
      storages.set(keyOf(key), this.viewOf(base, from, length));
    }

    const second = part("tensors");
    const many = await this.pickle(second, 0, {});
    at = many.end;
    for (let i = count(many.value, "tensors"); i > 0; i--) {
      const { value, end } = await this.pickle(second, at, {});
      const [key, storageKey] = Array.isArray(value) ? (value as unknown[]) : [];
      const rank = new DataView((await bytesAt(second, end, 8, name, "a tensor")).slice().buffer).getInt32(0, true);
      if (!(rank >= 0 && rank <= 64)) throw malformed(name, undefined, "at most 64 axes", String(rank), DAMAGED);
      const bytes = await bytesAt(second, end + 8, 8 * (2 * rank + 1), name, "a tensor");
      const numbers = Array.from({ length: 2 * rank + 1 }, (_, i) => int64(bytes, 8 * i));
      const storage = storages.get(keyOf(storageKey));
      if (!storage) throw malformed(name, undefined, "a tensor of a storage of the file", kindOf(storageKey), DAMAGED);
      tensors.set(
        keyOf(key),
        this.tensor(storage, numbers[2 * rank], numbers.slice(0, rank), numbers.slice(rank, 2 * rank), storage.dtype),
      );
      at = end + 8 + bytes.length;
    }

    const main = await this.pickle(part("pickle"), 0, {
      persistent: (id) => {
        // A class with its source text stands as a tuple.
        if (Array.isArray(id)) return id[0];
        const found = tensors.get(keyOf(id)) ?? storages.get(keyOf(id));
        return found ?? fail(malformed(name, undefined, "a tensor of the file", kindOf(id), DAMAGED));
      },
    });
    return main.value;
  }

  /** Where a storage lies that begins with its number of elements. @returns where it ends */
  private async place(source: ByteSource, at: number, storage: Storage, what: string): Promise<number> {
    const size = int64(await bytesAt(source, at, 8, this.name, what), 0);
    if (size !== storage.size) throw malformed(this.name, at, `${what} of ${storage.size} elements`, String(size), DAMAGED);
    const begin = at + 8;
    const end = begin + size * ITEM_BYTES[storage.dtype];
    if (end > source.size)
      throw malformed(this.name, begin, `${end - begin} bytes of ${what}`, `${source.size - begin} up to the file's end`, DAMAGED);
    // Both of the older formats are little-endian on every machine.
    storage.put({ littleEndian: true, read: (from, to) => source.read(begin + from, begin + to) });
    return end;
  }

  /** One pickle of a file that goes on behind it, in reads that grow. */
  private async pickle(
    source: ByteSource,
    at: number,
    rules: { persistent?: (id: unknown) => unknown },
  ): Promise<{ value: unknown; end: number }> {
    for (let length = FIRST_READ; ; ) {
      const bytes = await source.read(at, Math.min(at + length, source.size));
      try {
        const { value, length: read } = unpickle(bytes, { call: (name, args) => this.call(name, args), ...rules }, this.name, at);
        return { value, end: at + read };
      } catch (error) {
        if (!(error instanceof PickleCut) || at + error.needed > source.size || at + length >= source.size) throw error;
        length = Math.max(2 * length, error.needed);
        if (length > MAX_PICKLE) throw malformed(this.name, at, `a pickle of at most ${MAX_PICKLE} bytes`, "a longer one");
      }
    }
  }

  /** What the tuple that stands for a storage says. Types that are not read here have no dtype. */
  private storageOf(id: unknown): { kind: string; key: string; dtype: DType | undefined; size: number } {
    const [kind, type, key, , size] = Array.isArray(id) ? (id as unknown[]) : [];
    if (kind === "module") return { kind, key: "", dtype: undefined, size: 0 };
    if (kind !== "storage" || !["string", "number"].includes(typeof key) || !Number.isSafeInteger(size) || (size as number) < 0)
      throw malformed(this.name, undefined, "a reference to a storage", kindOf(kind), DAMAGED);
    if ((size as number) > Number.MAX_SAFE_INTEGER / 8)
      throw malformed(this.name, undefined, "a storage of less than 2^50 elements", String(size), DAMAGED);
    return { kind, key: String(key), dtype: elementsOf(type), size: size as number };
  }

  /** The storage that was met under this key before. @throws FormatError where that was another one */
  private once(storages: ReadonlyMap<string, Storage>, key: string, dtype: DType, size: number): Storage | undefined {
    const storage = storages.get(key);
    if (storage && (storage.dtype !== dtype || storage.size !== size))
      throw malformed(this.name, undefined, `storage ${JSON.stringify(key.slice(0, 40))} of one type and size`, "two", DAMAGED);
    return storage;
  }

  private viewOf(root: Storage, from: unknown, length: unknown): Storage {
    const whole = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
    if (!whole(from) || !whole(length) || from + length > root.size)
      throw malformed(
        this.name,
        undefined,
        `a view within a storage of ${root.size} elements`,
        `${kindOf(length)} at ${kindOf(from)}`,
        DAMAGED,
      );
    return new Storage(root.dtype, length, { root, from });
  }

  private call(name: string, args: readonly unknown[]): unknown {
    const [first, second, third, fourth] = args;
    switch (name) {
      case "collections.OrderedDict":
      case "collections.defaultdict": {
        // Python 2 and the first protocols give the pairs as an argument.
        const pairs = name.endsWith("OrderedDict") && Array.isArray(first) ? (first as unknown[]) : [];
        return new Map(pairs.map((pair) => (Array.isArray(pair) ? [pair[0], pair[1]] : [pair, undefined]) as [unknown, unknown]));
      }
      case "torch.Size":
      case "builtins.set":
      case "__builtin__.set":
        return Array.isArray(first) ? first : [];
      case "copyreg._reconstructor":
      case "copy_reg._reconstructor":
        // How the first protocols make an object of a class.
        this.foreign.add(nameOf(first));
        return new PickledObject(nameOf(first), []);
      case "torch._utils._rebuild_tensor":
      case "torch._utils._rebuild_tensor_v2":
        return first instanceof Storage ? this.tensor(first, second, third, fourth, first.dtype) : undefined;
      case "torch._utils._rebuild_tensor_v3": {
        const dtype = args[6] instanceof PickledName ? DTYPES[args[6].name] : undefined;
        return first instanceof Storage && dtype ? this.tensor(first, second, third, fourth, dtype) : undefined;
      }
      case "torch._utils._rebuild_parameter":
      case "torch._utils._rebuild_parameter_with_state":
      case "torch.nn.parameter.Parameter":
      case "torch.autograd.variable.Variable":
        return first instanceof TorchTensor ? first : undefined;
      case "torch._tensor._rebuild_from_type_v2":
        return first instanceof PickledName && Array.isArray(third) && first.name !== name ? this.call(first.name, third) : undefined;
    }
    this.foreign.add(name.slice(0, 200));
    return undefined;
  }

  /** @throws FormatError for a view that does not lie within its storage */
  private tensor(storage: Storage, offset: unknown, shape: unknown, strides: unknown, dtype: DType): TorchTensor {
    const whole = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;
    const count = Array.isArray(shape) ? countElements(shape) : undefined;
    if (
      count === undefined ||
      !whole(offset) ||
      !Array.isArray(strides) ||
      strides.length !== (shape as unknown[]).length ||
      !strides.every(whole)
    )
      throw malformed(this.name, undefined, "a tensor's offset, shape and strides in whole numbers", "something else", DAMAGED);
    const sizes = shape as number[];
    const steps = strides as number[];
    const shown = `shape [${sizes.join(", ")}], strides [${steps.join(", ")}], offset ${offset}`;
    const last = count === 0 ? -1 : sizes.reduce((at, n, axis) => at + (n - 1) * (steps[axis] as number), offset as number);
    const item = ITEM_BYTES[dtype];
    const bytes = storage.size * ITEM_BYTES[storage.dtype];
    if (!Number.isSafeInteger(last) || (last + 1) * item > bytes)
      throw malformed(this.name, undefined, `a tensor within its storage of ${bytes / item} elements`, shown, DAMAGED);
    if (count > Math.max(bytes / item, MAX_EXPANDED))
      throw malformed(
        this.name,
        undefined,
        `at most ${MAX_EXPANDED} elements of a view that repeats its storage`,
        shown,
        "Save a clone() of it.",
      );
    return new TorchTensor(storage, dtype, (offset as number) * item, sizes, steps, this.name);
  }
}

const NOT_TORCH = "Is this a PyTorch checkpoint?";
const TYPES = "Convert it in PyTorch: real and integer types are read here.";

function elementsOf(type: unknown): DType | undefined {
  const match = /^torch\.(?:cuda\.|storage\.)?(\w+)Storage$/.exec(type instanceof PickledName ? type.name : "");
  const element = match?.[1];
  return element !== undefined && Object.hasOwn(ELEMENTS, element) ? ELEMENTS[element] : undefined;
}

function nameOf(type: unknown): string {
  return type instanceof PickledName || type instanceof PickledObject ? type.name.slice(0, 100) : kindOf(type);
}

/** A storage's or a tensor's key: text, or an address that Python wrote as a number. Others are none. */
function keyOf(value: unknown): string {
  return typeof value === "object" ? "" : String(value);
}

function int64(bytes: Uint8Array, at: number): number {
  return Number(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigInt64(at, true));
}

function fail(error: FormatError): never {
  throw error;
}

/** The files of an uncompressed tar archive by path, those that PyTorch wrote. */
async function tarFiles(source: ByteSource, name: string): Promise<Map<string, ByteSource>> {
  const files = new Map<string, ByteSource>();
  for (let at = 0; at + 512 <= source.size; ) {
    const block = await source.read(at, at + 512);
    // Two empty blocks are the end.
    if (block.every((byte) => byte === 0)) return files;
    const field = (from: number, length: number) => new TextDecoder().decode(block.subarray(from, from + length)).replace(/\0.*$/s, "");
    const sum = block.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    const stated = Number.parseInt(field(148, 8), 8);
    if (stated !== sum) throw malformed(name, at, `a tar header whose bytes add up to ${stated}`, String(sum), DAMAGED);
    const digits = field(124, 12).trim();
    const size = /^[0-7]{1,11}$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
    if (!(at + 512 + size <= source.size))
      throw malformed(name, at, "a file of the archive within it", `size ${JSON.stringify(digits)}`, DAMAGED);
    const path = field(0, 100).replace(/^\.\//, "");
    // Types other than a plain file (folders, extended headers) hold nothing of ours.
    if (["0", ""].includes(field(156, 1)) && !files.has(path)) files.set(path, partOf(source, at + 512, size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  throw malformed(name, source.size, "the end of the tar archive, a block of zeros", "the file's end", DAMAGED);
}
