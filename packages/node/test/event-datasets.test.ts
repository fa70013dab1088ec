import { mkdir, mkdtemp, rename, rm, truncate, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { data, FormatError, formats, npz, Rng, SpikeloomError } from "spikeloom";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aedat2, aedat3, type Event } from "../../core/test/data/events/support.ts";
import { cifar10Dvs } from "../src/datasets/cifar10-dvs.ts";
import { dvs128Gesture } from "../src/datasets/dvs128-gesture.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "spikeloom-"));
});
afterEach(() => rm(dir, { recursive: true }));

async function write(path: string, bytes: Uint8Array | string): Promise<void> {
  await mkdir(dirname(join(dir, path)), { recursive: true });
  await writeFile(join(dir, path), bytes);
}

const draws = new Rng(3).stream("events");
/** Events of a recording, in order, `step` microseconds apart. */
const record = (count: number, from = 0, step = 10): Event[] =>
  Array.from({ length: count }, (_, i) => ({
    t: from + i * step,
    x: draws.uniformInt(128),
    y: draws.uniformInt(128),
    p: draws.uniformInt(2),
  }));

/** An .npz as SpikingJelly saves it. */
const saved = (list: readonly Event[]) =>
  npz.encode(
    new Map(
      (["t", "x", "y", "p"] as const).map((key) => [
        key,
        formats.ndArray(
          "i64",
          [list.length],
          BigInt64Array.from(list, (e) => BigInt(e[key])),
        ),
      ]),
    ),
  );

/** Counts by definition, of equal numbers of events. */
function frames(list: readonly Event[], steps: number, half: boolean): Float32Array {
  const side = half ? 64 : 128;
  const out = new Float32Array(steps * side * side * 2);
  const each = Math.floor(list.length / steps);
  list.forEach(({ x, y, p }, i) => {
    const t = Math.min(steps - 1, Math.floor(i / each));
    const [row, column] = half ? [y >> 1, x >> 1] : [y, x];
    out[((t * side + row) * side + column) * 2 + p]! += half ? 0.25 : 1;
  });
  return out;
}

/** Whether two arrays hold the same bits: `toEqual` takes seconds on a million values. */
const same = (a: ArrayBufferView, b: ArrayBufferView) =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

const failure = (promise: Promise<unknown> | unknown) =>
  Promise.resolve(promise).then(
    () => "",
    (error: Error) => {
      expect(error).toBeInstanceOf(SpikeloomError);
      return error.message;
    },
  );

describe("CIFAR10-DVS", () => {
  const names = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
  const recordings = new Map<string, Event[]>();

  async function folders(below = "", packed?: (list: readonly Event[]) => Promise<Uint8Array>): Promise<void> {
    for (const name of cifar10Dvs.classes)
      for (const i of names) {
        const list = record(25);
        recordings.set(`${name}_${i}`, list);
        await write(join(below, name, `cifar10_${name}_${i}.${packed ? "npz" : "aedat"}`), packed ? await packed(list) : aedat2(list));
      }
  }

  test("class folders of AEDAT: 64 x 64, nine tenths by name train", async () => {
    await folders();
    await write("airplane/._cifar10_airplane_0.aedat", "what another system leaves beside files");
    const { train, test: held, dir: root } = await cifar10Dvs.load({ dir, timeSteps: 4 });
    expect([root, train.length, held.length, train.classes, train.classNames]).toEqual([dir, 110, 10, 10, cifar10Dvs.classes]);
    // As strings: 0, 1, 10, 11, 2, ..., 9; the last of the twelve tests.
    for (const [set, index, label, name] of [
      [train, 0, 0, "airplane_0"],
      [train, 2, 0, "airplane_10"],
      [train, 4, 0, "airplane_2"],
      [train, 11, 1, "automobile_0"],
      [held, 0, 0, "airplane_9"],
      [held, 9, 9, "truck_9"],
    ] as const) {
      const sample = await set.get(index);
      expect([sample.label, sample.shape]).toEqual([label, [4, 64, 64, 2]]);
      expect(same(sample.data, frames(recordings.get(name) as Event[], 4, true))).toBe(true);
    }
  });

  test("SpikingJelly's events, and its frames, below events_np or where they are", async () => {
    await folders("events_np", saved);
    const { train, dir: root } = await cifar10Dvs.load({ dir });
    expect(root).toBe(join(dir, "events_np"));
    const sample = await train.get(0);
    expect(sample.shape).toEqual([10, 64, 64, 2]);
    expect(same(sample.data, frames(recordings.get("airplane_0") as Event[], 10, true))).toBe(true);
    const cached = formats.ndArray("f64", [2, 2, 128, 128], new Float64Array(2 * 2 * 128 * 128).fill(3));
    await write("events_np/airplane/cifar10_airplane_0.npz", await npz.encode(new Map([["frames", cached]])));
    const two = await cifar10Dvs.load({ dir: root, timeSteps: 2 });
    expect(same((await two.train.get(0)).data, new Float32Array(2 * 64 * 64 * 2).fill(3))).toBe(true);
    expect(await failure(train.get(0))).toMatch(/cifar10_airplane_0\.npz: expected 10 frames of 128 x 128, found 2 of 128 x 128/);
  });

  test("by time", async () => {
    await folders("extract");
    await write("extract/airplane/cifar10_airplane_0.aedat", aedat2([0, 1, 2, 99].map((t) => ({ t, x: 0, y: 0, p: 1 }))));
    const { train } = await cifar10Dvs.load({ dir, timeSteps: 2, splitBy: "time" });
    const { data: values } = await train.get(0);
    expect([values[1], values[64 * 64 * 2 + 1]]).toEqual([0.75, 0.25]);
  });

  test("the loader gives [T, B, H, W, C]", async () => {
    await folders();
    const { init } = await import("spikeloom");
    await init({ device: "reference", seed: 1 });
    const { test: held } = await cifar10Dvs.load({ dir, timeSteps: 3 });
    const transforms = [data.trivialAugment(), data.flipRoll()];
    const loader = new data.Loader(held, { batchSize: 4, shuffle: true, transforms, batchTransforms: [data.cutout()] });
    const shapes: number[][] = [];
    for await (const { x } of loader) shapes.push([...x.shape]);
    expect(shapes).toEqual([
      [3, 4, 64, 64, 2],
      [3, 4, 64, 64, 2],
      [3, 2, 64, 64, 2],
    ]);
  });

  test("errors say what is missing and where", async () => {
    expect(await failure(cifar10Dvs.load({}))).toMatch(/^CIFAR10-DVS: expected the folder of its files in data\.dir/);
    expect(await failure(cifar10Dvs.load({ dir: join(dir, "no") }))).toMatch(/found no such folder\.$/);
    expect(await failure(cifar10Dvs.load({ dir }))).toMatch(/found no folder airplane there\.$/);
    await write("airplane.zip", "PK");
    expect(await failure(cifar10Dvs.load({ dir }))).toMatch(/It has the archives: unpack them/);
    await folders();
    await rename(join(dir, "dog"), join(dir, "dogs"));
    expect(await failure(cifar10Dvs.load({ dir }))).toMatch(/cannot read the recordings of class dog in .*ENOENT/);
    await write("dog/readme.txt", "");
    expect(await failure(cifar10Dvs.load({ dir }))).toMatch(/dog: expected recordings \(\.aedat or \.npz\), found none/);
  });

  test("a damaged recording is an error that names it, the others are read", async () => {
    await folders();
    const { train } = await cifar10Dvs.load({ dir });
    const path = join(dir, "airplane", "cifar10_airplane_0.aedat");
    await truncate(path, 100);
    expect(await failure(train.get(0))).toMatch(/cifar10_airplane_0\.aedat, byte 27: expected events of 8 bytes, found 73/);
    await writeFile(path, aedat2([]));
    expect(await failure(train.get(0))).toMatch(/cifar10_airplane_0\.aedat: expected events, found none/);
    await unlink(path);
    expect(await failure(train.get(0))).toMatch(/cannot read recording .*ENOENT/);
    expect((await train.get(1)).label).toBe(0);
  });
});

describe("DVS128 Gesture", () => {
  const HEAD = "class,startTime_usec,endTime_usec\n";
  // Ten events, 10 microseconds apart, in each packet; gestures begin and end inside packets.
  const packets = Array.from({ length: 12 }, (_, i) => record(10, 100 * i));
  const all = packets.flat();
  const during = (start: number, end: number) => all.filter(({ t }) => t >= start && t < end);

  async function published(below = ""): Promise<void> {
    await write(join(below, "trials_to_train.txt"), "user02_lab.aedat\nuser01_led.aedat\n");
    await write(join(below, "trials_to_test.txt"), "user03_lab.aedat\r\n");
    const file = aedat3(packets.map((events) => ({ events })));
    for (const name of ["user02_lab", "user01_led", "user03_lab"]) await write(join(below, `${name}.aedat`), file);
    await write(join(below, "user02_lab_labels.csv"), `${HEAD}1,55,345\n11,400,700\n3,700,1000\n`);
    await write(join(below, "user01_led_labels.csv"), `${HEAD}8,0,500\n8,500,900\n1,900,1190\n`);
    await write(join(below, "user03_lab_labels.csv"), `${HEAD}2,123,457\n`);
  }

  test("recordings and their tables: each gesture by itself, in the order of SpikingJelly's files", async () => {
    await published("DvsGesture");
    const { train, test: held, dir: root } = await dvs128Gesture.load({ dir, timeSteps: 3 });
    expect([root, train.length, held.length, train.classes]).toEqual([join(dir, "DvsGesture"), 6, 1, 11]);
    expect(train.classNames?.slice(0, 3)).toEqual(["hand_clapping", "right_hand_wave", "other_gestures"]);
    const expected: [number, number, number][] = [
      [0, 900, 1190],
      [0, 55, 345],
      [2, 400, 700],
      [3, 700, 1000],
      [8, 0, 500],
      [8, 500, 900],
    ];
    // Several of one recording at once, as the loader asks.
    const samples = await Promise.all(expected.map((_, i) => train.get(i)));
    expected.forEach(([label, start, end], i) => {
      expect([samples[i]?.label, samples[i]?.shape]).toEqual([label, [3, 128, 128, 2]]);
      expect(same(samples[i]?.data as Float32Array, frames(during(start, end), 3, false))).toBe(true);
    });
    expect(same((await held.get(0)).data, frames(during(123, 457), 3, false))).toBe(true);
  });

  test("SpikingJelly's events: class 2 is the folder 10", async () => {
    const one = record(20);
    for (const split of ["train", "test"])
      for (let folder = 0; folder <= 10; folder++)
        await write(join("events_np", split, `${folder}`, "user01_lab_0.npz"), await saved(folder === 10 ? one : record(20)));
    const { train, dir: root } = await dvs128Gesture.load({ dir });
    expect([root, train.length]).toEqual([join(dir, "events_np"), 11]);
    const sample = await train.get(2);
    expect([sample.shape, sample.label]).toEqual([[16, 128, 128, 2], 2]);
    expect(same(sample.data, frames(one, 16, false))).toBe(true);
  });

  test("errors say what is missing and where", async () => {
    expect(await failure(dvs128Gesture.load({}))).toMatch(/^DVS128 Gesture: expected the folder of its files in data\.dir/);
    expect(await failure(dvs128Gesture.load({ dir }))).toMatch(/found no trials_to_train\.txt and no train\/0 there\.$/);
    await published();
    await unlink(join(dir, "user01_led.aedat"));
    expect(await failure(dvs128Gesture.load({ dir }))).toMatch(/cannot read recording .*user01_led\.aedat.*ENOENT/);
    await published();
    await unlink(join(dir, "user03_lab_labels.csv"));
    expect(await failure(dvs128Gesture.load({ dir }))).toMatch(/cannot read table of gestures .*user03_lab_labels\.csv.*ENOENT/);
    await write("user03_lab_labels.csv", `${HEAD}2,123\n`);
    expect(await failure(dvs128Gesture.load({ dir }))).toMatch(/user03_lab_labels\.csv, line 2: expected class,start,end/);
  });

  test("damaged recordings", async () => {
    await published();
    await write("user03_lab_labels.csv", `${HEAD}2,5000,6000\n3,0,10\n`);
    const { train, test: held } = await dvs128Gesture.load({ dir, timeSteps: 2 });
    expect(await failure(held.get(0))).toMatch(/user03_lab\.aedat, 5000 to 6000 microseconds: expected events, found none/);
    await truncate(join(dir, "user02_lab.aedat"), 800);
    expect(await failure(train.get(1))).toMatch(/user02_lab\.aedat, byte \d+: expected .* damaged/);
    // Cut off after it was searched.
    await held.get(1);
    await truncate(join(dir, "user03_lab.aedat"), 60);
    const error = await Promise.resolve(held.get(1)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(FormatError);
    expect((error as Error).message).toMatch(/expected 150 bytes, found 60\. It was changed while in use\./);
  });
});
