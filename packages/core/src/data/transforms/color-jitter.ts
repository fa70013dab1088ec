/** Random changes of brightness, contrast, saturation and hue, in random order, as torchvision's ColorJitter makes them. */
import type { Transform } from "../dataset.ts";
import { brightness, color, contrast, hue } from "./enhance.ts";
import { imageOf, numberIn, transform, uniformIn } from "./image.ts";

export interface ColorJitterOptions {
  /** Each of these three by a factor from 1 - this (at least 0) to 1 + this. */
  readonly brightness?: number | undefined;
  readonly contrast?: number | undefined;
  readonly saturation?: number | undefined;
  /** The hue by up to this part of a whole turn, 0 to 0.5, either way. */
  readonly hue?: number | undefined;
}

/** For images of bytes with one or three channels; saturation and hue leave one channel as it is. */
export function colorJitter(options: ColorJitterOptions): Transform {
  const strength = { brightness: 0, contrast: 0, saturation: 0, hue: 0 };
  for (const key of ["brightness", "contrast", "saturation", "hue"] as const)
    strength[key] = numberIn(`colorJitter ${key}`, options[key] ?? 0, 0, key === "hue" ? 0.5 : Infinity);
  return transform("colorJitter", (sample, rng) => {
    const { bytes, channels } = imageOf(sample, "colorJitter");
    const order = rng.permutation(4);
    const factor = (s: number) => uniformIn(rng, Math.max(0, 1 - s), 1 + s);
    const by = [
      factor(strength.brightness),
      factor(strength.contrast),
      factor(strength.saturation),
      uniformIn(rng, -strength.hue, strength.hue),
    ];
    const changes = [
      strength.brightness > 0 && ((b: Uint8Array, f: number) => brightness(b, f)),
      strength.contrast > 0 && ((b: Uint8Array, f: number) => contrast(b, channels, f)),
      strength.saturation > 0 && ((b: Uint8Array, f: number) => color(b, channels, f)),
      strength.hue > 0 && ((b: Uint8Array, f: number) => hue(b, channels, f)),
    ];
    let data = bytes;
    for (const which of order) {
      const change = changes[which];
      if (change) data = change(data, by[which]!);
    }
    return { ...sample, data };
  });
}
