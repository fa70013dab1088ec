/** Changes that give each byte another one by a table, as Pillow's ImageOps and timm's RandAugment define them. */

/** Pixels of any number of channels, byte by byte. */
function lookUp(bytes: Uint8Array, value: (v: number) => number): Uint8Array {
  const table = Uint8Array.from({ length: 256 }, (_, v) => value(v));
  return bytes.map((v) => table[v]!);
}

/** Each channel by a table that is made from its histogram; undefined for none. */
function lookUpByHistogram(
  bytes: Uint8Array,
  channels: number,
  tableOf: (histogram: Int32Array) => ((v: number) => number) | undefined,
): Uint8Array {
  const out = bytes.slice();
  for (let c = 0; c < channels; c++) {
    const histogram = new Int32Array(256);
    for (let p = c; p < bytes.length; p += channels) histogram[bytes[p]!]!++;
    const value = tableOf(histogram);
    if (!value) continue;
    const table = Uint8ClampedArray.from({ length: 256 }, (_, v) => Math.trunc(value(v)));
    for (let p = c; p < bytes.length; p += channels) out[p] = table[bytes[p]!]!;
  }
  return out;
}

/** Stretch each channel to 0..255. */
export function autoContrast(bytes: Uint8Array, channels: number): Uint8Array {
  return lookUpByHistogram(bytes, channels, (histogram) => {
    const low = histogram.findIndex((n) => n > 0);
    const high = histogram.findLastIndex((n) => n > 0);
    if (high <= low) return undefined;
    const scale = 255 / (high - low);
    const offset = -low * scale;
    return (v) => v * scale + offset;
  });
}

/** Make each channel's histogram flat. */
export function equalize(bytes: Uint8Array, channels: number): Uint8Array {
  return lookUpByHistogram(bytes, channels, (histogram) => {
    const last = histogram.findLast((n) => n > 0) ?? 0;
    const total = histogram.reduce((a, b) => a + b, 0);
    const step = Math.floor((total - last) / 255);
    if (step === 0) return undefined;
    const below = new Int32Array(256);
    for (let v = 1; v < 256; v++) below[v] = below[v - 1]! + histogram[v - 1]!;
    return (v) => Math.floor((Math.floor(step / 2) + below[v]!) / step);
  });
}

export function invert(bytes: Uint8Array): Uint8Array {
  return lookUp(bytes, (v) => 255 - v);
}

/** Keep the upper `bits` of each byte. */
export function posterize(bytes: Uint8Array, bits: number): Uint8Array {
  return lookUp(bytes, (v) => v & ~(2 ** (8 - bits) - 1));
}

/** Invert the bytes from `threshold` on. */
export function solarize(bytes: Uint8Array, threshold: number): Uint8Array {
  return lookUp(bytes, (v) => (v < threshold ? v : 255 - v));
}

/** Brighten the bytes below 128. */
export function solarizeAdd(bytes: Uint8Array, add: number): Uint8Array {
  return lookUp(bytes, (v) => (v < 128 ? Math.min(255, v + add) : v));
}
