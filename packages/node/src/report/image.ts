/** Small pictures for pages: PNG files, the colours of a heat map, and pixels put together. */
import { crc32, deflateSync } from "node:zlib";

/** A PNG file (W3C PNG specification: 8 bits a channel, no filter). @param channels 1 grey, 3 red green blue */
export function png(pixels: Uint8Array, width: number, height: number, channels: 1 | 3): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 8;
  header[9] = channels === 1 ? 0 : 2;
  const stride = width * channels;
  const rows = Buffer.alloc(height * (stride + 1));
  for (let y = 0; y < height; y++) rows.set(pixels.subarray(y * stride, (y + 1) * stride), y * (stride + 1) + 1);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", deflateSync(rows, { level: 9 })), chunk("IEND", Buffer.alloc(0))]);
}

/** The same as a data URI. */
export function pngUri(pixels: Uint8Array, width: number, height: number, channels: 1 | 3): string {
  return `data:image/png;base64,${png(pixels, width, height, channels).toString("base64")}`;
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}

/**
 * Colour of a heat map at `x` from 0 (dark blue) through red to 1 (light yellow). Even steps of x are even steps of perceived
 * lightness: L, hue and chroma run in OKLab (B. Ottosson 2020, whose matrices these are), so the map also reads in grey.
 */
export function heat(x: number): [number, number, number] {
  const t = Math.min(1, Math.max(0, x));
  const lightness = 0.22 + 0.73 * t;
  const hue = ((265 + 200 * t) * Math.PI) / 180;
  const chroma = 0.06 + 0.44 * t * (1 - t) + 0.04 * t;
  const a = chroma * Math.cos(hue);
  const b = chroma * Math.sin(hue);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    encode(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    encode(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    encode(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

/** Linear light to an sRGB byte. */
function encode(value: number): number {
  const v = Math.min(1, Math.max(0, value));
  return Math.round(255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055));
}

/** Red, green and blue in reading order. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

/** A heat map. @param values width * height in reading order, @param max the value of the last colour */
export function heatMap(values: readonly number[], width: number, height: number, max: number): Pixels {
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) rgb.set(heat((values[i] ?? 0) / (max || 1)), 3 * i);
  return { width, height, rgb };
}

/** A heat map as a data URI. */
export function heatUri(values: readonly number[], width: number, height: number, max: number): string {
  return pngUri(heatMap(values, width, height, max).rgb, width, height, 3);
}

/** The same picture at another size, each pixel the one that lies there. */
export function scaled({ width, height, rgb }: Pixels, toWidth: number, toHeight: number): Pixels {
  const out = new Uint8Array(toWidth * toHeight * 3);
  for (let y = 0; y < toHeight; y++)
    for (let x = 0; x < toWidth; x++) {
      const from = 3 * (Math.floor((y * height) / toHeight) * width + Math.floor((x * width) / toWidth));
      out.set(rgb.subarray(from, from + 3), 3 * (y * toWidth + x));
    }
  return { width: toWidth, height: toHeight, rgb: out };
}

/** A picture in grey, tinted by a heat map over it: the more of its colour the larger the value. */
export function tinted(picture: Pixels, values: readonly number[], width: number, height: number, max: number): Pixels {
  const rgb = new Uint8Array(picture.rgb.length);
  for (let y = 0; y < picture.height; y++)
    for (let x = 0; x < picture.width; x++) {
      const at = 3 * (y * picture.width + x);
      const [r, g, b] = picture.rgb.subarray(at, at + 3) as unknown as [number, number, number];
      const grey = 0.299 * r + 0.587 * g + 0.114 * b;
      const value = (values[Math.floor((y * height) / picture.height) * width + Math.floor((x * width) / picture.width)] ?? 0) / (max || 1);
      const share = 0.35 + 0.4 * value;
      heat(value).forEach((c, i) => {
        rgb[at + i] = Math.round((1 - share) * grey + share * c);
      });
    }
  return { ...picture, rgb };
}

/** The colours from 0 to 1 as a CSS gradient. */
export const HEAT_GRADIENT = `linear-gradient(90deg, ${Array.from({ length: 11 }, (_, i) => `rgb(${heat(i / 10).join(" ")})`).join(", ")})`;
