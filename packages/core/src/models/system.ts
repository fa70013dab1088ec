/** What a published system tells the rest of the world of itself: the record that its folder exports. */
import type { EnergyTable } from "../measure/presets/table.ts";
import type { Module } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { OfficialKind } from "./official.ts";
import type { StateRules } from "./state.ts";

/** What two pictures of a block's attention are: their names, and a sentence or two that explains them. */
export interface AttentionLegend {
  before: string;
  after: string;
  text: string;
}

/** Where one block looks: for each sample two pictures of rates in 0..1. The legend is the same for all blocks of a system. */
export interface AttentionMap {
  legend: AttentionLegend;
  block: string;
  width: number;
  height: number;
  before: Float64Array[];
  after: Float64Array[];
}

/** What an energy table depends on besides the configuration. */
export interface EnergyInput {
  timeSteps: number;
  height: number;
  width: number;
  /** Is the input a recording, whose frames differ and are mostly zero? Default false: a still image. */
  events?: boolean;
}

/** What the registry knows of a system. `C` is its configuration type. */
export interface System<C = Record<string, unknown>> extends StateRules {
  /** Its folder's and its fixtures' name. */
  name: string;
  title: string;
  /** Where it was published. */
  paper: string;
  configs: Readonly<Record<string, C>>;
  /** Look at a configuration without building anything. @throws SettingError naming the setting that is wrong */
  check(config: C): void;
  /** @throws SpikeloomError for a wrong configuration. */
  build(config: C): Module;
  /** What each block attends to, where the system has spiking attention. */
  attention?(module: Module, input: Tensor): AttentionMap[];
  /**
   * The paper's own energy table for an input of that size, where it has one. `settings`: `firstLayer` "T" or "once", and the open
   * choices of the energy preset that follows it: `energyPreset`, by default "sdt".
   */
  energyTable?(config: C, input: EnergyInput, settings?: Readonly<Record<string, string>>): EnergyTable;
  energyPreset?: string;
  /**
   * How deep the parameters lie, for a rate that decays from the head down (layer decay): the layer of a state-dict key, 0 to `count`; the
   * heads are layer `count`.
   */
  layers?(config: C): { count: number; of(key: string): number };
  /** What else than classification a model of this system can be trained for (a pre-training), by name: what `train.Trainer` takes. */
  objectives?: Readonly<Record<string, () => { loss(model: Module, x: Tensor): { loss: Tensor }; unlabelled: true }>>;
  /** Parts and whole in the official code's terms. */
  official: Readonly<Record<string, OfficialKind>>;
}
