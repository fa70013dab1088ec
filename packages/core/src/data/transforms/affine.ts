/** Affine maps of images of bytes, as Pillow computes them. */
import { cos, sin } from "../../runtime/math.ts";

/** The input point (a x + b y + c, d x + e y + f) of an output point. Pixel centres are at halves. */
export type Affine = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

/** Counter-clockwise on screen around the middle. Coefficients have 15 decimal places, as Pillow's. */
export function rotation(degrees: number, height: number, width: number): Affine {
  const angle = (-degrees * Math.PI) / 180;
  const [c, s] = [Number(cos(angle).toFixed(15)), Number(sin(angle).toFixed(15))];
  const [x, y] = [width / 2, height / 2];
  return [c, s, c * -x + s * -y + x, -s, c, -s * -x + c * -y + y];
}

/**
 * The image under a map; output pixels whose input point is outside the image become `fill`. Neighbours outside are the border's
 * pixels, and values are rounded towards zero.
 * @param fill one value a channel, 0..255
 */
export function affine(
  bytes: Uint8Array,
  height: number,
  width: number,
  channels: number,
  [a, b, c, d, e, f]: Affine,
  interpolation: "bilinear" | "bicubic",
  fill: readonly number[],
): Uint8Array {
  const out = new Uint8Array(bytes.length);
  const taps = interpolation === "bilinear" ? 2 : 4;
  const mix = interpolation === "bilinear" ? linear : cubic;
  const columns = new Int32Array(taps);
  const rows = new Int32Array(taps);
  const values = new Float64Array(taps);
  const across = new Float64Array(taps);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const to = (y * width + x) * channels;
      const u = a * (x + 0.5) + b * (y + 0.5) + c;
      const v = d * (x + 0.5) + e * (y + 0.5) + f;
      if (!(u >= 0 && u < width && v >= 0 && v < height)) {
        out.set(fill, to);
        continue;
      }
      const left = Math.floor(u - 0.5);
      const top = Math.floor(v - 0.5);
      for (let k = 0; k < taps; k++) {
        const away = k + 1 - taps / 2;
        columns[k] = Math.max(0, Math.min(width - 1, left + away)) * channels;
        rows[k] = Math.max(0, Math.min(height - 1, top + away)) * width * channels;
      }
      for (let channel = 0; channel < channels; channel++) {
        for (let k = 0; k < taps; k++) {
          for (let j = 0; j < taps; j++) values[j] = bytes[rows[k]! + columns[j]! + channel]!;
          across[k] = mix(values, u - 0.5 - left);
        }
        out[to + channel] = Math.max(0, Math.min(255, mix(across, v - 0.5 - top)));
      }
    }
  return out;
}

function linear(p: Float64Array, d: number): number {
  return p[0]! + (p[1]! - p[0]!) * d;
}

/** Keys' filter with a = -1. */
function cubic(p: Float64Array, d: number): number {
  const [p0, p1, p2, p3] = [p[0]!, p[1]!, p[2]!, p[3]!];
  return p1 + d * (p2 - p0 + d * (2 * (p0 - p1) + p2 - p3 + d * (p1 - p0 - p2 + p3)));
}
