// Deterministic operations against values of Pillow, torchvision and timm (test/fixtures/transforms), bit for bit.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Sample } from "../../../src/data/dataset.ts";
import { centerCrop } from "../../../src/data/transforms/crop.ts";
import { hue } from "../../../src/data/transforms/enhance.ts";
import { normalize } from "../../../src/data/transforms/normalize.ts";
import { type RandAugmentOperation, randAugmentOperation, randAugmentOperations } from "../../../src/data/transforms/rand-augment.ts";
import { type Interpolation, resize } from "../../../src/data/transforms/resize.ts";
import { Rng, type Stream } from "../../../src/runtime/random.ts";

interface Pixels {
  shape: number[];
  pixels: string;
}

interface Case extends Pixels {
  op: "randAugment" | "resize" | "centerCrop" | "hue";
  image: string;
  name?: RandAugmentOperation;
  magnitude?: number;
  negative?: boolean;
  increasing?: boolean;
  interpolation?: Interpolation;
  fill?: number[];
  size?: number | [number, number];
  turn?: number;
}

const fixture = JSON.parse(readFileSync(new URL("../../../../../test/fixtures/transforms/pillow.json", import.meta.url), "utf8")) as {
  images: Record<string, Pixels>;
  cases: Case[];
  floats: { image: string; mean: number[]; std: number[]; values: string }[];
};

const bytes = (text: string) => new Uint8Array(Buffer.from(text, "base64"));
const rng = new Rng(1).stream("unused");

function input(name: string): Sample {
  const { shape, pixels } = fixture.images[name] as Pixels;
  return { data: bytes(pixels), shape, label: 3 };
}

/** A stream whose sign is known; other draws of an operation do not occur where the interpolation is given. */
const sign = (negative: boolean) => ({ uniform: () => (negative ? 0.75 : 0.25) }) as Stream;

function run(c: Case): Sample {
  const sample = input(c.image);
  switch (c.op) {
    case "randAugment":
      return randAugmentOperation(c.name as RandAugmentOperation, sample, {
        rng: sign(c.negative as boolean),
        magnitude: c.magnitude as number,
        increasing: c.increasing as boolean,
        interpolation: c.interpolation as "bicubic",
        fill: c.fill as number[],
      });
    case "resize":
      return resize(c.size as number, { interpolation: c.interpolation }).apply(sample, rng);
    case "centerCrop":
      return centerCrop(c.size as number).apply(sample, rng);
    case "hue":
      return { ...sample, data: hue(sample.data as Uint8Array, 3, c.turn as number) };
  }
}

describe("Pillow's pixels", () => {
  test.each(
    fixture.cases.map((c) => [`${c.op} ${JSON.stringify({ ...c, op: undefined, shape: undefined, pixels: undefined })}`, c] as const),
  )("%s", (_, c) => {
    const before = input(c.image);
    const out = run(c);
    expect(out.shape).toEqual(c.shape);
    expect(out.label).toBe(3);
    expect([...out.data]).toEqual([...bytes(c.pixels)]);
    expect(input(c.image)).toEqual(before);
  });

  test("every operation of RandAugment is among them", () => {
    expect(new Set(fixture.cases.filter((c) => c.op === "randAugment").map((c) => c.name))).toEqual(new Set(randAugmentOperations));
  });

  test.each(fixture.floats)("normalize $image", ({ image, mean, std, values }) => {
    const expected = new Float32Array(bytes(values).buffer);
    const sample = input(image);
    expect(normalize({ mean, std }).apply(sample, rng).data).toEqual(expected);
    const floats = { ...sample, data: Float32Array.from(sample.data, (v) => v / 255) };
    expect(normalize({ mean, std }).apply(floats, rng).data).toEqual(expected);
  });
});
