// The cache of frames: the same values, made once, made again when anything changed or a file is damaged, done without when it cannot be.
import { mkdirSync, readdirSync, readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { type data, formats, npz, Rng } from "spikeloom";
import { beforeEach, describe, expect, it } from "vitest";
import { eventDataset, type FrameSettings, sampleOfFile } from "../../src/datasets/event-files.ts";
import { decodeFrames, encodeFrames, FrameCache } from "../../src/datasets/frame-cache.ts";
import { parseRecipe } from "../../src/recipe.ts";
import { knownNames } from "../../src/session.ts";
import { folder } from "../support.ts";

const draws = new Rng(4).stream("events");
let cache: string;
let path: string;
/** How often a recording was read. */
let reads: number;

async function writeRecording(events = 300): Promise<void> {
  const axis = (values: (i: number) => number) =>
    formats.ndArray(
      "i64",
      [events],
      BigInt64Array.from({ length: events }, (_, i) => BigInt(values(i))),
    );
  const pixel = () => draws.uniformInt(128);
  const parts = { t: axis((i) => 10 * i), x: axis(pixel), y: axis(pixel), p: axis((i) => i % 2) };
  writeFileSync(path, await npz.encode(new Map(Object.entries(parts))));
}

beforeEach(async () => {
  cache = join(folder(), "cache");
  path = join(folder(), "a.npz");
  reads = 0;
  await writeRecording();
});

async function frames(settings: Partial<FrameSettings> = {}, half = true): Promise<data.Sample> {
  const sample = sampleOfFile(path, 2);
  const counted = {
    ...sample,
    read() {
      reads++;
      return sample.read();
    },
  };
  return eventDataset([counted], ["a", "b", "c"], { timeSteps: 4, cache, ...settings }, half).get(0);
}

const files = () => readdirSync(cache).map((name) => join(cache, name));

describe("the cache", () => {
  it("gives what was made, without reading the recording again", async () => {
    const plain = await frames({ cache: false });
    expect(reads).toBe(1);
    expect([await frames(), reads]).toEqual([plain, 2]);
    expect([await frames(), reads]).toEqual([plain, 2]);
    expect(plain).toMatchObject({ shape: [4, 64, 64, 2], label: 2 });
    expect(files().length).toBe(1);
    // Counts in a byte each, deflated.
    expect(statSync(files()[0] as string).size).toBeLessThan(4 * 64 * 64 * 2);
  });

  it("keeps each setting by itself", async () => {
    for (const [settings, half] of [
      [{}, true],
      [{ timeSteps: 5 }, true],
      [{ splitBy: "time" as const }, true],
      [{}, false],
    ] as const) {
      const kept = await frames(settings, half);
      expect(kept).toEqual(await frames({ ...settings, cache: false }, half));
      expect(kept).toEqual(await frames(settings, half));
    }
    expect(files().length).toBe(4);
    expect(reads).toBe(8);
  });

  it("makes anew what was changed: another size, or the same size at another time", async () => {
    await frames();
    await writeRecording(301);
    expect(await frames()).toEqual(await frames({ cache: false }));
    expect(reads).toBe(3);
    utimesSync(path, 1e9, 1e9);
    await frames();
    expect([reads, files().length]).toEqual([4, 3]);
  });

  it("makes again a file that is cut short, changed anywhere, of another sample or something else", async () => {
    const right = await frames();
    const [file] = files() as [string];
    const whole = readFileSync(file);
    await writeRecording(200);
    await frames();
    const other = readFileSync(files().find((name) => name !== file) as string);
    await writeRecording();
    const expected = await frames({ cache: false });
    // The same key as before needs the same file: take the one of the recording as it is now.
    await frames();
    const name = files().find((f) => ![whole, other].some((bytes) => readFileSync(f).equals(bytes))) as string;
    const good = readFileSync(name);
    expect(right.shape).toEqual(expected.shape);
    for (const bad of [good.subarray(0, good.length - 1), good.subarray(0, 5), Buffer.alloc(0), other, Buffer.from("no frames at all")]) {
      writeFileSync(name, bad);
      reads = 0;
      expect(await frames()).toEqual(expected);
      expect(reads).toBe(1);
      expect(readFileSync(name).equals(good)).toBe(true);
    }
    truncateSync(name, 40);
    expect(await frames()).toEqual(expected);
  });

  it("is done without where it cannot be written, and refused where its folder cannot be", async () => {
    await frames();
    const [file] = files() as [string];
    await writeRecording(310);
    const expected = await frames({ cache: false });
    await frames();
    const name = files().find((f) => f !== file) as string;
    // A folder in the file's place: it cannot be read, nor written.
    const blocked = join(folder(), "cache");
    mkdirSync(join(blocked, name.slice(cache.length + 1)), { recursive: true });
    expect(await frames({ cache: blocked })).toEqual(expected);
    expect(() => new FrameCache(path)).toThrow(/cannot make the cache's folder .*data\.cache/);
    const away = join(folder(), "gone.npz");
    await expect(new FrameCache(cache).frames(away, 0, async () => ({ data: new Float32Array(0), shape: [0, 0, 0, 0] }))).rejects.toThrow(
      `cannot read recording ${away}: there is no such file`,
    );
  });
});

describe("the format", () => {
  const any = fc.record({
    shape: fc.tuple(fc.nat(3), fc.nat(3), fc.nat(3), fc.nat(2)),
    kind: fc.constantFrom("quarters", "large", "odd"),
    key: fc.string(),
    seed: fc.nat(1000),
  });

  it("gives back any frames, quarters of counts or not, and nothing under another key", async () => {
    await fc.assert(
      fc.asyncProperty(any, async ({ shape, kind, key, seed }) => {
        const rng = new Rng(seed).stream("v");
        const unit = kind === "quarters" ? 0.25 : kind === "large" ? 100 : 0.3;
        const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => rng.uniformInt(200) * unit);
        const bytes = Buffer.from(await encodeFrames({ data: values, shape }, key));
        expect(await decodeFrames(bytes, key)).toEqual({ data: values, shape });
        expect(await decodeFrames(bytes, `${key}x`)).toBeUndefined();
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  it("takes no byte that was changed, and no file that was cut", async () => {
    const bytes = Buffer.from(await encodeFrames({ data: Float32Array.of(1, 2, 0.25, 4), shape: [1, 2, 2, 1] }, "key"));
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const bad = Buffer.from(bytes);
        bad[at] = (bad[at] as number) ^ change;
        expect(await decodeFrames(bad, "key")).toBeUndefined();
        expect(await decodeFrames(bytes.subarray(0, at), "key")).toBeUndefined();
      }),
      { numRuns: 300, seed: 2 },
    );
  });
});

it("recipes name it, for event data only", () => {
  const recipe = (name: string, cache: string) =>
    parseRecipe(
      "model: { name: sdt-v1 }\ndata: { name: NAME }\ntrain: { epochs: 1 }\n".replace("NAME", name),
      "r.yml",
      [`data.cache=${cache}`],
      knownNames,
    );
  expect(recipe("cifar10-dvs", "true").data.cache).toBe(true);
  expect(recipe("cifar10-dvs", "frames/").data.cache).toBe("frames/");
  expect(() => recipe("cifar10-dvs", "3")).toThrow("data.cache: expected true, false or a folder, found 3");
  expect(() => recipe("mnist", "true")).toThrow("data.cache has no effect on mnist");
});
