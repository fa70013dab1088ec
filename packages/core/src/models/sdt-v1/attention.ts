/**
 * What SDSA attends to: for each block the firing rate of the value spikes at every position, before and after the channel mask
 * (figure 3 of the paper; the code's q plays the paper's V).
 */
import { withTaps } from "../../nn/module.ts";
import { scope } from "../../tensor/scope.ts";
import { noGrad } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { positionRates } from "../positions.ts";
import type { AttentionMap } from "../system.ts";
import type { SpikeDrivenTransformer } from "./model.ts";

/** Maps of every block for a batch, in eval mode: rates averaged over T and channels. */
export function attentionMaps(model: SpikeDrivenTransformer, input: Tensor): AttentionMap[] {
  const maps = new Map<string, AttentionMap>();
  const restore = model.modes();
  model.eval();
  scope(() =>
    noGrad(() =>
      withTaps(
        (name, value) => {
          const match = /^MS_SSA_Conv(\d+)_(q_lif|x_after_qkv)$/.exec(name);
          if (!match) return;
          const block = `block.${match[1]}`;
          const entry = maps.get(block) ?? { block, width: 0, height: 0, before: [], after: [] };
          maps.set(block, entry);
          if (match[2] === "q_lif") {
            [entry.height, entry.width] = value.shape.slice(2, 4) as [number, number];
            entry.before = positionRates(value);
          } else entry.after = positionRates(value);
        },
        () => void model.forward(input),
      ),
    ),
  );
  restore();
  return [...maps.values()];
}
