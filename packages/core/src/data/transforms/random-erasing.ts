/** A rectangle of the image is lost (Zhong et al. 2020, "Random erasing data augmentation"), with timm's ranges. */
import { SpikeloomError } from "../../runtime/error.ts";
import { exp, log, roundHalfEven } from "../../runtime/math.ts";
import type { Transform } from "../dataset.ts";
import { framesOf, numberIn, oneOf, rangeAbove0, transform, uniformIn } from "./image.ts";

export interface RandomErasingOptions {
  /** Default 0.5. */
  readonly probability?: number | undefined;
  /** Smallest and largest area, of the image's. Default [0.02, 1/3]. */
  readonly scale?: readonly [number, number] | undefined;
  /** Smallest and largest height / width. Default [0.3, 1/0.3]. */
  readonly ratio?: readonly [number, number] | undefined;
  /** "const": zero, which after normalisation is the mean colour; "pixel": standard normal noise. Default "const". */
  readonly mode?: "const" | "pixel" | undefined;
}

/** For normalised samples, so after `normalize`. Frames of a recording lose the same rectangle. */
export function randomErasing({
  probability = 0.5,
  scale = [0.02, 1 / 3],
  ratio = [0.3, 1 / 0.3],
  mode = "const",
}: RandomErasingOptions = {}): Transform {
  const name = "randomErasing";
  numberIn(`${name} probability`, probability, 0, 1);
  rangeAbove0(`${name} scale`, scale);
  rangeAbove0(`${name} ratio`, ratio);
  oneOf(`${name} mode`, mode, ["const", "pixel"]);
  return transform(name, (sample, rng) => {
    const { frames, height, width, channels } = framesOf(sample, name);
    if (sample.data instanceof Uint8Array)
      throw new SpikeloomError(`${name}: expected normalised pixels, found bytes. Put ${name} after normalize.`);
    if (rng.uniform() >= probability) return sample;
    for (let attempt = 0; attempt < 10; attempt++) {
      const area = uniformIn(rng, ...scale) * height * width;
      const aspect = exp(uniformIn(rng, log(ratio[0]), log(ratio[1])));
      const h = roundHalfEven(Math.sqrt(area * aspect));
      const w = roundHalfEven(Math.sqrt(area / aspect));
      if (h >= height || w >= width) continue;
      const top = rng.uniformInt(height - h + 1);
      const left = rng.uniformInt(width - w + 1);
      const data = sample.data.slice();
      for (let t = 0; t < frames; t++)
        for (let row = top; row < top + h; row++) {
          const from = ((t * height + row) * width + left) * channels;
          for (let p = from; p < from + w * channels; p++) data[p] = mode === "pixel" ? rng.normal() : 0;
        }
      return { ...sample, data };
    }
    return sample;
  });
}
