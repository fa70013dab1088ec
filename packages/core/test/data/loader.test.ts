import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ArrayDataset } from "../../src/data/dataset.ts";
import { type Batch, Loader, type LoaderOptions, type LoaderState, randomShift } from "../../src/data/loader.ts";
import { SpikeloomError } from "../../src/runtime/error.ts";
import { Rng } from "../../src/runtime/random.ts";

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

const plain = (batch: Batch) => ({ x: [...batch.x], xShape: batch.xShape, y: [...batch.y], indices: [...batch.indices] });

test("without shuffling: the dataset's order, bytes scaled to 0..1, a smaller last batch", () => {
  const loader = new Loader(dataset(5), { batchSize: 2 });
  const batches = [...loader];
  expect(loader.batches).toBe(3);
  expect(batches.map((b) => [...b.indices])).toEqual([[0, 1], [2, 3], [4]]);
  expect(batches.map((b) => [...b.y])).toEqual([[0, 1], [2, 3], [0]]);
  expect(batches[2]!.xShape).toEqual([1, 3, 2, 1]);
  expect([...batches[2]!.x]).toEqual([24, 25, 26, 27, 28, 29].map((v) => Math.fround(v / 255)));
  expect(loader.epoch).toBe(1);
});

test("dropLast leaves the small batch out; float images are taken as they are", () => {
  const floats = new ArrayDataset({ images: Float32Array.of(-1, 2.5, 7), shape: [3, 1, 1, 1], labels: Int32Array.of(0, 1, 2) });
  const batches = [...new Loader(floats, { batchSize: 2, dropLast: true })];
  expect(batches.map(plain)).toEqual([{ x: [-1, 2.5], xShape: [2, 1, 1, 1], y: [0, 1], indices: [0, 1] }]);
  expect(floats.classes).toBe(3);
});

test("normalises each channel, rounding to float32 as torchvision does", () => {
  const mean = [0.1307, 0.5, 0.2];
  const std = [0.3081, 0.25, 2];
  const set = dataset(1, 3);
  const [batch] = [...new Loader(set, { batchSize: 1, mean, std })];
  const f = Math.fround;
  expect([...batch!.x]).toEqual([...set.images].map((v, i) => f(f(f(v / 255) - f(mean[i % 3]!)) / f(std[i % 3]!))));
});

test("each epoch is another order of all samples; pixels and labels stay together", () => {
  const set = dataset(20);
  const loader = new Loader(set, { batchSize: 6, shuffle: new Rng(3).stream("order") });
  const orders = [0, 1, 2].map(() => [...loader].flatMap((b) => [...b.indices]));
  for (const order of orders) expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
  expect(new Set(orders.map(String)).size).toBe(3);
  for (const batch of loader) {
    batch.indices.forEach((index, i) => {
      expect(batch.y[i]).toBe(set.labels[index]);
      expect(batch.x[6 * i]).toBe(Math.fround((6 * index) / 255));
    });
  }
});

describe("state and restore", () => {
  const options = (seed: number): LoaderOptions => {
    const rng = new Rng(seed);
    const augment = { apply: randomShift(1), stream: rng.stream("augment") };
    return { batchSize: 4, shuffle: rng.stream("order"), augment, mean: [0.5], std: [0.2] };
  };
  /** Batches without end, and the loader they come from. */
  function* forever(loader: Loader): Generator<Batch, never> {
    for (;;) yield* loader;
  }
  const take = (source: Iterator<Batch>, n: number) => Array.from({ length: n }, () => plain(source.next().value as Batch));

  test("a resumed loader hands out the same bits, wherever the run stopped, the next epochs too", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 13 }), fc.nat(9), (samples, stop) => {
        const set = dataset(samples);
        const loader = new Loader(set, options(5));
        const source = forever(loader);
        take(source, stop);
        const state = JSON.parse(JSON.stringify(loader.state())) as LoaderState;
        const expected = take(source, 9);
        const resumed = new Loader(set, options(5));
        resumed.restore(state);
        expect(resumed.state()).toEqual(state);
        expect(take(forever(resumed), 9)).toEqual(expected);
      }),
      { numRuns: 80 },
    );
  });

  test("works together with the state of the generator that owns the streams, restored before or after", () => {
    for (const rngFirst of [true, false]) {
      const rng = new Rng(9);
      const loader = new Loader(dataset(10), { batchSize: 3, shuffle: rng.stream("order") });
      const source = forever(loader);
      take(source, 6);
      const saved = { rng: rng.state(), loader: loader.state() };
      const expected = take(source, 6);
      const rng2 = new Rng(9);
      const resumed = new Loader(dataset(10), { batchSize: 3, shuffle: rng2.stream("order") });
      if (rngFirst) rng2.restore(saved.rng);
      resumed.restore(saved.loader);
      if (!rngFirst) rng2.restore(saved.rng);
      expect(rng2.state()).toEqual(saved.rng);
      expect(take(forever(resumed), 6)).toEqual(expected);
    }
  });

  test("a loop left early goes on where it stopped", () => {
    const loader = new Loader(dataset(10), { batchSize: 4 });
    for (const batch of loader) {
      expect([...batch.indices]).toEqual([0, 1, 2, 3]);
      break;
    }
    expect([loader.epoch, loader.batch]).toEqual([0, 1]);
    expect([...loader].map((b) => [...b.indices])).toEqual([
      [4, 5, 6, 7],
      [8, 9],
    ]);
  });

  test("a state saved after the last batch still owes the end of its epoch", () => {
    const loader = new Loader(dataset(4), { batchSize: 4, shuffle: new Rng(1).stream("order") });
    let state = loader.state();
    for (const _ of loader) state = loader.state();
    loader.restore(state);
    expect([...loader]).toEqual([]);
    expect(loader.epoch).toBe(1);
    expect([...loader].length).toBe(1);
  });

  test("a state of something else is refused", () => {
    const loader = new Loader(dataset(10), { batchSize: 4, shuffle: new Rng(1).stream("order") });
    const state = loader.state();
    const wrong: [Partial<LoaderState>, string][] = [
      [{ batchSize: 8 }, "expected batchSize 4, found 8"],
      [{ samples: 11 }, "expected samples 10, found 11"],
      [{ dropLast: true }, "expected dropLast false, found true"],
      [{ shuffle: null }, "expected one for the shuffle stream, found none"],
      [{ augment: { block: 0, word: 0 } }, "expected none for the augment stream, found one"],
      [{ batch: 4 }, "a batch of 0 to 3, found 0 and 4"],
      [{ epoch: -1 }, "found -1 and 0"],
      [{ shuffle: { block: -1, word: 0 } }, "found block -1"],
    ];
    for (const [change, message] of wrong) {
      expect(() => loader.restore({ ...state, ...change })).toThrow(SpikeloomError);
      expect(() => loader.restore({ ...state, ...change })).toThrow(message);
    }
  });
});

describe("randomShift", () => {
  test("every result is the image moved by at most pad, zeros moving in, and every move occurs", () => {
    const [h, w, c, pad] = [4, 3, 2, 2];
    const image = Float32Array.from({ length: h * w * c }, (_, i) => i + 1);
    const rng = new Rng(4).stream("augment");
    const shift = randomShift(pad);
    const moved = (dy: number, dx: number) =>
      image.map((_, i) => {
        const row = Math.floor(i / (w * c)) - dy;
        const column = (Math.floor(i / c) % w) - dx;
        return row >= 0 && row < h && column >= 0 && column < w ? image[(row * w + column) * c + (i % c)]! : 0;
      });
    const possible = new Map<string, string>();
    for (let dy = -pad; dy <= pad; dy++) for (let dx = -pad; dx <= pad; dx++) possible.set(moved(dy, dx).join(), `${dy},${dx}`);
    const seen = new Set<string | undefined>();
    for (let i = 0; i < 600; i++) {
      const pixels = image.slice();
      shift(pixels, rng, [h, w, c]);
      seen.add(possible.get(pixels.join()));
    }
    expect(seen.has(undefined)).toBe(false);
    expect(seen.size).toBe(25);
  });

  test("a pad wider than the image leaves nothing or a part of it", () => {
    const rng = new Rng(4).stream("augment");
    const shift = randomShift(5);
    for (let i = 0; i < 200; i++) {
      const pixels = Float32Array.of(1, 1);
      shift(pixels, rng, [1, 2, 1]);
      expect(pixels.every((v) => v === 0 || v === 1)).toBe(true);
    }
  });

  test("draws nothing from the shuffling stream", () => {
    const orders = [false, true].map((on) => {
      const rng = new Rng(2);
      const augment = on ? { augment: { apply: randomShift(1), stream: rng.stream("augment") } } : {};
      const loader = new Loader(dataset(12), { batchSize: 5, shuffle: rng.stream("order"), ...augment });
      return [0, 1].flatMap(() => [...loader].flatMap((b) => [...b.indices]));
    });
    expect(orders[0]).toEqual(orders[1]);
  });
});

test("wrong options say what is wrong", () => {
  const set = dataset(3);
  const wrong: [() => unknown, string][] = [
    [() => new Loader(set, { batchSize: 0 }), "expected batchSize as a whole number >= 1, found 0"],
    [() => new Loader(set, { batchSize: 4, dropLast: true }), "at most the 3 images with dropLast, found 4"],
    [() => new Loader(set, { batchSize: 1, mean: [0.5] }), "expected std with 1 numbers, one a channel, found none"],
    [() => new Loader(set, { batchSize: 1, mean: [0, 0, 0], std: [1, 1, 1] }), "expected mean with 1 numbers, one a channel, found 3"],
    [() => new Loader(set, { batchSize: 1, mean: [0], std: [0] }), "expected std of finite numbers > 0, found [0]"],
    [() => randomShift(0), "expected pad as a whole number >= 1, found 0"],
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
