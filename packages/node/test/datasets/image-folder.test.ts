// Image folders: order of classes and files, kinds of images, and what is wrong with them.
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { type data, FormatError, SpikeloomError } from "spikeloom";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { imageFolder } from "../../src/datasets/image-folder.ts";
import { readImage } from "../../src/images.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "spikeloom-"));
});
afterEach(async () => {
  await rm(dir, { recursive: true });
});

type Channels = 1 | 2 | 3 | 4;
const raw = (pixels: ArrayLike<number>, width: number, height: number, channels: Channels) =>
  sharp(Uint8Array.from(pixels), { raw: { width, height, channels } });

/** An image of one colour. */
const plain = (value: number) => raw(new Array<number>(12).fill(value), 2, 2, 3).png().toBuffer();

async function put(path: string, bytes: Uint8Array): Promise<void> {
  const to = join(dir, path);
  await mkdir(dirname(to), { recursive: true });
  await writeFile(to, bytes);
}

describe("folders of classes", () => {
  test("classes and images by name, nested folders, other files left out", async () => {
    await put("train/b/2.png", await plain(2));
    await put("train/b/10.PNG", await plain(1));
    await put("train/a/deep/x.png", await plain(3));
    await put("train/B/y.jpeg", await raw(new Array<number>(12).fill(200), 2, 2, 3).jpeg().toBuffer());
    await put("train/a/notes.txt", new Uint8Array(3));
    await put("train/a/.hidden.png", new Uint8Array(3));
    await put("train/.cache/x.png", new Uint8Array(3));
    await put("val/b/z.png", await plain(9));
    await put("elsewhere/q.png", await plain(8));
    await symlink(join(dir, "elsewhere"), join(dir, "train", "c"));
    await symlink(join(dir, "train"), join(dir, "train", "a", "loop"));
    const { train, test: held } = await imageFolder.load({ dir });
    expect([train.classNames, train.classes, train.length, held.length, train.concurrent]).toEqual([["B", "a", "b", "c"], 4, 5, 1, true]);
    expect(held.classNames).toEqual(train.classNames);
    const all = await Promise.all([0, 1, 2, 3, 4].map((i) => train.get(i)));
    expect(all.map((s: data.Sample) => [s.label, s.data[0], s.shape])).toEqual([
      [0, 200, [2, 2, 3]],
      [1, 3, [2, 2, 3]],
      [2, 1, [2, 2, 3]],
      [2, 2, [2, 2, 3]],
      [3, 8, [2, 2, 3]],
    ]);
    expect(((await held.get(0)) as data.Sample).label).toBe(2);
  });

  test("what is missing", async () => {
    await expect(imageFolder.load({})).rejects.toThrow(/Image folder: no folder given\. Name one that has train\/CLASS/);
    await expect(imageFolder.load({ dir })).rejects.toThrow("found no val/ or test/.");
    await put("test/cat/1.png", await plain(1));
    await expect(imageFolder.load({ dir })).rejects.toThrow("found no train/.");
    await mkdir(join(dir, "train"));
    await expect(imageFolder.load({ dir })).rejects.toThrow("expected a folder of images for each class, found no folder");
    await put("train/cats/1.txt", new Uint8Array(1));
    await expect(imageFolder.load({ dir })).rejects.toThrow(`${join(dir, "test", "cat")}: expected a class that train/ has`);
    await expect(imageFolder.load({ dir })).rejects.toThrow("Is it cats?");
    await put("test/cats/1.png", await plain(1));
    await rm(join(dir, "test", "cat"), { recursive: true });
    await expect(imageFolder.load({ dir })).rejects.toThrow(/train.cats: expected images \(\.jpg, .*found none/);
    await put("train/cats/1.png", await plain(1));
    expect((await imageFolder.load({ dir })).train.length).toBe(1);
  });

  test("a broken image is named when its turn comes", async () => {
    await put("train/a/good.png", await plain(1));
    await put("train/a/zbad.png", (await plain(1)).subarray(0, 60));
    await put("val/a/good.png", await plain(1));
    const { train } = await imageFolder.load({ dir });
    await train.get(0);
    await expect(train.get(1)).rejects.toThrow(FormatError);
    await expect(train.get(1)).rejects.toThrow(`${join(dir, "train", "a", "zbad.png")}: expected an image`);
  });
});

describe("readImage", () => {
  const read = async (bytes: Uint8Array) => {
    await put("image", bytes);
    return readImage(join(dir, "image"), 5);
  };
  const noise = Uint8Array.from({ length: 6 * 5 * 3 }, (_, i) => (i * 89) % 256);

  test("RGB byte for byte", async () => {
    expect(await read(await raw(noise, 6, 5, 3).png().toBuffer())).toEqual({ data: noise, shape: [5, 6, 3], label: 5 });
    expect((await read(await raw(noise, 6, 5, 3).webp({ lossless: true }).toBuffer())).data).toEqual(noise);
    expect((await read(await raw(noise, 6, 5, 3).tiff({ compression: "lzw" }).toBuffer())).data).toEqual(noise);
  });

  test("grey, transparency, 16 bits, a palette", async () => {
    const three = (values: number[]) => Uint8Array.from(values.flatMap((v) => [v, v, v]));
    expect((await read(await raw([1, 20, 255, 77], 2, 2, 1).toColourspace("b-w").png().toBuffer())).data).toEqual(three([1, 20, 255, 77]));
    expect((await read(await raw([1, 0, 20, 9, 255, 255, 77, 128], 2, 2, 2).toColourspace("b-w").png().toBuffer())).data).toEqual(
      three([1, 20, 255, 77]),
    );
    expect([...(await read(await raw([10, 20, 30, 0, 40, 50, 60, 128], 2, 1, 4).png().toBuffer())).data]).toEqual([10, 20, 30, 40, 50, 60]);
    const wide = sharp(Uint16Array.from([0, 256, 65535, 4000, 50000, 300]), { raw: { width: 2, height: 1, channels: 3 } });
    const deep = await wide.toColourspace("rgb16").png().toBuffer();
    expect((await sharp(deep).metadata()).depth).toBe("ushort");
    expect([...(await read(deep)).data]).toEqual([0, 1, 255, 15, 195, 1]);
    const flat = Uint8Array.from({ length: 27 }, (_, i) => [250, 10, 90][i % 3] as number);
    expect((await read(await raw(flat, 3, 3, 3).png({ palette: true }).toBuffer())).data).toEqual(flat);
  });

  test("CMYK becomes RGB, roughly as it looks", async () => {
    const flat = Uint8Array.from({ length: 16 * 16 * 3 }, (_, i) => [180, 120, 60][i % 3] as number);
    const cmyk = await raw(flat, 16, 16, 3).toColourspace("cmyk").jpeg({ quality: 100 }).toBuffer();
    expect((await sharp(cmyk).metadata()).space).toBe("cmyk");
    const { data: pixels, shape } = await read(cmyk);
    expect(shape).toEqual([16, 16, 3]);
    for (let c = 0; c < 3; c++) expect(Math.abs((pixels[c] as number) - (flat[c] as number))).toBeLessThan(30);
  });

  test("EXIF orientation", async () => {
    // Two rows of three: 1 2 3 over 4 5 6. Orientation 6 is seen turned clockwise.
    const values = [1, 2, 3, 4, 5, 6].flatMap((v) => [v, v, v]);
    const turned = await read(await raw(values, 3, 2, 3).png().withMetadata({ orientation: 6 }).toBuffer());
    expect(turned.shape).toEqual([3, 2, 3]);
    expect([0, 1, 2, 3, 4, 5].map((p) => turned.data[3 * p])).toEqual([4, 1, 5, 2, 6, 3]);
    const mirrored = await read(await raw(values, 3, 2, 3).png().withMetadata({ orientation: 2 }).toBuffer());
    expect([0, 1, 2, 3, 4, 5].map((p) => mirrored.data[3 * p])).toEqual([3, 2, 1, 6, 5, 4]);
  });

  test("truncated and corrupted files", async () => {
    const jpeg = await raw(
      new Uint8Array(64 * 64 * 3).map((_, i) => (i * 7919) % 256),
      64,
      64,
      3,
    )
      .jpeg()
      .toBuffer();
    for (const share of [0.1, 0.5, 0.95]) await expect(read(jpeg.subarray(0, jpeg.length * share))).rejects.toThrow(FormatError);
    await expect(read(new Uint8Array(0))).rejects.toThrow(FormatError);
    await expect(read(new TextEncoder().encode("not an image"))).rejects.toThrow(/image: expected an image .* found something else/);
    const png = await raw(noise, 6, 5, 3).png().toBuffer();
    for (let at = 0; at < png.length; at += 3) {
      const bytes = Uint8Array.from(png);
      bytes[at] = (bytes[at] as number) ^ 0x55;
      await read(bytes).then(
        ({ data: pixels, shape }) => expect(pixels.length).toBe((shape[0] as number) * (shape[1] as number) * 3),
        (error) => expect(error).toBeInstanceOf(FormatError),
      );
    }
    await expect(readImage(join(dir, "nowhere.png"))).rejects.toThrow(SpikeloomError);
    await expect(readImage(join(dir, "nowhere.png"))).rejects.toThrow("there is no such file");
  });

  test("a header that claims a huge image", async () => {
    // A PNG of one pixel whose header is changed to 60000 x 60000, its checksum with it.
    const png = Uint8Array.from(await plain(1));
    new DataView(png.buffer).setUint32(16, 60000);
    new DataView(png.buffer).setUint32(20, 60000);
    let crc = -1;
    for (const byte of png.subarray(12, 29)) {
      crc ^= byte;
      for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
    new DataView(png.buffer).setUint32(29, ~crc >>> 0);
    await expect(read(png)).rejects.toThrow(/expected an image of at most 134217728 pixels/);
  });
});
