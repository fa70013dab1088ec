/** Checks of what callers give: mistakes that the types forbid and JavaScript allows, told before they become a TypeError. */
import { nearest, SpikeloomError } from "./error.ts";

/**
 * Check that `options` is an object with no other keys than `known`. The compiler checks that `known` names every option.
 * @param where what takes the options, for the message: `Conv2d`, `conv2d`
 * @throws SpikeloomError naming the unknown option, with the nearest known one
 */
export function checkOptions<T extends object, const K extends string>(
  where: string,
  options: T,
  known: readonly K[] & ([Exclude<keyof T, K>] extends [never] ? unknown : never),
): void {
  if (typeof options !== "object" || options === null || Array.isArray(options) || ArrayBuffer.isView(options))
    throw new SpikeloomError(`${where}: options must be an object with ${known.join(", ")}, found ${kindOf(options)}`);
  for (const key in options) {
    if ((known as readonly string[]).includes(key)) continue;
    const near = nearest(key, known);
    throw new SpikeloomError(
      `${where}: there is no option "${key}"${near ? `, did you mean "${near}"?` : ""} (${known.length ? `one of ${known.join(", ")}` : "it takes none"})`,
    );
  }
}

/** Check that a callback is a function. */
export function checkFunction(where: string, argument: string, value: unknown): void {
  if (typeof value !== "function") throw new SpikeloomError(`${where}: ${argument} must be a function, found ${kindOf(value)}`);
}

/** Check that a file is given as bytes. */
export function checkBytes(where: string, value: unknown): void {
  if (!(value instanceof Uint8Array))
    throw new SpikeloomError(
      `${where}: the file must be given as its bytes, a Uint8Array (new Uint8Array(buffer), or what Node's readFile gives), found ${kindOf(value)}`,
    );
}

/** Check that an argument is a Map, and not a plain object. */
export function checkMap(where: string, value: unknown): void {
  if (!(value instanceof Map))
    throw new SpikeloomError(`${where}: expected a Map by name (new Map(Object.entries(...)) of an object), found ${kindOf(value)}`);
}

/** What a value is, in a few words, for "found ...": `"abc"`, `NaN`, `an array of 3`, `a Float32Array of 4`, `a Map`. */
export function kindOf(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value);
  if (typeof value === "function") return value.name ? `the function ${value.name}` : "a function";
  if (typeof value !== "object" || value === null) return typeof value === "bigint" ? `${value}n` : String(value);
  const name = (value as { constructor?: { name?: unknown } }).constructor?.name;
  const kind = typeof name === "string" && name ? name : "Object";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  const article = /^(?!Uint)[AEIOU]/.test(kind) ? "an" : "a";
  return kind === "Object"
    ? "an object"
    : `${article} ${kind}${ArrayBuffer.isView(value) && "length" in value ? ` of ${value.length}` : ""}`;
}
