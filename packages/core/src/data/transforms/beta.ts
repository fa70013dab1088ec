/** Draws of the Beta distribution, for mixup. */
import { exp, log } from "../../runtime/math.ts";
import type { Stream } from "../../runtime/random.ts";

/** A word as a number in (0, 1) with all its 32 bits. */
function open(rng: Stream): number {
  return (rng.next() + 0.5) / 2 ** 32;
}

/**
 * Logarithm of a draw of the Gamma distribution of a shape > 0 and scale 1 (Marsaglia and Tsang 2000, "A simple method for generating
 * gamma variables"). Below 1 a draw of shape + 1 is multiplied by u^(1/shape); the logarithm does not underflow there.
 */
function logGamma(rng: Stream, shape: number): number {
  if (shape < 1) return logGamma(rng, shape + 1) + log(open(rng)) / shape;
  const d = shape - 1 / 3;
  for (;;) {
    const x = rng.normal();
    const root = 1 + x / Math.sqrt(9 * d);
    const v = root * root * root;
    if (v > 0 && log(open(rng)) < 0.5 * x * x + d * (1 - v + log(v))) return log(d * v);
  }
}

/** A draw of Beta(a, b), a and b > 0. */
export function beta(rng: Stream, a: number, b: number): number {
  return 1 / (1 + exp(-logGamma(rng, a) + logGamma(rng, b)));
}
