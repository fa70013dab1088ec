/**
 * Operations that have several implementations, and which one runs. The choice is a pure function of the instruction set, the
 * shapes and integer spike counts, never of time or threads, so that a run repeats bit for bit; each can be forced for tests and benchmarks by
 * `init({ implementations })` or SPIKELOOM_IMPLEMENTATIONS=operation=name,...
 */
import { kindOf } from "./check.ts";
import { LANES, mostEventBits, PRICES, type ProductShape } from "./costs.ts";
import { nearest, SpikeloomError } from "./error.ts";

/** Operation -> its implementations, the default first. */
export const IMPLEMENTATIONS = {
  /**
   * A convolution or product fed with spikes: `event` adds a weight row for every spike; `dense` unpacks and multiplies. Where none is
   * forced the cheaper one runs (see `spikeImplementation`). On matrix units `dense` unpacks to tiles, without memory for it.
   */
  spikeProduct: ["event", "dense"],
  /** Its weight gradient, likewise. */
  spikeProductGradWeight: ["event", "dense"],
  /** The input gradient of a 3 x 3 convolution with stride 1: by Winograd's F(4 x 4, 3 x 3) where its tiles fit, or `direct`. */
  convGradInput: ["winograd", "direct"],
  /** A product of floats where there are matrix units: in float32, or on their tiles (see tiles.ts). */
  denseProduct: ["vectors", "tiles"],
} as const;

/** An operation that has several. */
export type Implemented = keyof typeof IMPLEMENTATIONS;

/** An implementation for each of some operations. */
export type ImplementationChoice = { readonly [O in Implemented]?: (typeof IMPLEMENTATIONS)[O][number] };

let forced: ImplementationChoice = {};

/** The choice, checked. `where` names it in messages. @throws SpikeloomError for an unknown operation or name */
export function checkImplementations(where: string, choice: Readonly<Record<string, string | undefined>>): ImplementationChoice {
  if (typeof choice !== "object" || choice === null || Array.isArray(choice))
    throw new SpikeloomError(`${where}: implementations must be an object such as { spikeProduct: "dense" }, found ${kindOf(choice)}`);
  for (const [operation, name] of Object.entries(choice)) {
    const known = (IMPLEMENTATIONS as Readonly<Record<string, readonly string[]>>)[operation];
    if (!known) throw new SpikeloomError(`${where}: there is no operation "${operation}"${hint(operation, Object.keys(IMPLEMENTATIONS))}`);
    if (name !== undefined && !known.includes(name))
      throw new SpikeloomError(`${where}: ${operation} has no implementation "${name}"${hint(name, known)}`);
  }
  return choice as ImplementationChoice;
}

/** Force implementations, and forget what was forced before. */
export function forceImplementations(choice: ImplementationChoice): void {
  forced = choice;
}

/** What is forced now, for a checkpoint to remember. */
export function forcedImplementations(): ImplementationChoice {
  return forced;
}

/** The choice that text such as `spikeProduct=dense` makes, checked. */
export function parseImplementations(where: string, text: string): ImplementationChoice {
  const parts = text.split(",").map((part) => {
    const [operation, name, more] = part.split("=");
    if (!operation || !name || more !== undefined) throw new SpikeloomError(`${where}: expected operation=name, found "${part}"`);
    return [operation.trim(), name.trim()];
  });
  return checkImplementations(where, Object.fromEntries(parts));
}

/**
 * Which implementation of a product with spikes runs: events where they are few, by the costs of the instruction set.
 * @param count gives the set bits of all planes; asked only where they decide
 */
export function spikeImplementation(
  operation: "spikeProduct" | "spikeProductGradWeight",
  isa: string,
  shape: ProductShape,
  planes: number,
  count: () => number,
): "event" | "dense" {
  const prices = PRICES[isa]?.[operation];
  const most = prices && !forced[operation] ? mostEventBits(prices, operation, shape, planes, LANES[isa] ?? 4) : Number.POSITIVE_INFINITY;
  const name = forced[operation] ?? (most === Number.POSITIVE_INFINITY || count() <= most ? "event" : "dense");
  observer?.(operation, name);
  return name;
}

let observer: ((operation: Implemented, name: string) => void) | undefined;

/** Tell `fn` of every choice that is made, until it is called with undefined: for profiles. */
export function observeChoices(fn: typeof observer): void {
  observer = fn;
}

/** Which implementation of an operation runs. */
export function implementation<O extends Implemented>(operation: O): (typeof IMPLEMENTATIONS)[O][number] {
  const name = forced[operation] ?? IMPLEMENTATIONS[operation][0];
  observer?.(operation, name);
  return name;
}

/** Was the implementation of an operation chosen by hand? */
export function implementationForced(operation: Implemented): boolean {
  return forced[operation] !== undefined;
}

function hint(word: string, candidates: readonly string[]): string {
  const near = nearest(word, candidates);
  return `${near ? `, did you mean "${near}"?` : ""} (one of ${candidates.join(", ")})`;
}
