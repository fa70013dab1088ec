/** Every reader of files that spikeloom has, with right files to begin from. A new reader gets an entry here. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32, deflateRawSync } from "node:zlib";
import { data, formats, init, nn, npy, npz, optim, SpikeloomError, safetensors, type Tensor, train } from "spikeloom";
import { parseRecipe, recipeToYaml } from "../../packages/node/src/recipe.ts";
import { RunFolder } from "../../packages/node/src/run-folder.ts";
import { readFixture } from "../parity/fixture.ts";
import type { Reader } from "./harness.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const f32 = formats.ndArray("f32", [2, 3], Float32Array.of(1, 2, 3, 4, 5, 6));
const f16 = formats.ndArray("f16", [3], Float32Array.of(1, 2, 3));
const i64 = formats.ndArray("i64", [], BigInt64Array.of(7n));
const bool = formats.ndArray("bool", [4], Uint8Array.of(0, 1, 1, 0));

const safetensorsReader: Reader = {
  name: "safetensors",
  seeds: () => [
    safetensors.encode(new Map(Object.entries({ "a.weight": f32, half: f16, count: i64, mask: bool })), { format: "pt", note: "é" }),
    safetensors.encode(new Map([["x", f32]])),
  ],
  read: safetensors.decode,
  memory: 64,
  words: ['"dtype":"F64"', '"shape":[1099511627776]', '"data_offsets":[0,1099511627776]', '"__metadata__":{', "BF16", "I8"],
};

/** A .npy file with another header than ours: Fortran order, big-endian, version 2. */
function fortran(): Uint8Array {
  const header = "{'fortran_order': True, 'shape': (2L, 3), 'descr': '>i2'}\n";
  return Uint8Array.from([0x93, ...bytesOf("NUMPY"), 2, 0, header.length, 0, 0, 0, ...bytesOf(header), 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6]);
}

const npyReader: Reader = {
  name: "npy",
  seeds: () => [npy.encode(f32), npy.encode(i64), npy.encode(bool), fortran()],
  read: npy.decode,
  memory: 64,
  words: ["(1099511627776,)", "(4294967296, 4294967296)", "'<f8'", "True", "False", "'descr': ", "(0,)", "'|O'"],
};

/** An archive of one deflated entry. */
function deflated(path: string, content: Uint8Array): Uint8Array {
  const packed = deflateRawSync(content);
  const stored = formats.writeZip(new Map([[path, packed]]));
  const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
  const directory = view.getUint32(stored.length - 6, true);
  for (const [at, crcAt] of [
    [8, 14],
    [directory + 10, directory + 16],
  ] as const) {
    view.setUint16(at, 8, true);
    view.setUint32(crcAt, crc32(content), true);
    view.setUint32(crcAt + 8, content.length, true);
  }
  return stored;
}

/** The same archive with the end records of zip64. */
function zip64(archive: Uint8Array): Uint8Array {
  const end = archive.length - 22;
  const old = new DataView(archive.buffer, archive.byteOffset + end, 22);
  const out = new Uint8Array(archive.length + 76);
  out.set(archive.subarray(0, end));
  out.set(archive.subarray(end), end + 76);
  const view = new DataView(out.buffer);
  const at = (offset: number, value: number) => view.setBigUint64(end + offset, BigInt(value), true);
  view.setUint32(end, 0x06064b50, true);
  at(4, 44);
  at(24, old.getUint16(10, true));
  at(32, old.getUint16(10, true));
  at(40, old.getUint32(12, true));
  at(48, old.getUint32(16, true));
  view.setUint32(end + 56, 0x07064b50, true);
  at(64, end);
  view.setUint32(end + 72, 1, true);
  out.fill(0xff, end + 76 + 10, end + 76 + 20);
  return out;
}

const npzReader: Reader = {
  name: "npz",
  seeds: async () => [
    await npz.encode(
      new Map([
        ["a", f32],
        ["b", bool],
      ]),
    ),
    deflated("a.npy", npy.encode(f32)),
    zip64(formats.writeZip(new Map([["a.npy", npy.encode(f32)]]))),
    // What a bomb begins as: a thousand times smaller than what is inside.
    deflated("zeros.npy", npy.encode(formats.ndArray("u8", [300_000], new Uint8Array(300_000)))),
  ],
  read: (bytes, name) => npz.decode(bytes, { name }),
  // Deflate packs 1032 to 1 at best; what is unpacked may be copied once.
  memory: 2 * 1032 + 64,
  words: ["PK\u0001\u0002", "PK\u0003\u0004", "PK\u0005\u0006", "PK\u0006\u0006", "a.npy"],
};

/** An IDX file of bytes. */
function idx(shape: readonly number[], elements: Uint8Array, type = 8): Uint8Array {
  const out = new Uint8Array(4 + 4 * shape.length + elements.length);
  out.set([0, 0, type, shape.length]);
  const view = new DataView(out.buffer);
  for (const [i, n] of shape.entries()) view.setUint32(4 + 4 * i, n);
  out.set(elements, 4 + 4 * shape.length);
  return out;
}

const idxReader: Reader = {
  name: "idx",
  seeds: () => [idx([2, 3, 3], new Uint8Array(18).fill(9)), idx([2, 2], new Uint8Array(16), 13), idx([3], Uint8Array.of(1, 2, 3))],
  read: data.readIdx,
  memory: 16,
};

const idxPair: Reader = {
  name: "a data set's labels",
  seeds: () => [idx([2], Uint8Array.of(3, 9))],
  read: (bytes, labels) => data.datasetFromIdx(idx([2, 2, 2], new Uint8Array(8)), bytes, { images: "images", labels }),
  memory: 64,
};

const cifar: Reader = {
  name: "CIFAR",
  seeds: () => [Uint8Array.from({ length: 2 * 3073 }, (_, i) => (i % 3073 ? i : 3))],
  read: (bytes, name) => data.datasetFromCifar("cifar10", [{ name, bytes }]),
  memory: 16,
  // Half of a file of two images is a file of one.
  prefixes: true,
};

const SENSOR = { width: 128, height: 128 };

const aedat2: Reader = {
  name: "AEDAT 2",
  seeds: () => [Uint8Array.from([...bytesOf("#!AER-DAT2.0\r\n# made by hand\r\n"), ...Array.from({ length: 32 }, (_, i) => 5 * i)])],
  read: data.events.readCifar10Dvs,
  memory: 64,
  words: ["#!AER-DAT2.0\r\n", "#!AER-DAT3.1\r\n", "#"],
  prefixes: true,
};

const nMnistReader: Reader = {
  name: "N-MNIST",
  seeds: () => [
    Uint8Array.from({ length: 60 }, (_, i) => (i * 37) % (i % 5 < 2 ? 34 : 256)),
    Uint8Array.of(1, 240, 0, 0, 0, 3, 4, 128, 0, 9),
  ],
  read: (bytes, name) => data.events.readNMnist(bytes, undefined, name),
  memory: 64,
  prefixes: true,
};

/** A packet of events of AEDAT 3.1, one after the other in time. */
function packet(events: number, type = 1, overflow = 0): Uint8Array {
  const out = new Uint8Array(28 + 8 * events);
  const view = new DataView(out.buffer);
  view.setUint16(0, type, true);
  [8, 4, overflow, events, events, events].forEach((value, i) => view.setUint32(4 + 4 * i, value, true));
  for (let i = 0; i < events; i++) {
    view.setUint32(28 + 8 * i, ((7 * i) << 17) | (i << 2) | 3, true);
    view.setUint32(32 + 8 * i, 1000 * i, true);
  }
  return out;
}

const aedat3: Reader = {
  name: "AEDAT 3",
  seeds: () => [
    Uint8Array.from([...bytesOf("#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"), ...packet(3), ...packet(2, 0), ...packet(4, 1, 1)]),
  ],
  read(bytes, name) {
    data.events.findAedat3(bytes, [{ start: 0, end: 2000 }], name);
    return data.events.readAedat3(bytes, SENSOR, name);
  },
  memory: 64,
  words: ["#!END-HEADER\r\n", "#!AER-DAT2.0\r\n"],
  prefixes: true,
};

const eventNpz: Reader = {
  name: "events npz",
  seeds: async () => {
    const whole = (values: number[]) => formats.ndArray("i64", [values.length], BigInt64Array.from(values, BigInt));
    const events = {
      t: whole([1, 5, 9]),
      x: whole([0, 1, 127]),
      y: whole([3, 2, 1]),
      p: formats.ndArray("bool", [3], Uint8Array.of(1, 0, 1)),
    };
    const frames = formats.ndArray("f32", [1, 2, 2, 2], new Float32Array(8));
    return [await npz.encode(new Map(Object.entries(events))), await npz.encode(new Map([["frames", frames]]))];
  },
  read: (bytes, name) => data.events.readEventNpz(bytes, SENSOR, name),
  memory: 2 * 1032 + 64,
  words: ["t.npy", "frames.npy", "<i8", "<f4", "|b1"],
};

const eventNpy: Reader = {
  name: "events npy",
  seeds: () => [
    npy.encode(formats.ndArray("i32", [3, 4], Int32Array.of(1, 0, 3, 1, 5, 1, 2, 0, 9, 127, 1, 1))),
    npy.encode(formats.ndArray("f64", [1, 4], Float64Array.of(7, 3, 4, 1))),
  ],
  read: (bytes, name) => data.events.readEventNpy(bytes, SENSOR, name),
  memory: 64,
  words: ["<i4", "<f8", "(3, 4)", "fortran_order': True"],
};

const harDvs: Reader = {
  name: "HAR-DVS list",
  seeds: () => [bytesOf("action_001/a 25 0\naction_300/b 31 299\r\n")],
  read: data.events.readHarDvsList,
  memory: 1024,
  words: ["../", " 1 ", "\r\n"],
  prefixes: true,
};

const gestures: Reader = {
  name: "gesture labels",
  seeds: () => [bytesOf("class,startTime_usec,endTime_usec\n1,80048239,85092709\n11,89431170,95231007\r\n")],
  read: data.events.readGestureLabels,
  memory: 1024,
  words: [",", "12,1,2\n", "1,2,1\n"],
  prefixes: true,
};

const trials: Reader = {
  name: "gesture trials",
  seeds: () => [bytesOf("user01_fluorescent.aedat\nuser01_lab.aedat\n\n")],
  read: data.events.readGestureTrials,
  memory: 1024,
  words: ["../", ".aedat", "\r\n"],
  prefixes: true,
};

const RECIPE = `name: tiny
model: { name: sdt-v1/cifar10-2-256, config: { T: 2, imageSize: [28, 28] } }
data:
  name: mnist
  dir: &where ./data
  augment: { shift: 1, flip: 0.5, mix: { mixup: 0.2, offEpoch: 3 } }
train:
  epochs: 3 # few
  optimizer: { name: adamw, lr: 1e-3, betas: [0.9, 0.999] }
  schedule: { name: cosine, warmupEpochs: 0.2 }
  loss: { tet: { lambda: 0.05 } }
saveEvery: 30s
out: *where
`;

const recipeReader: Reader = {
  name: "recipe",
  seeds: () =>
    [RECIPE, recipeToYaml(parseRecipe(RECIPE, "tiny.yml")), "model: {name: a}\r\ndata: {name: b}\r\ntrain: {epochs: 1}\r\n"].map(bytesOf),
  read: (bytes, name) =>
    parseRecipe(textOf(bytes), name, [], { models: () => ["sdt-v1/cifar10-2-256", "a"], datasets: () => ["mnist", "b"] }),
  // A document of YAML is a tree of a node for each bracket.
  memory: 4096,
  words: [
    "&a ",
    "*a",
    "<<: ",
    "? ",
    "- ",
    "!!binary ",
    "!!set ",
    "|\n",
    ">-\n",
    "%YAML 1.1\n",
    "---\n",
    "...\n",
    "\t",
    "!<x> ",
    "constructor",
    "toString",
  ],
  prefixes: true,
};

const overrides: Reader = {
  name: "--set",
  seeds: () => ["train.optimizer.lr=0.001", "data.augment={ shift: 2 }", "model.config.imageSize=[28, 28]"].map(bytesOf),
  // The message names what was given, and the file where the result is wrong.
  read(bytes, name) {
    try {
      return parseRecipe(RECIPE, name, [textOf(bytes)]);
    } catch (error) {
      throw error instanceof SpikeloomError && error.message.startsWith("--set") ? new SpikeloomError(`${name}: ${error.message}`) : error;
    }
  },
  memory: 4096,
  words: ["=", ".", "&a ", "*a", "<<: ", "__proto__.", "constructor.", "train", "model"],
  prefixes: true,
};

class Net extends nn.Module {
  bn = new nn.BatchNorm2d(1);
  fc = new nn.Linear(4, 2);
  forward(x: Tensor): Tensor {
    return this.fc.forward(nn.flatten(this.bn.forward(x), 1));
  }
}

/** A trainer that has made a step, so that its checkpoint has everything. It is restored again and again. */
async function trained() {
  await init({ device: "wasm", threads: 1, seed: 3 });
  const model = new Net();
  const dataset = new data.ArrayDataset({
    images: Uint8Array.from({ length: 32 }, (_, i) => 7 * i),
    shape: [8, 2, 2, 1],
    labels: Int32Array.of(0, 1, 0, 1, 0, 1, 0, 1),
  });
  const t = new train.Trainer({
    model,
    loader: new data.Loader(dataset, { batchSize: 2, shuffle: true }),
    optimizer: new optim.AdamW(model.parameters(), { lr: 0.01 }),
    schedule: { name: "constant", lr: 0.01 } as optim.Schedule,
    epochs: 2,
    accumulate: 3,
  });
  for await (const event of t.run()) if (event.type === "step") break;
  return t;
}
let standing: ReturnType<typeof trained> | undefined;

const checkpointReader: Reader = {
  name: "checkpoint",
  async seeds() {
    standing ??= trained();
    return [(await standing).checkpoint()];
  },
  read: async (bytes, name) => (await (standing as NonNullable<typeof standing>)).restore(bytes, name),
  memory: 64,
  words: ['"dtype":"F64"', "model.", "optimizer.", "gradient.", "exp_avg", "spikeloom"],
  sealed: true,
};

/** A checkpoint whose state was written by somebody who knows how to make the checksum. */
const forgedCheckpoint: Reader = {
  name: "checkpoint with a right checksum",
  async seeds() {
    standing ??= trained();
    return [bytesOf(safetensors.decode((await standing).checkpoint()).metadata.spikeloom as string)];
  },
  async read(bytes, name) {
    const t = await (standing as NonNullable<typeof standing>);
    const { tensors } = safetensors.decode(t.checkpoint());
    const state = textOf(bytes);
    const list = [...tensors].map(([key, { dtype, shape, data }]) => `${key} ${dtype} ${shape.join()} ${crc32(data)}`).sort();
    const checksum = crc32([...list, state].join("\n"))
      .toString(16)
      .padStart(8, "0");
    return t.restore(safetensors.encode(tensors, { spikeloom: state, checksum }), name);
  },
  memory: 1024,
  words: ["null", "true", '"step":', '"loader":', '"rng":', '"streams":{', "{}", "[]", "1.5"],
};

const weights: Reader = {
  name: "weights",
  async seeds() {
    standing ??= trained();
    return [safetensors.encode((await standing).options.model.stateDict())];
  },
  async read(bytes, name) {
    const { model } = (await (standing as NonNullable<typeof standing>)).options;
    const { tensors } = safetensors.decode(bytes, name);
    try {
      return model.loadStateDict(tensors as Parameters<nn.Module["loadStateDict"]>[0]);
    } catch (error) {
      throw error instanceof SpikeloomError ? new SpikeloomError(`${name}: ${error.message}`) : error;
    }
  },
  memory: 256,
};

/** A folder of a run with one file in it, for as long as it is read. */
function inFolder<R>(file: string, bytes: Uint8Array, read: (folder: RunFolder) => R): R {
  folder ??= mkdtempSync(join(tmpdir(), "some-file.bin-"));
  writeFileSync(join(folder, file), bytes);
  return read(new RunFolder(folder));
}
let folder: string | undefined;

/** Remove what readers put on the disk. */
export function cleanUp(): void {
  if (folder) rmSync(folder, { recursive: true, force: true });
  folder = undefined;
}

const LOG = [
  { type: "step", epoch: 0, batch: 1, batches: 2, step: 1, loss: 2.3, accuracy: 0.1, lr: 0.001, images: 32, seconds: 0.2, firingRate: 0.1 },
  { type: "step", epoch: 0, batch: 2, batches: 2, step: 2, loss: 2.2, accuracy: 0.2, lr: 0.001, images: 32, seconds: 0.2 },
  { type: "epoch", epoch: 0, epochs: 1, step: 2, loss: 2.25, accuracy: 0.15, firingRate: null, lr: 0.001, seconds: 0.4, testAccuracy: 0.3 },
];

const logReader: Reader = {
  name: "metrics.jsonl",
  seeds: () => [bytesOf(LOG.map((event) => `${JSON.stringify(event)}\n`).join(""))],
  read: (bytes) =>
    inFolder("metrics.jsonl", bytes, (run) => {
      const events = run.events();
      for (const { type, epoch, step } of events)
        if (typeof type !== "string" || typeof epoch !== "number" || typeof step !== "number") throw new Error("what is no event");
      return events;
    }),
  memory: 1024,
  words: ["null", "[]", "{}", '"type":"epoch"', '"epoch":', "true"],
  prefixes: true,
  lenient: true,
};

const fixtureReader: Reader = {
  name: "parity fixture",
  seeds: () => [
    bytesOf(
      JSON.stringify({ system: "sdt-v1", kind: "model", config: { T: 4 }, mode: "eval", fill: { gain: 2 }, inputs: { x: { shape: [2] } } }),
    ),
  ],
  read: (bytes) => inFolder("fixture.json", bytes, (run) => readFixture(join(run.path, "fixture.json"))),
  memory: 1024,
  words: ["null", "[]", "{}"],
};

/** A file that PyTorch wrote; how it was made: packages/core/test/fixtures/pytorch/make.py. */
const written = (name: string) =>
  new Uint8Array(readFileSync(new URL(`../../packages/core/test/fixtures/pytorch/${name}`, import.meta.url)));

const torch: Omit<Reader, "name" | "seeds"> = {
  // Opened, and every tensor of it read.
  read: (bytes, name) => formats.weights.load(bytes, { name }),
  // Entries may be deflated; an instruction of one byte makes a dictionary.
  memory: 2 * 1032 + 1024,
  words: [
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch\nFloatStorage\n",
    "cos\nsystem\n",
    "(Vtouch x\ntR",
    "ccollections\nOrderedDict\n",
    "}q\u0001",
    "]q\u0001",
    "h\u0001",
    "tq\u0002Q",
    "R",
    "b",
    "2",
    "PK\u0001\u0002",
  ],
};

/** A state dict alone, all in its pickle but for the values: an archive whose checksums are not looked at, so that changes reach the pickle. */
const unchecked: Reader = {
  ...torch,
  name: "PyTorch, zip",
  seeds: () => [written("unchecked.pt")],
};

const torchZip: Reader = { ...torch, name: "PyTorch, zip of a training", seeds: () => ["training.pth", "module.pt"].map(written) };
const torchStream: Reader = { ...torch, name: "PyTorch, stream", seeds: () => ["types-stream.pt", "module-stream.pt"].map(written) };
// An archive of tar ends with as many empty blocks as one likes.
const torchTar: Reader = { ...torch, name: "PyTorch, tar", seeds: () => [written("old.tar.pth").slice(0, 6144)], prefixes: true };

/** The pickle alone, in the archive that was around it. */
const torchPickle: Reader = {
  ...torch,
  name: "PyTorch, pickle",
  seeds: async () => [(await formats.readZip(written("types-zip.pt"))).get("types-zip/data.pkl") as Uint8Array],
  async read(bytes, name) {
    const files = await formats.readZip(written("types-zip.pt"));
    return formats.weights.load(formats.writeZip(files.set("types-zip/data.pkl", bytes)), { name });
  },
};

export const READERS: readonly Reader[] = [
  unchecked,
  torchZip,
  torchStream,
  torchTar,
  torchPickle,
  safetensorsReader,
  npyReader,
  npzReader,
  idxReader,
  idxPair,
  cifar,
  aedat2,
  nMnistReader,
  aedat3,
  eventNpz,
  eventNpy,
  harDvs,
  gestures,
  trials,
  recipeReader,
  overrides,
  checkpointReader,
  forgedCheckpoint,
  weights,
  logReader,
  fixtureReader,
];
