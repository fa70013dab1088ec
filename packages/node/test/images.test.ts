// Where sharp is not installed, only reading an image fails, and says how to mend it.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SpikeloomError } from "spikeloom";
import { expect, test, vi } from "vitest";
import { datasets } from "../src/datasets/index.ts";
import { readImage } from "../src/images.ts";

vi.mock("sharp", () => {
  throw new Error("Cannot find package 'sharp'");
});

test("without sharp", async () => {
  expect(Object.keys(datasets)).toContain("image-folder");
  const dir = await mkdtemp(join(tmpdir(), "spikeloom-"));
  try {
    const path = join(dir, "a.png");
    await writeFile(path, "");
    await expect(readImage(path)).rejects.toThrow(SpikeloomError);
    await expect(readImage(path)).rejects.toThrow(/Reading images needs the package sharp, .*Install it: npm i sharp/);
  } finally {
    await rm(dir, { recursive: true });
  }
});
