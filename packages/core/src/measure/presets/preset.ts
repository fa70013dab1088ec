/** What an energy convention is: data, and a small function that prices one layer. */
import type { LayerOperations, Operations } from "../operations.ts";
import type { EnergyTable } from "./table.ts";

export interface EnergyCosts {
  name: string;
  /** Picojoules a multiply-accumulate and an accumulate. */
  mac: number;
  ac: number;
}

/** 45 nm, float32 (Horowitz 2014). */
export const HOROWITZ_45NM: EnergyCosts = { name: "45 nm float32: 4.6 pJ a MAC, 0.9 pJ an AC (Horowitz 2014)", mac: 4.6, ac: 0.9 };

/** Choices of a convention that papers leave open: value by name. */
export type PresetSettings = Readonly<Record<string, string>>;

export interface Convention {
  costs: EnergyCosts;
  /** `once`: the first layer of a still image is computed once instead of T times. */
  firstLayer: "T" | "once";
  settings: PresetSettings;
}

/** What a layer costs for one sample. */
export interface Priced {
  macs: number;
  acs: number;
  /** Picojoules. */
  energy: number;
  /** Picojoules of the same layer in an ANN: one dense pass, unless the convention says otherwise. */
  annEnergy: number;
  /** How it was counted. */
  rule: string;
}

export interface EnergyPreset {
  readonly name: string;
  /** One line for lists. */
  readonly title: string;
  /** Paper or repository, and what of it is not certain. */
  readonly source: string;
  /** Where not the 45 nm float32 figures. */
  readonly costs?: EnergyCosts;
  /** Open choices and their values, the default first. */
  readonly settings?: Readonly<Record<string, readonly string[]>>;
  /** The rule as a formula in words, with its numbers written out. */
  rule(convention: Convention, net: Operations): string;
  /** A layer's price; undefined where the convention leaves the layer out. */
  layer(l: LayerOperations, convention: Convention, net: Operations): Priced | undefined;
  /** Notes on a whole network that the convention adds. */
  notes?(net: Operations, priced: readonly Priced[], convention: Convention): string[];
  /** Does the convention follow the table of a model that names it (`System.energyPreset`)? `layer` is for other models. */
  readonly tabled?: boolean;
}

/** A model's own table under a convention's settings. */
export type TableMaker = (settings: PresetSettings) => EnergyTable;

/** Energy of MACs and ACs, and of one dense pass, at a convention's costs. */
export function price(l: LayerOperations, { costs }: Convention, macs: number, acs: number, rule: string): Priced {
  return { macs, acs, energy: macs * costs.mac + acs * costs.ac, annEnergy: l.denseOps * costs.mac, rule };
}

/** Is this layer computed once, whatever T? */
export function isOnce(l: LayerOperations, { firstLayer }: Convention): boolean {
  return firstLayer === "once" && l.still;
}

/** "0.25 x 3", or a number alone. */
export function digits(n: number): string {
  return String(Number(n.toPrecision(4)));
}

/** "T = 4, D = 1", where a layer of the network has another D all of them. */
export function written({ timeSteps, layers }: Operations): string {
  const levels = [...new Set(layers.filter((l) => l.spikes).map((l) => l.levels))].sort((a, b) => a - b);
  return `T = ${timeSteps}, D = ${levels.join(" or ") || 1}`;
}

export const pj = ({ mac, ac }: EnergyCosts) => ({ mac: `${mac} pJ`, ac: `${ac} pJ` });
