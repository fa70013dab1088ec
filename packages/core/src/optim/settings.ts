/** Settings of optimisers: defaults filled in, wrong names and values refused before anything is trained with them. */
import { nearest, SpikeloomError } from "../runtime/error.ts";

/** Settings as a caller gives them: any of them, undefined for the default. */
export type Given<S> = { readonly [K in keyof S]?: S[K] | undefined };

/** @throws SpikeloomError naming a key that is none of `known`, and the nearest that is */
export function knownNames(what: string, known: readonly string[], given: object): void {
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue;
    const near = nearest(key, known);
    throw new SpikeloomError(`${what}: unknown setting "${key}"${near ? `, did you mean "${near}"?` : ` (one of ${known.join(", ")})`}`);
  }
}

/** @throws SpikeloomError unless the value is a finite number >= 0 */
export function numberSetting(what: string, key: string, value: unknown): void {
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0)
    throw new SpikeloomError(`${what}: ${key} must be a number >= 0, found ${String(value)}`);
}

/** The defaults with what was given in their place. Values must be of the default's type; betas lie in [0, 1). */
export function withDefaults<S extends object>(what: string, defaults: S, given: Given<S>): S {
  knownNames(what, Object.keys(defaults), given);
  const settings = { ...defaults };
  for (const [key, initial] of Object.entries(defaults) as [keyof S & string, unknown][]) {
    const value = given[key];
    if (value === undefined) continue;
    if (typeof initial === "boolean") {
      if (typeof value !== "boolean") throw new SpikeloomError(`${what}: ${key} must be true or false, found ${String(value)}`);
    } else if (Array.isArray(initial)) {
      if (!Array.isArray(value) || value.length !== initial.length || !value.every((v) => typeof v === "number" && v >= 0 && v < 1))
        throw new SpikeloomError(
          `${what}: ${key} must be in [0, 1), found ${Array.isArray(value) ? `[${value.join(", ")}]` : String(value)}`,
        );
    } else numberSetting(what, key, value);
    settings[key] = value as S[typeof key];
  }
  return settings;
}

/** 1 - beta^n, the power by squaring: the same bits on every host, unlike Math.pow. */
export function biasCorrection(beta: number, n: number): number {
  let power = 1;
  for (let b = beta, k = n; k > 0; k = Math.floor(k / 2), b *= b) if (k % 2) power *= b;
  return 1 - power;
}
