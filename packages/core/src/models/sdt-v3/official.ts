/** Spike-driven Transformer V3 in the official code's terms: configuration names, axis orders and taps. */
import type { OfficialKind } from "../official.ts";

/** Kinds by the fixtures' names. */
export const officialKinds: Readonly<Record<string, OfficialKind>> = {};
