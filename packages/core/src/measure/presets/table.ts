/** Energy by a model's own table: parts with operations by formula, each with the rates that its paper multiplies it with. */

/** A part of a network in a paper's table. */
export interface EnergyTableRow {
  part: string;
  /** What it computes, in few words. */
  what: string;
  /** Multiply-accumulates of one step, by the paper's formula. */
  ops: number;
  /** The same of the ANN it is compared with, where that is something else. */
  annOps?: number | undefined;
  operation: "mac" | "ac";
  /** Counted once instead of T times. */
  once?: boolean | undefined;
  /** Where its firing rate is read: values that the model reports by name, inputs of weight layers, or outputs of neurons. None: 1. */
  rate?: { taps?: readonly string[]; inputs?: readonly string[]; neurons?: readonly string[]; combine: "mean" | "sum" } | undefined;
}

export interface EnergyTable {
  /** The rule in words. */
  rule: string;
  timeSteps: number;
  /** D, where rows are multiplied with the mean integer (D x R) instead of a rate. */
  levels?: number | undefined;
  rows: readonly EnergyTableRow[];
}
