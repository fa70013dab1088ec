/** Images on disk, decoded by sharp (libvips). It is loaded when the first image is read: nothing else needs it. */
import { type data, FormatError, SpikeloomError } from "spikeloom";
import { readFileChecked } from "./files.ts";

/** Endings of the image files that are looked for in folders. */
export const IMAGE_ENDINGS: readonly string[] = [".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".avif"];

// More than any published data set has; an image that claims more pixels is refused before it fills the memory.
const MAX_PIXELS = 2 ** 27;

let loading: Promise<typeof import("sharp").default> | undefined;

function loadSharp(): Promise<typeof import("sharp").default> {
  loading ??= import("sharp").then(
    (module) => module.default,
    (error: Error) => {
      loading = undefined;
      const reason = error.message.split("\n")[0];
      throw new SpikeloomError(`Reading images needs the package sharp, which could not be loaded (${reason}). Install it: npm i sharp.`, {
        cause: error,
      });
    },
  );
  return loading;
}

/**
 * An image file as [H, W, 3] bytes, as it is meant to be seen: turned by its EXIF orientation, grey as three equal channels, CMYK and 16
 * bits as RGB of 8 bits, transparency left out, of an animation the first picture.
 * @throws SpikeloomError when it cannot be read, FormatError when it is damaged or no image
 */
export async function readImage(path: string, label = 0): Promise<data.Sample> {
  const bytes = await readFileChecked(path, "image");
  const sharp = await loadSharp();
  try {
    const { data: pixels, info } = await sharp(bytes, { failOn: "error", limitInputPixels: MAX_PIXELS })
      .autoOrient()
      .toColourspace("srgb")
      .removeAlpha()
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`${info.channels} channels`);
    return { data: new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.length), shape: [info.height, info.width, 3], label };
  } catch (error) {
    const reason = (error as Error).message.trim().split("\n")[0];
    if (reason?.includes("pixel limit"))
      throw new FormatError(`${path}: expected an image of at most ${MAX_PIXELS} pixels, found a larger one. Scale it down.`, {
        cause: error,
      });
    throw new FormatError(
      `${path}: expected an image (JPEG, PNG, WebP, GIF, TIFF or AVIF), found something else or a damaged one (${reason}). Open it in a viewer; convert it, or download it again.`,
      { cause: error },
    );
  }
}
