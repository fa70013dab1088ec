/**
 * Checkpoints that PyTorch 2.15 wrote (test/fixtures/pytorch/make.py made them; the tar archive is by hand, as no PyTorch writes it any
 * more, and was read by PyTorch), and such as nobody should write.
 */
import { readFileSync } from "node:fs";
import { crc32 as zlibCrc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { DType, NdArray } from "../../src/formats/array.ts";
import { tensorDicts } from "../../src/formats/dictionaries.ts";
import { PickledObject, unpickle } from "../../src/formats/pickle.ts";
import * as pytorch from "../../src/formats/pytorch.ts";
import type { ByteSource } from "../../src/formats/source.ts";
import * as weights from "../../src/formats/weights.ts";
import { readZip, writeZip } from "../../src/formats/zip.ts";
import { FormatError, SpikeloomError } from "../../src/runtime/error.ts";
import {
  archive,
  BUILD,
  type Code,
  call,
  dict,
  floats,
  get,
  global,
  int,
  list,
  MARK,
  object,
  pickle,
  put,
  REDUCE,
  storage,
  str,
  stream,
  tar,
  tensor,
  tuple,
  u64,
} from "./pickled.ts";

const file = (name: string) => new Uint8Array(readFileSync(new URL(`../fixtures/pytorch/${name}`, import.meta.url)));

/** Everything in a file, as plain values. */
async function contents(tensors: ReadonlyMap<string, { read(): Promise<NdArray> }>) {
  const out: Record<string, { dtype: DType; shape: readonly number[]; values: number[] }> = {};
  for (const [key, tensor] of tensors) {
    const { dtype, shape, data } = await tensor.read();
    out[key] = { dtype, shape, values: Array.from(data as ArrayLike<number | bigint>, Number) };
  }
  return out;
}

const ramp = (n: number, from = 0) => Array.from({ length: n }, (_, i) => from + i);
const net = (more = 0) => ({
  scale: { dtype: "f32", shape: [1], values: [more] },
  "conv.weight": { dtype: "f32", shape: [2, 1, 3, 3], values: ramp(18, more) },
  "bn.weight": { dtype: "f32", shape: [2], values: ramp(2, more) },
  "bn.bias": { dtype: "f32", shape: [2], values: ramp(2, more) },
  "bn.running_mean": { dtype: "f32", shape: [2], values: ramp(2, more) },
  "bn.running_var": { dtype: "f32", shape: [2], values: ramp(2, more) },
  "bn.num_batches_tracked": { dtype: "i64", shape: [], values: [0] },
  "head.weight": { dtype: "f32", shape: [3, 2], values: ramp(6, more) },
});

describe("files that PyTorch wrote", () => {
  const signed: DType[] = ["f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8"];
  const every = {
    ...Object.fromEntries(signed.map((dtype) => [dtype, { dtype, shape: [2, 3], values: ramp(6, -3) }])),
    u8: { dtype: "u8", shape: [2, 3], values: ramp(6) },
    bool: { dtype: "bool", shape: [2, 3], values: [0, 1, 0, 1, 0, 1] },
    scalar: { dtype: "i64", shape: [], values: [7] },
    none: { dtype: "f32", shape: [0, 3], values: [] },
    whole: { dtype: "f32", shape: [4, 6], values: ramp(24) },
    transposed: { dtype: "f32", shape: [6, 4], values: ramp(24).map((i) => 6 * (i % 4) + Math.floor(i / 4)) },
    row: { dtype: "f32", shape: [6], values: ramp(6, 12) },
    column: { dtype: "f32", shape: [4], values: [1, 7, 13, 19] },
    strided: { dtype: "f32", shape: [2, 3], values: [1, 3, 5, 13, 15, 17] },
    expanded: { dtype: "f32", shape: [4, 3], values: [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2] },
    parameter: { dtype: "f32", shape: [2, 6], values: ramp(12, 6) },
  };

  test.each([
    ["types-zip.pt", "PyTorch, zip", every],
    ["types-stream.pt", "PyTorch, before 1.6", every],
    ["types-proto4.pt", "PyTorch, zip", { ...every, u16: { dtype: "u16", shape: [2], values: [0, 1] } }],
    ["unchecked.pt", "PyTorch, zip", { w: { dtype: "f32", shape: [2, 2], values: ramp(4) } }],
    [
      "old.tar.pth",
      "PyTorch, before 0.4 (tar)",
      {
        "conv.weight": { dtype: "f32", shape: [2, 3], values: ramp(6) },
        "fc.weight": { dtype: "f32", shape: [2, 2], values: [6, 8, 7, 9] },
        steps: { dtype: "i64", shape: [2], values: [5, -6] },
      },
    ],
  ])("%s: types, views, shared storages", async (name, format, expected) => {
    const found = await weights.open(file(name), { name });
    expect(found).toMatchObject({ format, key: "", keys: [""], notes: [] });
    expect(await contents(found.tensors)).toEqual(expected);
  });

  test("a training's: the model by itself, averages and the rest when asked for, DataParallel's prefix taken off", async () => {
    const found = await weights.open(file("training.pth"));
    expect(found).toMatchObject({ key: "model", keys: ["model", "model_ema"] });
    expect(found.notes).toEqual([
      'took "model"; there is also model_ema',
      "the file names what is not loaded, and nothing of it was run: argparse.Namespace",
      'took the prefix "module." off every key, which a wrapper of the module had put there',
    ]);
    expect(await contents(found.tensors)).toEqual(net());
    const averaged = await weights.open(file("training.pth"), { key: "model_ema" });
    const { "bn.num_batches_tracked": counter, ...floating } = net(1);
    expect(await contents(averaged.tensors)).toEqual({ ...floating, "bn.num_batches_tracked": counter });
    await expect(weights.open(file("training.pth"), { name: "t.pth", key: "model_em" })).rejects.toThrow(
      't.pth: there is no dictionary of tensors "model_em", did you mean "model_ema"? ("model", "model_ema")',
    );
    const { value } = await pytorch.open(file("training.pth"));
    const args = (value as Map<string, PickledObject>).get("args") as PickledObject;
    expect([args.name, Object.fromEntries(args.state as Map<string, unknown>)]).toEqual([
      "argparse.Namespace",
      { lr: 0.001, model: "net", resume: null },
    ]);
    expect((value as Map<string, unknown>).get("epoch")).toBe(7);
  });

  test.each(["module.pt", "module-stream.pt"])(
    "%s: a module pickled whole gives its state dict, without buffers that do not persist",
    async (name) => {
      const found = await weights.open(file(name));
      expect(await contents(found.tensors)).toEqual(net());
      expect(found.notes.join()).toContain("a whole module was saved");
    },
  );

  test("big-endian archives", async () => {
    const files = await readZip(file("types-zip.pt"));
    const size: Record<string, number> = {};
    const { tensors } = await weights.open(file("types-zip.pt"));
    const order = [...tensors.keys()];
    // Storages are numbered in the order in which the pickle meets them; views share the one of `whole`.
    const owners = order.slice(0, order.indexOf("transposed")).concat("expanded");
    const bytes: Record<string, number> = { f64: 8, i64: 8, f32: 4, i32: 4, f16: 2, bf16: 2, i16: 2 };
    for (const [i, key] of owners.entries()) size[`types-zip/data/${i}`] = bytes[tensors.get(key)?.dtype as string] ?? 1;
    for (const [path, content] of files) {
      const item = size[path];
      if (item === undefined) continue;
      const turned = content.slice();
      for (let i = 0; i < turned.length; i += item) turned.subarray(i, i + item).reverse();
      files.set(path, turned);
    }
    files.set("types-zip/byteorder", new TextEncoder().encode("big"));
    expect(await contents((await weights.open(writeZip(files))).tensors)).toEqual(every);
  });

  test("a source is read where it must be: the directory and the pickle, then each tensor that is asked for", async () => {
    const bytes = file("types-zip.pt");
    const reads: [number, number][] = [];
    const source: ByteSource = {
      size: bytes.length,
      read: async (begin, end) => {
        expect(begin >= 0 && begin <= end && end <= bytes.length).toBe(true);
        reads.push([begin, end]);
        return bytes.slice(begin, end);
      },
    };
    const { tensors } = await weights.open(source);
    const zip = await readZip(bytes);
    const place = Buffer.from(bytes).indexOf(Buffer.from(zip.get("types-zip/data/12") as Uint8Array));
    const touches = () => reads.filter(([begin, end]) => begin < place + 96 && end > place && end - begin < 1000).length;
    expect(zip.get("types-zip/data/12")?.length).toBe(96);
    expect(touches()).toBe(0);
    expect(Array.from((await tensors.get("whole")!.read()).data as Float32Array)).toEqual(ramp(24));
    expect(touches()).toBe(1);
    const blob = new Blob([bytes]);
    expect(await contents((await weights.open(blob)).tensors)).toEqual(every);
  });

  test("weights.load gives what loadStateDict takes", async () => {
    const state = await weights.load(file("module.pt"));
    expect(state.get("head.weight")).toEqual({ dtype: "f32", shape: [3, 2], data: Float32Array.from(ramp(6)) });
  });
});

test("a view of a view, in an archive from before 0.4", async () => {
  const number = (n: number) => pickle([0x4b, n]);
  const parts: Record<string, Uint8Array[]> = {
    storages: [
      number(1),
      pickle(tuple(str("0"), str("cpu"), global("torch", "FloatStorage"))),
      Uint8Array.from(u64(4)),
      floats(1, 2, 3, 4),
      pickle(list(tuple(str("1"), str("0"), int(1), int(3)), tuple(str("2"), str("1"), int(1), int(2)))),
    ],
    tensors: [
      number(1),
      pickle(tuple(str("9"), str("2"), global("torch", "FloatTensor"))),
      Uint8Array.from([1, 0, 0, 0, 0, 0, 0, 0, ...u64(2), ...u64(1), ...u64(0)]),
    ],
    pickle: [pickle(dict([[str("w"), [...str("9"), 0x51]]]))],
  };
  const { tensors } = await weights.open(tar(parts));
  expect([...((await tensors.get("w")?.read())?.data ?? [])]).toEqual([3, 4]);
});

test("damaged values of a storage are seen, whether a tensor takes all of it or a part", async () => {
  const bytes = file("types-zip.pt");
  const at = Buffer.from(bytes).indexOf(Buffer.from(floats(...ramp(24)).buffer));
  bytes[at + 50]! ^= 1;
  const { tensors } = await weights.open(bytes, { name: "x.pt" });
  for (const key of ["row", "whole", "transposed"]) await expect(tensors.get(key)!.read()).rejects.toThrow("x.pt, byte");
  await expect(tensors.get("whole")!.read()).rejects.toThrow("CRC-32");
  expect((await tensors.get("f32")!.read()).shape).toEqual([2, 3]);
});

describe("what is hostile", () => {
  const one = floats(1, 2, 3, 4);
  const good = tensor(storage("Float", "0", 4), 0, [4], [1]);

  test("nothing that a pickle calls is run: it is a record of a name", async () => {
    const code = dict([
      [str("w"), good],
      [str("x"), call("posix", "system", str("touch /tmp/owned"))],
      [str("y"), [...call("builtins", "getattr", global("os", "environ"), str("get")), ...tuple(str("HOME")), ...REDUCE]],
      [str("__proto__"), object("builtins", "type", dict([[str("constructor"), str("polluted")]]))],
    ]);
    const bytes = archive(pickle(code), { 0: one });
    const { value, foreign } = await pytorch.open(bytes);
    const made = value as Map<string, PickledObject>;
    expect([...made.keys()]).toEqual(["w", "x", "y", "__proto__"]);
    expect([made.get("x")?.name, made.get("x")?.args]).toEqual(["posix.system", ["touch /tmp/owned"]]);
    expect(made.get("y")?.name).toBe("builtins.getattr()");
    expect(foreign).toEqual(["builtins.getattr", "builtins.type", "posix.system"]);
    expect(({} as Record<string, unknown>).constructor).toBe(Object);
    // It is no dictionary of tensors, for most of it is none.
    await expect(weights.open(bytes, { name: "evil.pt" })).rejects.toThrow("evil.pt: expected a dictionary of tensors");
  });

  test("values that hold themselves, and that double at each step, are looked at once", async () => {
    // d = {"self": d, "list": [d, l], "w": tensor, ...}
    const cyclic = [0x7d, ...put(0), ...MARK, ...str("self"), ...get(0), ...str("w"), ...good, ...str("v"), ...good, 0x75];
    expect([...(await weights.open(archive(pickle(cyclic), { 0: one }))).tensors.keys()]).toEqual(["w", "v"]);
    let lists: number[] = [...list(str("a"))];
    for (let i = 0; i < 200; i++) lists = [...lists, ...put(i), ...get(i), 0x86];
    const found = await weights.open(
      archive(
        pickle(
          dict([
            [str("a"), lists],
            [str("w"), good],
            [str("v"), good],
          ]),
        ),
        { 0: one },
      ),
    );
    expect([...found.tensors.keys()]).toEqual(["w", "v"]);
    // A module that is its own child, and forty that each hold the next twice.
    const empty = dict([]);
    const module = (children: readonly [readonly number[], readonly number[]][]) =>
      object(
        "a",
        "Module",
        dict([
          [str("_parameters"), dict([[str("w"), good]])],
          [str("_buffers"), empty],
          [str("_modules"), dict(children)],
        ]),
      );
    const own = [
      ...global("a", "Module"),
      0x29,
      0x81,
      ...put(0),
      ...dict([
        [str("_parameters"), dict([[str("w"), good]])],
        [str("_modules"), dict([[str("me"), get(0)]])],
      ]),
      ...BUILD,
    ];
    expect([...(await weights.open(archive(pickle(own), { 0: one }))).tensors.keys()]).toEqual(["w"]);
    let tree: readonly number[] = module([]);
    for (let i = 1; i < 40; i++)
      tree = module([
        [str("a"), [...tree, ...put(i)]],
        [str("b"), get(i)],
      ]);
    const [collected] = tensorDicts((await pytorch.open(archive(pickle(tree), { 0: one }))).value);
    expect(collected?.tensors.size).toBeLessThanOrEqual(2 ** 18);
  }, 20_000);

  test("pickles nested a million deep", async () => {
    const deep = new Uint8Array(2_000_010).fill(0x5d);
    deep.fill(0x61, 1_000_000, 1_999_999);
    deep.set([0x2e], 1_999_999);
    const { value } = unpickle(deep, {}, "deep");
    expect(Array.isArray(value)).toBe(true);
    expect(tensorDicts(value)).toEqual([]);
  });

  const refused: [string, Uint8Array | (() => Uint8Array), string][] = [
    ["empty", new Uint8Array(0), "a file of weights: safetensors, npz, or a PyTorch checkpoint, found an empty file"],
    ["a pickle of something else", pickle(str("a")), "It is a pickle that PyTorch did not write."],
    [
      "a pointer of Git LFS",
      new TextEncoder().encode("version https://git-lfs.github.com/spec/v1\noid"),
      'begins with "version https://git-lfs.github.com/spec/',
    ],
    ["an archive of something else", writeZip(new Map([["a/b.txt", one]])), "one data.pkl in the archive, found none"],
    ["TorchScript", archive(pickle([0x7d]), {}, { "net/constants.pkl": one }), "a saved state dict, found a TorchScript program"],
    ["a storage that is not there", archive(pickle(dict([[str("w"), good]]))), 'storage "0" in the archive, found none'],
    [
      "a storage of another place",
      archive(pickle(dict([[str("w"), tensor(storage("Float", "../../etc/passwd", 4), 0, [4], [1])]])), { 0: one }),
      'storage "../../etc/passwd" in the archive, found none',
    ],
    [
      "a storage smaller than it says",
      archive(pickle(dict([[str("w"), tensor(storage("Float", "0", 2 ** 40), 0, [4], [1])]])), { 0: one }),
      "bytes of storage",
    ],
    [
      "a view beyond its storage",
      archive(pickle(dict([[str("w"), tensor(storage("Float", "0", 4), 1, [4], [1])]])), { 0: one }),
      "a tensor within its storage of 4 elements",
    ],
    [
      "strides beyond its storage",
      archive(pickle(dict([[str("w"), tensor(storage("Float", "0", 4), 0, [2, 2], [2 ** 52, 1])]])), { 0: one }),
      "a tensor within its storage",
    ],
    [
      "negative strides",
      archive(pickle(dict([[str("w"), tensor(storage("Float", "0", 4), 3, [4], [-1])]])), { 0: one }),
      "strides in whole numbers",
    ],
    [
      "a view that repeats without end",
      archive(pickle(dict([[str("w"), tensor(storage("Float", "0", 4), 0, [2 ** 40], [0])]])), { 0: one }),
      "elements of a view that repeats its storage",
    ],
    [
      "more axes than there are",
      archive(pickle(dict([[str("w"), tensor(storage("Float", "0", 4), 0, new Array(65).fill(1), new Array(65).fill(1))]])), { 0: one }),
      "offset, shape and strides",
    ],
    [
      "a shape of text",
      archive(
        pickle(dict([[str("w"), call("torch._utils", "_rebuild_tensor", storage("Float", "0", 4), int(0), str("4"), tuple(int(1)))]])),
        { 0: one },
      ),
      "offset, shape and strides",
    ],
    ["a text longer than the file", archive(pickle([0x8d, ...u64(2 ** 40)])), "bytes more of a pickle"],
    ["a text of 2^63", archive(pickle([0x8d, 0, 0, 0, 0, 0, 0, 0, 0x80])), "a length within the file"],
    ["an integer of a megabyte", archive(pickle([0x8b, 0, 0, 16, 0])), "an integer of at most 1024 bytes"],
    ["a memo that was not filled", archive(pickle(get(3))), "a place in the memo that was filled, found 3"],
    ["an empty stack", archive(pickle(REDUCE)), "a value on the stack, found none"],
    ["a mark as a value", archive(pickle(MARK)), "a value on the stack, found a mark"],
    ["a number that is called", archive(pickle(int(1), tuple(), REDUCE)), "a name to call, found a number"],
    ["protocol 6", archive(Uint8Array.of(0x80, 6, 0x2e)), "protocol 0 to 5, found protocol 6"],
    ["an instruction that is none", archive(pickle([0xff])), "an instruction of a pickle, found byte 255"],
    ["an extension of the registry", archive(pickle([0x82, 1])), "found byte 130"],
    [
      "a byte order that is none",
      archive(pickle(dict([[str("w"), good]])), { 0: one }, { "net/byteorder": new TextEncoder().encode("middle") }),
      'byteorder "little" or "big", found "middle"',
    ],
    ["another magic number", Uint8Array.of(0x80, 2, 0x8a, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 0x2e), "PyTorch's magic number"],
    ["a stream without its storage", stream(pickle(dict([[str("w"), good]])), pickle(list()), []), 'storage "0" in the file, found none'],
    [
      "a stream with a storage of another size",
      stream(pickle(dict([[str("w"), good]])), pickle(list(str("0"))), [u64(2 ** 40)]),
      "of 4 elements, found 1099511627776",
    ],
    [
      "a stream that ends early",
      stream(pickle(dict([[str("w"), good]])), pickle(list(str("0"))), [u64(4), [0, 0, 0]]),
      "16 bytes of storage",
    ],
    [
      "a stream that goes on",
      stream(pickle(dict([[str("w"), good]])), pickle(list(str("0"))), [u64(4), [...one], [1]]),
      "the file's end, found 1 more bytes",
    ],
    [
      "a stream whose keys hold themselves",
      stream(pickle(dict([[str("w"), good]])), pickle([0x5d, ...put(0), ...get(0), 0x61]), []),
      "each storage of the pickle once",
    ],
    [
      "a type that is not read",
      stream(pickle(dict([[str("w"), tensor(storage("ComplexFloat", "0", 4), 0, [4], [1])]])), pickle(list(str("0"))), [u64(4)]),
      "a storage of a known type, found torch.ComplexFloatStorage",
    ],
    ["no tensors", archive(pickle(dict([[str("epoch"), int(3)]]))), "expected a dictionary of tensors"],
  ];
  test.each(refused)("%s", async (_, bytes, message) => {
    const opening = weights.open(bytes as Uint8Array, { name: "x.pt" });
    await expect(opening).rejects.toThrow(SpikeloomError);
    await expect(opening).rejects.toThrow(message);
    await expect(opening).rejects.toThrow("x.pt");
  });

  test("more objects than any checkpoint has", () => {
    const many = new Uint8Array(2 ** 22 + 2).fill(0x29);
    expect(() => unpickle(many, {}, "many")).toThrow("many, byte 4194304: expected at most 4194304 objects, found more");
  });

  const many = 2 ** 20;
  const nones = new Array<number>(many).fill(0x4e);
  const nine = (code: Code) => new Array<Code>(9).fill(code);
  const greedy: [string, Code[]][] = [
    ["a list that grows", [[0x5d], ...nine([...MARK, ...nones, 0x65])]],
    ["lists one after another", nine([...MARK, ...nones, 0x6c, 0x30])],
    // Calls of five bytes, each of which may copy a list.
    [
      "dictionaries of one list",
      [
        [...MARK, ...nones, 0x6c, 0x85, ...put(0), 0x30, ...global("collections", "OrderedDict"), ...put(1)],
        ...nine([...get(1), ...get(0), ...REDUCE]),
      ],
    ],
    [
      "arguments by place and by name",
      [
        [...MARK, ...nones, 0x74, ...put(0), 0x30, ...global("m", "C"), ...put(1), ...dict([[str("k"), int(1)]]), ...put(2)],
        ...nine([...get(1), ...get(0), ...get(2), 0x92]),
      ],
    ],
    ["places in the memo", [[0x4e], new Array<number>(2 * many + 1).fill(0x94)]],
  ];
  test.each(greedy)("few bytes that stand for much memory: %s", (_, parts) => {
    const bytes = Uint8Array.from(parts.flat());
    expect(() => unpickle(bytes, {}, "greedy")).toThrow("expected at most 8388608 entries of lists and dictionaries, found more");
  });

  test("a module whose many parts are met by many names is not looked at for hours", async () => {
    const parts = dict(Array.from({ length: 5000 }, (_, i): [number[], number[]] => [[...str(`p${i}`)], [0x4e]]));
    const module = (children: [number[], number[]][]) =>
      object(
        "a",
        "Module",
        dict([
          [str("_parameters"), get(0)],
          [str("_modules"), dict(children)],
        ]),
      );
    let tree = module([]);
    for (let i = 1; i < 30; i++)
      tree = module([
        [[...str("a")], [...tree, ...put(i)]],
        [[...str("b")], [...get(i)]],
      ]);
    const { value } = await pytorch.open(archive(pickle([...parts, ...put(0), 0x30, ...tree])));
    const started = performance.now();
    expect(tensorDicts(value)).toEqual([{ path: "", tensors: new Map(), others: [], module: "a.Module" }]);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test("many views of one storage, whose sum is far beyond the file", async () => {
    const views = Array.from({ length: 300 }, (_, i): [number[], number[]] => [
      [...str(`w${i}`)],
      [...tensor(i ? get(9) : [...storage("Float", "0", 4), ...put(9)], 0, [2 ** 20], [0])],
    ]);
    const bytes = archive(pickle(dict(views)), { 0: one });
    expect((await weights.open(bytes)).tensors.size).toBe(300);
    await expect(weights.load(bytes, { name: "x.pt" })).rejects.toThrow(
      /x\.pt: expected tensors of at most \d+ bytes in a file of \d+, found 1258291200/,
    );
  });

  test("every beginning of every file that PyTorch wrote", async () => {
    for (const name of ["unchecked.pt", "types-stream.pt", "module-stream.pt"]) {
      const bytes = file(name);
      for (let length = 0; length < bytes.length; length++)
        await expect(weights.open(bytes.subarray(0, length)), `${name}, ${length}`).rejects.toThrow(FormatError);
    }
  });
});

describe("pickles", () => {
  const cases: [string, number[], unknown][] = [
    [
      "protocol 0",
      [...new TextEncoder().encode("(lp0\nI1\naI01\naI00\naL-5L\naF1.5\naS'a\\x41\\n'\naVb\\u00e9\naNa.")],
      [1, true, false, -5, 1.5, "aA\n", "bé", null],
    ],
    [
      "integers",
      [0x28, 0x4b, 255, 0x4d, 0, 1, 0x4a, 255, 255, 255, 255, 0x8a, 0, 0x8a, 1, 0x80, 0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x74, 0x2e],
      [255, 256, -1, 0, -128, 2n ** 64n],
    ],
    ["floats and bytes", [0x28, 0x47, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0x43, 2, 7, 8, 0x6c, 0x2e], [1.5, Uint8Array.of(7, 8)]],
    ["protocol 4", [0x80, 4, 0x95, 7, 0, 0, 0, 0, 0, 0, 0, 0x8c, 1, 97, 0x94, 0x68, 0, 0x86, 0x2e], ["a", "a"]],
    ["sets and marks", [0x8f, 0x28, 0x4b, 1, 0x4b, 2, 0x90, 0x28, 0x31, 0x4e, 0x30, 0x2e], [1, 2]],
    [
      "dictionaries",
      [0x28, 0x4b, 1, 0x4b, 2, 0x64, 0x4b, 3, 0x4e, 0x73, 0x2e],
      new Map([
        [1, 2],
        [3, null],
      ]),
    ],
  ];
  test.each(cases)("%s", (_, code, expected) => {
    expect(unpickle(Uint8Array.from(code), {}, "p")).toEqual({ value: expected, length: code.length });
  });

  test("objects of every way to make them", () => {
    const made = (code: readonly number[]) => unpickle(pickle(code), {}, "p").value as PickledObject;
    const old = [...MARK, ...global("m", "C"), ...int(3), 0x6f];
    expect([made(old).name, made(old).args]).toEqual(["m.C", [3]]);
    const inst = [...MARK, ...int(3), 0x69, ...new TextEncoder().encode("m\nC\n")];
    expect([made(inst).name, made(inst).args]).toEqual(["m.C", [3]]);
    const named = [...global("m", "C"), ...tuple(int(1)), ...dict([[str("k"), int(2)]]), 0x92];
    expect(made(named).args).toEqual([1, new Map([["k", 2]])]);
    const stacked = [...str("m"), ...str("C"), 0x93, 0x29, 0x81];
    expect(made(stacked)).toBeInstanceOf(PickledObject);
    const filled = made([...global("m", "D"), 0x29, 0x81, ...MARK, ...str("a"), ...int(1), 0x75]);
    expect([...filled.items]).toEqual([["a", 1]]);
  });
});

test("the checksum of parts is that of the whole", async () => {
  const { crc32 } = await import("../../src/formats/zip.ts");
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i * 7);
  expect(crc32(bytes.subarray(300), crc32(bytes.subarray(0, 300)))).toBe(zlibCrc32(bytes));
});
