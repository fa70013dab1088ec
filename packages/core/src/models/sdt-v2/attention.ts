/**
 * What SDSA-3 attends to: for each block the firing rate at every position of the queries, and of what comes out of attention. There is no
 * mask in between: a query gathers from k^T v, to which all positions contributed.
 */
import { withForwardHook } from "../../nn/module.ts";
import { scope } from "../../tensor/scope.ts";
import { noGrad } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { positionRates } from "../positions.ts";
import type { AttentionMap } from "../system.ts";
import { type MetaSpikeFormer, SpikeDrivenSelfAttention3 } from "./model.ts";

/** Maps of every block for a batch, in eval mode: rates averaged over T and channels. */
export function attentionMaps(model: MetaSpikeFormer, input: Tensor): AttentionMap[] {
  const maps: AttentionMap[] = [];
  const neurons = new Map<unknown, { map: AttentionMap; side: "before" | "after" }>();
  for (const [path, m] of model.namedModules()) {
    if (!(m instanceof SpikeDrivenSelfAttention3)) continue;
    const map: AttentionMap = { block: path.replace(/\.attn$/, ""), width: 0, height: 0, before: [], after: [] };
    maps.push(map);
    neurons.set(m.q_lif, { map, side: "before" });
    neurons.set(m.attn_lif, { map, side: "after" });
  }
  const restore = model.modes();
  model.eval();
  try {
    scope(() =>
      noGrad(() =>
        withForwardHook(
          (m, _inputs, output) => {
            const found = neurons.get(m);
            if (!found) return;
            const spikes = output as Tensor;
            found.map[found.side] = positionRates(spikes);
            // Behind attention the positions are one axis.
            if (found.side === "before") [found.map.height, found.map.width] = spikes.shape.slice(2, 4) as [number, number];
          },
          () => void model.forward(input),
        ),
      ),
    );
  } finally {
    restore();
  }
  return maps;
}
