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
   * A convolution or product fed with spikes: `event` adds a weight row for every spike; `table` looks up sums of weight rows; `dense`
   * unpacks and multiplies. Where none is forced the cheaper one runs (see `tablesRun` and `spikeImplementation`). On matrix units
   * `dense` unpacks to tiles, without memory for it, and takes the place of tables unless those are forced.
   */
  spikeProduct: ["event", "table", "dense"],
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

/** Raise it when a rule that chooses between implementations changes and no price does: a resumed run then says that its last bits may differ. */
export const CHOICE_VERSION = 1;

let forced: ImplementationChoice = {};

/** The choice, checked. `where` names it in messages. @throws SpikeloomError for an unknown operation or name */
export function checkImplementations(where: string, choice: Readonly<Record<string, string | undefined>>): ImplementationChoice {
  if (typeof choice !== "object" || choice === null || Array.isArray(choice))
    throw new SpikeloomError(`${where}: implementations must be an object such as { spikeProduct: "dense" }, found ${kindOf(choice)}`);
  for (const [operation, name] of Object.entries(choice)) {
    const known = Object.hasOwn(IMPLEMENTATIONS, operation) ? IMPLEMENTATIONS[operation as Implemented] : undefined;
    if (!known) throw new SpikeloomError(`${where}: there is no operation "${operation}"${hint(operation, Object.keys(IMPLEMENTATIONS))}`);
    if (name !== undefined && !(known as readonly string[]).includes(name))
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
  const chosen = forced[operation] ?? (most === Number.POSITIVE_INFINITY || count() <= most ? "event" : "dense");
  // Tables were asked about before: where they are forced but have no room, events come next.
  const name = chosen === "table" ? "event" : chosen;
  observer?.(operation, name);
  return name;
}

/**
 * From which share of spikes on tables take less time than events (measured on Zen 4 for 3 x 3 and 1 x 1 windows of 64 to 2048 channels):
 * vectors of four lanes need four loads where one of sixteen needs one. A device that is not here makes none,
 * nor does one with matrix units.
 */
export const TABLES_FROM: Readonly<Record<string, number>> = {
  avx512: 0.22,
  avx2: 0.24,
  baseline: 0.36,
  neon: 0.47,
  simd128: 0.36,
  "relaxed-simd": 0.36,
};

/**
 * Does a product with spikes go by tables, which are made for so many pixels?
 * @param share gives the part of the elements that spike; asked only where it decides
 */
export function tablesRun(isa: string, pixels: number, share: () => number): boolean {
  // Few pixels pay for the making of the tables later, or never.
  const from = (TABLES_FROM[isa] ?? Number.POSITIVE_INFINITY) + 16 / pixels;
  const yes = forced.spikeProduct ? forced.spikeProduct === "table" : from < 1 && share() > from;
  if (yes) observer?.("spikeProduct", "table");
  return yes;
}

type Observer = (operation: Implemented, name: string) => void;

let observer: Observer | undefined;

/** Tell `fn` of every choice from now on, or nobody; gives who was told before. For profiles. */
export function observeChoices(fn: Observer | undefined): Observer | undefined {
  const before = observer;
  observer = fn;
  return before;
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
