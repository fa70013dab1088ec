/** Data sets of N-MNIST's kind: its own files, written byte by byte, and recordings simulated from MNIST. */
import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { data, FormatError, init } from "spikeloom";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { datasets } from "../../src/datasets/index.ts";
import { nMnist } from "../../src/datasets/n-mnist.ts";
import { saccadeMnist } from "../../src/datasets/saccades.ts";
import { smallMnist } from "../support.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "spikeloom-"));
});
afterEach(() => rm(dir, { recursive: true }));

async function write(path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(dirname(join(dir, path)), { recursive: true });
  await writeFile(join(dir, path), bytes);
}

describe("n-mnist", () => {
  /** 8 events at column `digit`, rows 0 to 7, polarity 1, a millisecond apart. */
  const recording = (digit: number) =>
    Uint8Array.from(Array.from({ length: 8 }, (_, i) => [digit, i, 0x80, (1000 * i) >> 8, (1000 * i) & 255]).flat());

  async function folders(): Promise<void> {
    for (let digit = 0; digit < 10; digit++) {
      await write(`Train/${digit}/00002.bin`, recording(digit));
      await write(`Train/${digit}/00010.bin`, recording(digit));
      await write(`Test/${digit}/00001.bin`, recording(digit));
    }
  }

  it("is read from its two folders, class by class", async () => {
    await folders();
    const { train, test } = await nMnist.load({ dir, timeSteps: 4 });
    expect([train.length, test.length, train.classes, train.labels?.[3]]).toEqual([20, 10, 10, 1]);
    const { data: values, shape, label } = await train.get(6);
    expect([shape, label]).toEqual([[4, 34, 34, 2], 3]);
    const expected = new Float32Array(4 * 34 * 34 * 2);
    for (let i = 0; i < 8; i++) expected[((Math.floor(i / 2) * 34 + i) * 34 + 3) * 2 + 1] = 1;
    expect(values).toEqual(expected);
    expect((await nMnist.load({ dir, timeSteps: 2, splitBy: "time" })).train.get(0)).toBeInstanceOf(Promise);
    expect((await nMnist.readSample?.(join(dir, "Test/4/00001.bin"), {}))?.shape).toEqual([10, 34, 34, 2]);
  });

  it("says what is missing or damaged", async () => {
    await expect(nMnist.load({})).rejects.toThrow("N-MNIST: expected the folder of its files in data.dir");
    await expect(nMnist.load({ dir })).rejects.toThrow("found no folder Train/0 there");
    await folders();
    await truncate(join(dir, "Train/0/00002.bin"), 12);
    const { train } = await nMnist.load({ dir });
    const failed = Promise.resolve(train.get(0));
    await expect(failed).rejects.toThrow(/Train\/0\/00002\.bin.*events of 5 bytes/);
    await expect(failed).rejects.toBeInstanceOf(FormatError);
  });
});

describe("saccade-mnist", () => {
  it("has MNIST's pictures and split, as frames of a moving camera; test noise is none of training", async () => {
    const mnist = smallMnist(20, 10);
    const { train, test } = await saccadeMnist.load({ dir: mnist });
    const plain = await (datasets.mnist as typeof saccadeMnist).load({ dir: mnist });
    expect([train.length, test.length, train.classes]).toEqual([20, 10, 10]);
    const sample = train.get(7) as data.Sample;
    expect(sample.label).toBe((plain.train.get(7) as data.Sample).label);
    expect(sample.shape).toEqual([8, 34, 34, 2]);
    const picture = plain.train.get(7) as data.Sample;
    const camera = new data.events.SaccadeCamera();
    const events = camera.record({ data: picture.data, height: 28, width: 28 }, 7);
    expect(sample.data).toEqual(data.events.eventFrames(events, { height: 34, width: 34, timeSteps: 8 }).data);
    // By the number of events each frame has as many, by time not.
    const sums = (values: data.Sample["data"]) =>
      Array.from({ length: 8 }, (_, t) => (values as Float32Array).subarray(t * 2312, (t + 1) * 2312).reduce((a, b) => a + b, 0));
    expect(new Set(sums(sample.data).slice(0, 7)).size).toBe(1);
    const timed = (await saccadeMnist.load({ dir: mnist, splitBy: "time", timeSteps: 8 })).train.get(7) as data.Sample;
    expect(new Set(sums(timed.data)).size).toBeGreaterThan(1);
    // The same picture in the test set is another recording.
    const held = test.get(0) as data.Sample;
    const again = camera.record({ data: (plain.test.get(0) as data.Sample).data, height: 28, width: 28 }, 0);
    expect(held.data).not.toEqual(data.events.eventFrames(again, { height: 34, width: 34, timeSteps: 8 }).data);
  });

  it("is the same whatever the seed of the run, and trains by a loader", async () => {
    const mnist = smallMnist(20, 10);
    const first = async (seed: number) => {
      await init({ device: "wasm", seed });
      const { train } = await saccadeMnist.load({ dir: mnist, timeSteps: 3 });
      const { x, y } = await new data.Loader(train, { batchSize: 4 }).batchOf([0, 1]);
      expect([x.shape, y.shape]).toEqual([[3, 2, 34, 34, 2], [2]]);
      return [...(x.dataSync() as Float32Array)];
    };
    expect(await first(1)).toEqual(await first(2));
  });
});
