// The loader: order, shapes, draws that depend on epoch and sample alone, resuming, data that arrives late, and who frees the tensors.
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { ArrayDataset, type BatchTransform, type Dataset, firstOf, type Transform } from "../../src/data/dataset.ts";
import { type Batch, Loader, type LoaderOptions, type LoaderState } from "../../src/data/loader.ts";
import { preparer } from "../../src/data/preparer.ts";
import { init, memoryInfo } from "../../src/runtime/engine.ts";
import { SpikeloomError } from "../../src/runtime/error.ts";
import { Rng } from "../../src/runtime/random.ts";

beforeAll(async () => {
  await init({ device: "wasm", threads: 1, seed: 0 });
});

/** N images of 3 x 2 pixels with `channels` channels, each value telling which it is. */
function dataset(n: number, channels = 1): ArrayDataset {
  const size = 6 * channels;
  return new ArrayDataset({
    images: Uint8Array.from({ length: n * size }, (_, i) => i % 256),
    shape: [n, 3, 2, channels],
    labels: Int32Array.from({ length: n }, (_, i) => i % 4),
    classes: 4,
  });
}

/** The same, each sample arriving after a delay of its own. */
function late(set: Dataset, log: { started: number[]; most: number } = { started: [], most: 0 }): Dataset {
  let running = 0;
  return {
    length: set.length,
    classes: set.classes,
    concurrent: true,
    async get(index) {
      log.started.push(index);
      log.most = Math.max(log.most, ++running);
      await new Promise((resolve) => setTimeout(resolve, (index * 7) % 5));
      running--;
      return set.get(index);
    },
  };
}

/** Adds noise that shows which draws a sample was given. */
const noise: Transform = {
  name: "noise",
  apply: ({ data, shape, label }, rng) => ({ data: Float32Array.from(data, (v) => v + rng.uniform()), shape, label }),
};

/** Mixes each image with the one at the other end of the batch. */
const blend: BatchTransform = {
  name: "blend",
  apply(x, targets, _shape, rng) {
    const weight = rng.uniform();
    for (const values of [x, targets]) {
      const reversed = values.slice().reverse();
      values.forEach((v, i) => {
        values[i] = weight * v + (1 - weight) * (reversed[i] as number);
      });
    }
    return true;
  },
};

const plain = ({ x, y, labels, indices }: Batch) => ({
  x: [...x.dataSync()],
  shape: x.shape,
  y: [...y.dataSync()],
  labels: [...labels],
  indices: [...indices],
});
type Plain = ReturnType<typeof plain>;

async function all(loader: Loader): Promise<Plain[]> {
  const out: Plain[] = [];
  for await (const batch of loader) out.push(plain(batch));
  return out;
}

/** The next `n` batches, over the ends of epochs. */
async function take(loader: Loader, n: number): Promise<Plain[]> {
  const out: Plain[] = [];
  while (out.length < n)
    for await (const batch of loader) {
      out.push(plain(batch));
      if (out.length === n) break;
    }
  return out;
}

test("without shuffling: the dataset's order, bytes scaled to 0..1, a smaller last batch", async () => {
  const loader = new Loader(dataset(5), { batchSize: 2 });
  const batches = await all(loader);
  expect(loader.batches).toBe(3);
  expect(batches.map((b) => b.indices)).toEqual([[0, 1], [2, 3], [4]]);
  expect(batches.map((b) => b.y)).toEqual([[0, 1], [2, 3], [0]]);
  expect(batches[2]?.shape).toEqual([1, 3, 2, 1]);
  expect(batches[2]?.x).toEqual([24, 25, 26, 27, 28, 29].map((v) => Math.fround(v / 255)));
  expect(loader.epoch).toBe(1);
});

test("dropLast leaves the small batch out; float images are taken as they are", async () => {
  const floats = new ArrayDataset({ images: Float32Array.of(-1, 2.5, 7), shape: [3, 1, 1, 1], labels: Int32Array.of(0, 1, 2) });
  const batches = await all(new Loader(floats, { batchSize: 2, dropLast: true }));
  expect(batches).toEqual([{ x: [-1, 2.5], shape: [2, 1, 1, 1], y: [0, 1], labels: [0, 1], indices: [0, 1] }]);
  expect(floats.classes).toBe(3);
});

test("frames [T, H, W, C] become batches [T, B, H, W, C]", async () => {
  const frames: Dataset = {
    length: 3,
    classes: 1,
    get: (index) => ({ data: Float32Array.from({ length: 8 }, (_, i) => 100 * index + i), shape: [2, 2, 1, 2], label: 0 }),
  };
  const [first] = await all(new Loader(frames, { batchSize: 3 }));
  expect(first?.shape).toEqual([2, 3, 2, 1, 2]);
  expect(first?.x).toEqual([0, 1, 2, 3, 100, 101, 102, 103, 200, 201, 202, 203, 4, 5, 6, 7, 104, 105, 106, 107, 204, 205, 206, 207]);
});

test("each epoch is another order of all samples; pixels and labels stay together", async () => {
  const set = dataset(20);
  const loader = new Loader(set, { batchSize: 6, shuffle: true, rng: new Rng(3) });
  const orders: number[][] = [];
  for (let epoch = 0; epoch < 3; epoch++) orders.push((await all(loader)).flatMap((b) => b.indices));
  for (const order of orders) expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
  expect(new Set(orders.map(String)).size).toBe(3);
  for (const batch of await all(loader))
    batch.indices.forEach((index, i) => {
      expect(batch.y[i]).toBe(set.labels[index]);
      expect(batch.x[6 * i]).toBe(Math.fround((6 * index) / 255));
    });
});

test("a sample's draws depend on the epoch and the sample, not on its place, the batch size or what came before", async () => {
  const set = dataset(12);
  const values = async (options: Partial<LoaderOptions>, skip = 0) => {
    const loader = new Loader(set, { batchSize: 5, transforms: [noise], rng: new Rng(8), ...options });
    loader.restore({ ...loader.state(), epoch: skip });
    const rows = (await all(loader)).flatMap((b) => b.indices.map((index, i) => [index, b.x.slice(6 * i, 6 * i + 6)] as const));
    return new Map(rows);
  };
  const reference = await values({});
  expect(await values({ batchSize: 1 })).toEqual(reference);
  const sorted = (m: Map<number, number[]>) => new Map([...m].sort(([a], [b]) => a - b));
  expect(sorted(await values({ shuffle: true }))).toEqual(reference);
  const idle: Transform = {
    name: "other",
    apply(sample, rng) {
      rng.next();
      return sample;
    },
  };
  expect(await values({ transforms: [idle, noise] })).toEqual(reference);
  expect(await values({}, 1)).not.toEqual(reference);
  expect(await values({ rng: new Rng(9) })).not.toEqual(reference);
});

describe("data that arrives late", () => {
  test("is asked for ahead, and gives the same bits as data in memory", async () => {
    const options = () => ({ batchSize: 4, shuffle: true, transforms: [noise], rng: new Rng(4) });
    const log = { started: [] as number[], most: 0 };
    const loader = new Loader(late(dataset(22), log), { ...options(), prefetch: 2 });
    const expected = await all(new Loader(dataset(22), options()));
    expect(await all(loader)).toEqual(expected);
    expect(log.most).toBe(8);
    expect([...log.started].sort((a, b) => a - b)).toEqual(Array.from({ length: 22 }, (_, i) => i));
    const none = { started: [] as number[], most: 0 };
    await all(new Loader(late(dataset(22), none), { ...options(), prefetch: 0 }));
    expect(none.most).toBe(4);
  });

  test("an error comes at the batch that it belongs to, and the loader can go on before it", async () => {
    const set = late(dataset(12));
    const broken: Dataset = {
      ...set,
      get: (index) => (index === 9 ? Promise.reject(new SpikeloomError("broken.jpg: damaged")) : set.get(index)),
    };
    const loader = new Loader(broken, { batchSize: 4 });
    const seen: number[] = [];
    await expect(
      (async () => {
        for await (const { indices } of loader) seen.push(...indices);
      })(),
    ).rejects.toThrow("broken.jpg: damaged");
    expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(loader.state()).toMatchObject({ epoch: 0, batch: 2 });
  });

  test("costs its waiting, which the loader tells", async () => {
    const loader = new Loader(late(dataset(8)), { batchSize: 4 });
    await all(loader);
    expect(loader.waited).toBeGreaterThan(0.001);
  });
});

test("samples of two shapes in a batch are an error that tells which", async () => {
  const mixed: Dataset = {
    length: 2,
    classes: 1,
    get: (i) => ({ data: new Uint8Array(4 + 2 * i), shape: [2, 2 + i, 1], label: 0 }),
  };
  await expect(all(new Loader(mixed, { batchSize: 2 }))).rejects.toThrow(/found \[2, 2, 1\] and, at sample 1, \[2, 3, 1\]/);
});

test("two transforms of one name draw for themselves", async () => {
  const loader = new Loader(dataset(1), { batchSize: 1, transforms: [noise], rng: new Rng(1) });
  const twice = new Loader(dataset(1), { batchSize: 1, transforms: [noise, noise], rng: new Rng(1) });
  const [[once], [both]] = [await all(loader), await all(twice)];
  const [a, b] = [once?.x as number[], both?.x as number[]];
  const first = a.map((v, i) => v - i);
  const second = b.map((v, i) => v - (a[i] as number));
  expect(first.some((v, i) => Math.abs(v - (second[i] as number)) > 1e-3)).toBe(true);
});

describe("what the loader does not believe", () => {
  const own = (change: object): Dataset => ({
    length: 3,
    classes: 3,
    get: () => ({ data: new Uint8Array(6), shape: [3, 2, 1], label: 0, ...change }),
  });
  test.each<[string, object, RegExp]>([
    ["a label that is no class", { label: 3 }, /expected labels from 0 to 2, found 3 at sample 0/],
    ["a label below 0", { label: -1 }, /found -1 at sample 0/],
    ["a shape of another size", { shape: [7, 8, 1] }, /expected sample 0 as .* with a Uint8Array of 6 and the shape \[7, 8, 1\]/],
    ["numbers in a list", { data: [1, 2, 3, 4, 5, 6] }, /found an object with an array of 6/],
  ])("%s", async (_, change, message) => {
    await expect(all(new Loader(own(change), { batchSize: 2 }))).rejects.toThrow(message);
    await expect(all(new Loader(own(change), { batchSize: 2 }))).rejects.toBeInstanceOf(SpikeloomError);
  });

  test("a sample beyond the last, nothing for a sample, a data set without samples", async () => {
    await expect(new Loader(dataset(4), { batchSize: 2 }).batchOf([0, 77])).rejects.toThrow("expected samples from 0 to 3, found 77");
    const nothing = { ...own({}), get: () => undefined as unknown as never };
    await expect(all(new Loader(nothing, { batchSize: 2 }))).rejects.toThrow(/expected sample 0 as/);
    expect(() => new Loader({ ...own({}), length: 0 }, { batchSize: 2 })).toThrow("length 0");
    expect(() => new Loader({} as Dataset, { batchSize: 2 })).toThrow("expected a dataset");
    expect(() => new Loader(dataset(4), { batchsize: 2 } as never)).toThrow('did you mean "batchSize"?');
  });

  test("a second loop while one is running", async () => {
    const loader = new Loader(dataset(8), { batchSize: 4 });
    for await (const { indices } of loader) {
      expect(indices[0]).toBe(0);
      await expect(all(loader)).rejects.toThrow("one loop over it is still running");
      break;
    }
    expect((await all(loader)).length).toBe(1);
  });
});

describe("a batch transform", () => {
  test("mixes images and one-hot targets alike, labels stay", async () => {
    const [batch] = await all(new Loader(dataset(3), { batchSize: 3, batchTransforms: [blend], rng: new Rng(1) }));
    const weight = new Rng(1).stream("augment.blend").uniform();
    const y = batch?.y as number[];
    expect(batch?.labels).toEqual([0, 1, 2]);
    expect(y[0]).toBeCloseTo(weight, 6);
    expect(y[1]).toBeCloseTo(1 - weight, 6);
    expect(y[3]).toBe(0);
    expect(y.reduce((a, b) => a + b)).toBeCloseTo(3, 5);
  });

  test("batchOf gives chosen samples without it", async () => {
    const loader = new Loader(dataset(9), { batchSize: 4, batchTransforms: [blend], rng: new Rng(1) });
    const batch = await loader.batchOf([7, 2]);
    expect(plain(batch)).toMatchObject({ indices: [7, 2], y: [3, 2], shape: [2, 3, 2, 1] });
    expect(batch.x.dataSync()[0]).toBe(Math.fround(42 / 255));
    batch.x.dispose();
    batch.y.dispose();
  });
});

test("the loader frees its tensors: when the next batch comes, and when a loop is left", async () => {
  const loader = new Loader(dataset(64), { batchSize: 4 });
  const before = memoryInfo().used;
  for (let epoch = 0; epoch < 3; epoch++) for await (const _ of loader);
  for await (const { x } of loader) {
    expect(x.dataSync().length).toBe(24);
    break;
  }
  expect(memoryInfo().used).toBe(before);
});

describe("state and restore", () => {
  test("a resumed loader hands out the same bits, wherever the run stopped, the next epochs too", async () => {
    const options = (): LoaderOptions => ({
      batchSize: 4,
      shuffle: true,
      transforms: [noise],
      batchTransforms: [blend],
      rng: new Rng(5),
    });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 13 }), fc.nat(9), fc.boolean(), async (samples, stop, slow) => {
        const set = slow ? late(dataset(samples)) : dataset(samples);
        const loader = new Loader(set, options());
        await take(loader, stop);
        const state = JSON.parse(JSON.stringify(loader.state())) as LoaderState;
        const expected = await take(loader, 9);
        const resumed = new Loader(set, options());
        resumed.restore(state);
        expect(resumed.state()).toEqual(state);
        expect(await take(resumed, 9)).toEqual(expected);
      }),
      { numRuns: 40 },
    );
  });

  test("a loop left early goes on where it stopped", async () => {
    const loader = new Loader(dataset(10), { batchSize: 4 });
    for await (const { indices } of loader) {
      expect([...indices]).toEqual([0, 1, 2, 3]);
      break;
    }
    expect([loader.epoch, loader.batch]).toEqual([0, 1]);
    expect((await all(loader)).map((b) => b.indices)).toEqual([
      [4, 5, 6, 7],
      [8, 9],
    ]);
  });

  test("a state saved after the last batch still owes the end of its epoch", async () => {
    const loader = new Loader(dataset(4), { batchSize: 4, shuffle: true, rng: new Rng(1) });
    let state = loader.state();
    for await (const _ of loader) state = loader.state();
    loader.restore(state);
    expect(await all(loader)).toEqual([]);
    expect(loader.epoch).toBe(1);
    expect((await all(loader)).length).toBe(1);
  });

  test("a state of something else is refused", () => {
    const loader = new Loader(dataset(10), { batchSize: 4, shuffle: true, rng: new Rng(1) });
    const state = loader.state();
    const wrong: [Partial<LoaderState>, string][] = [
      [{ batchSize: 8 }, "expected batchSize 4, found 8"],
      [{ samples: 11 }, "the data set has 10 samples now, 11 when the run began: put the files back, or start a new run"],
      [{ dropLast: true }, "expected dropLast false, found true"],
      [{ batch: 4 }, "a batch of 0 to 3, found 0 and 4"],
      [{ epoch: -1 }, "found -1 and 0"],
    ];
    for (const [change, message] of wrong) {
      expect(() => loader.restore({ ...state, ...change })).toThrow(SpikeloomError);
      expect(() => loader.restore({ ...state, ...change })).toThrow(message);
    }
  });
});

test("the first samples of a data set are a data set", async () => {
  const set = firstOf(dataset(10), 3);
  expect((await all(new Loader(set, { batchSize: 2 }))).map((b) => b.indices)).toEqual([[0, 1], [2]]);
  const whole = dataset(2);
  expect(firstOf(whole, 5)).toBe(whole);
});

test("wrong options say what is wrong", () => {
  const set = dataset(3);
  const wrong: [() => unknown, string][] = [
    [() => new Loader(set, { batchSize: 0 }), "expected batchSize as a whole number >= 1, found 0"],
    [() => new Loader(set, { batchSize: 1, prefetch: -1 }), "expected prefetch as a whole number >= 0, found -1"],
    [() => new Loader(set, { batchSize: 4, dropLast: true }), "at most the 3 samples with dropLast, found 4"],
    [
      () => new ArrayDataset({ images: new Uint8Array(5), shape: [1, 3, 2, 1], labels: new Int32Array(1) }),
      "expected 6 pixels for [1, 3, 2, 1], found 5",
    ],
    [() => new ArrayDataset({ images: new Uint8Array(6), shape: [1, 3, 2, 1], labels: Int32Array.of(-1) }), "found -1 at image 0"],
  ];
  for (const [run, message] of wrong) {
    expect(run).toThrow(SpikeloomError);
    expect(run).toThrow(message);
  }
});

describe("prepare", () => {
  const rng = () => new Rng(3);
  const all = async (loader: Loader) => {
    const seen: number[][] = [];
    for (let epoch = 0; epoch < 2; epoch++) for await (const { x } of loader) seen.push([...x.dataSync()]);
    return seen;
  };

  test("of the same dataset, transforms and seed gives the same batches, in whatever order samples arrive", async () => {
    const options = { batchSize: 3, shuffle: true, rng: rng() };
    const alone = await all(new Loader(dataset(10), { ...options, transforms: [noise, noise] }));
    const prepare = preparer(late(dataset(10)), [noise, noise], rng());
    expect(await all(new Loader(dataset(10), { ...options, prepare }))).toEqual(alone);
    // Two batches ahead of the one that is handed out, all samples at once.
    let running = 0;
    let most = 0;
    const counted = async (index: number, epoch: number) => {
      most = Math.max(most, ++running);
      const sample = await prepare(index, epoch);
      running--;
      return sample;
    };
    await all(new Loader(dataset(10), { ...options, prepare: counted }));
    expect(most).toBeGreaterThanOrEqual(9);
  });

  test("comes in place of transforms, and is a function", () => {
    const prepare = preparer(dataset(4), [], rng());
    expect(() => new Loader(dataset(4), { batchSize: 2, prepare, transforms: [noise] })).toThrow("expected transforms or prepare");
    expect(() => new Loader(dataset(4), { batchSize: 2, prepare: 3 as never })).toThrow("expected prepare as a function");
  });

  test("an error of a transform names the sample, where the dataset knows its name", async () => {
    const fails: Transform = {
      name: "fails",
      apply() {
        throw new SpikeloomError("fails: too small");
      },
    };
    const named = { ...dataset(4), length: 4, get: (i: number) => dataset(4).get(i), nameOf: (i: number) => `image ${i}.png` };
    const loader = (set: Dataset) => new Loader(set, { batchSize: 1, transforms: [fails] });
    await expect(loader(named).batchOf([2])).rejects.toThrow("image 2.png: fails: too small");
    await expect(loader(firstOf(named, 3)).batchOf([2])).rejects.toThrow("image 2.png: fails: too small");
    await expect(loader(dataset(4)).batchOf([2])).rejects.toThrow(/^fails: too small$/);
  });
});
