/**
 * Contrast, brightness, colour, sharpness and hue of images of bytes, as Pillow computes them: a plain version of the image (grey,
 * black, blurred) is blended with the image itself, beyond it where the factor is above 1. Arithmetic is in float32 as there.
 */

type Channels = 1 | 3;

/** Luma of each pixel by ITU-R BT.601 in 16 binary places. */
export function luma(bytes: Uint8Array, channels: Channels): Uint8Array {
  if (channels === 1) return bytes;
  const out = new Uint8Array(bytes.length / 3);
  for (let p = 0; p < out.length; p++)
    out[p] = (bytes[3 * p]! * 19595 + bytes[3 * p + 1]! * 38470 + bytes[3 * p + 2]! * 7471 + 0x8000) >> 16;
  return out;
}

/** plain + factor (image - plain), rounded towards zero and clipped to bytes. */
function blend(plain: (p: number) => number, bytes: Uint8Array, factor: number): Uint8Array {
  const alpha = Math.fround(factor);
  const out = new Uint8Array(bytes.length);
  for (let p = 0; p < bytes.length; p++) {
    const from = plain(p);
    const value = Math.fround(from + Math.fround(alpha * (bytes[p]! - from)));
    out[p] = Math.max(0, Math.min(255, value));
  }
  return out;
}

/** Factor 0: a grey image, 1: the image, 2: twice the difference between them. An image of one channel stays as it is. */
export function color(bytes: Uint8Array, channels: Channels, factor: number): Uint8Array {
  if (channels === 1) return bytes;
  const grey = luma(bytes, channels);
  return blend((p) => grey[(p / 3) | 0]!, bytes, factor);
}

/** Factor 0: everywhere the mean luma. */
export function contrast(bytes: Uint8Array, channels: Channels, factor: number): Uint8Array {
  const grey = luma(bytes, channels);
  const mean = Math.floor(grey.reduce((a, b) => a + b, 0) / grey.length + 0.5);
  return blend(() => mean, bytes, factor);
}

/** Factor 0: black. */
export function brightness(bytes: Uint8Array, factor: number): Uint8Array {
  return blend(() => 0, bytes, factor);
}

/** Factor 0: each pixel that has eight neighbours becomes a mean in which it counts five times. */
export function sharpness(bytes: Uint8Array, height: number, width: number, channels: Channels, factor: number): Uint8Array {
  const smooth = bytes.slice();
  const row = width * channels;
  for (let y = 1; y < height - 1; y++)
    for (let p = y * row + channels; p < (y + 1) * row - channels; p++) {
      let sum = 4 * bytes[p]!;
      for (let dy = -row; dy <= row; dy += row) sum += bytes[p + dy - channels]! + bytes[p + dy]! + bytes[p + dy + channels]!;
      smooth[p] = Math.floor(sum / 13 + 0.5);
    }
  return blend((p) => smooth[p]!, bytes, factor);
}

/** Turn the hue by `turn` of a whole turn, -1/2 to 1/2, in steps of 1/255. An image of one channel stays as it is. */
export function hue(bytes: Uint8Array, channels: Channels, turn: number): Uint8Array {
  if (channels === 1) return bytes;
  const shift = Math.trunc(turn * 255);
  const out = new Uint8Array(bytes.length);
  for (let p = 0; p < bytes.length; p += 3) {
    const [h, s, v] = toHsv(bytes[p]!, bytes[p + 1]!, bytes[p + 2]!);
    out.set(toRgb((h + shift) & 255, s, v), p);
  }
  return out;
}

const f = Math.fround;

/** Hue, saturation and value as bytes. */
function toHsv(r: number, g: number, b: number): [number, number, number] {
  const value = Math.max(r, g, b);
  const range = value - Math.min(r, g, b);
  if (range === 0) return [0, 0, value];
  const [rc, gc, bc] = [f((value - r) / range), f((value - g) / range), f((value - b) / range)];
  const sixths = f(r === value ? bc - gc : g === value ? 2 + rc - bc : 4 + gc - rc);
  const h = f((sixths / 6 + 1) % 1);
  return [Math.trunc(h * 255), Math.trunc(f(range / value) * 255), value];
}

function toRgb(h: number, s: number, v: number): [number, number, number] {
  if (s === 0) return [v, v, v];
  const sector = Math.floor((h * 6) / 255);
  const part = f((h * 6) / 255 - sector);
  const saturation = f(s / 255);
  const p = Math.round(v * (1 - saturation));
  const q = Math.round(v * (1 - saturation * part));
  const t = Math.round(v * (1 - saturation * (1 - part)));
  switch (sector % 6) {
    case 0:
      return [v, t, p];
    case 1:
      return [q, v, p];
    case 2:
      return [p, v, t];
    case 3:
      return [p, q, v];
    case 4:
      return [t, p, v];
    default:
      return [v, p, q];
  }
}
