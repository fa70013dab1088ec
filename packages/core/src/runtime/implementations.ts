/**
 * Operations that have several implementations, and which one runs. The choice is a pure function of the instruction set, the
 * shapes and integer spike counts, never of time or threads, so that a run repeats bit for bit; each can be forced for tests and benchmarks by
 * `init({ implementations })` or SPIKELOOM_IMPLEMENTATIONS=operation=name,...
 */
import { nearest, SpikeloomError } from "./error.ts";

/** Operation -> its implementations, the default first. */
export const IMPLEMENTATIONS = {
  /**
   * A convolution or product fed with spikes: `event` adds a weight row for every spike, `table` looks up sums of weight rows, `dense`
   * unpacks and multiplies; `auto` is the first or the second by the number of spikes.
   */
  spikeProduct: ["auto", "event", "table", "dense"],
  /** Its weight gradient, likewise. */
  spikeProductGradWeight: ["event", "dense"],
} as const;

/** An operation that has several. */
export type Implemented = keyof typeof IMPLEMENTATIONS;

/** An implementation for each of some operations. */
export type ImplementationChoice = { readonly [O in Implemented]?: (typeof IMPLEMENTATIONS)[O][number] };

let forced: ImplementationChoice = {};

/** The choice, checked. @throws SpikeloomError for an unknown operation or name */
export function checkImplementations(choice: Readonly<Record<string, string | undefined>>): ImplementationChoice {
  for (const [operation, name] of Object.entries(choice)) {
    const known = (IMPLEMENTATIONS as Readonly<Record<string, readonly string[]>>)[operation];
    if (!known)
      throw new SpikeloomError(`implementations: there is no operation "${operation}"${hint(operation, Object.keys(IMPLEMENTATIONS))}`);
    if (name !== undefined && !known.includes(name))
      throw new SpikeloomError(`implementations: ${operation} has no implementation "${name}"${hint(name, known)}`);
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

/** The choice that text such as `spikeProduct=dense` makes. */
export function parseImplementations(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split(",").map((part) => {
      const [operation, name] = part.split("=");
      if (!operation || !name) throw new SpikeloomError(`SPIKELOOM_IMPLEMENTATIONS: expected operation=name, found "${part}"`);
      return [operation.trim(), name.trim()];
    }),
  );
}

/** Which implementation of an operation runs. */
export function implementation<O extends Implemented>(operation: O): (typeof IMPLEMENTATIONS)[O][number] {
  return forced[operation] ?? IMPLEMENTATIONS[operation][0];
}

function hint(word: string, candidates: readonly string[]): string {
  const near = nearest(word, candidates);
  return `${near ? `, did you mean "${near}"?` : ""} (one of ${candidates.join(", ")})`;
}
