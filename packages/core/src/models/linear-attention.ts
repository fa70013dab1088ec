/**
 * Attention without a softmax, in the order that is linear in the number of tokens: q (k^T v), for each head by itself. SDSA-3 of
 * Spike-driven Transformer V2 is this on spikes, attention of V3's large family on integers; the result is then exact.
 */

import { dense } from "../tensor/ops/common.ts";
import { permute, reshape } from "../tensor/ops/layout.ts";
import { matmul } from "../tensor/ops/matmul.ts";
import { inSteps } from "../tensor/ops/steps.ts";
import { sameShape, show, wrong } from "../tensor/shape.ts";
import { apply, type OpDefinition } from "../tensor/tape.ts";
import { expectTensor, type Tensor } from "../tensor/tensor.ts";

/** [.., N, h d] (spikes or f32) -> f32 [M, h, N, d]. */
function split(x: Tensor, heads: number): Tensor {
  const [n, c] = x.shape.slice(-2) as [number, number];
  // Virtual steps stay spikes, of which products are sums.
  return permute(reshape(inSteps(x) ? x : dense("linearAttention", x), [-1, n, heads, c / heads]), [0, 2, 1, 3]);
}

/** f32 [M, h, N, d] -> f32 of `shape` [.., N, h d]. */
function join(x: Tensor, shape: readonly number[]): Tensor {
  return reshape(permute(x, [0, 2, 1, 3]), shape);
}

// Saved are the spikes alone; the small matrix k^T v is made again.
const op: OpDefinition<number> = {
  name: "linearAttention",
  forward(ctx, inputs, heads) {
    ctx.save(...inputs);
    const [q, k, v] = inputs.map((x) => split(x, heads)) as [Tensor, Tensor, Tensor];
    return join(matmul(q, matmul(k, v, { transposeA: true })), (inputs[0] as Tensor).shape);
  },
  backward(ctx, [g], heads) {
    const [q, k, v] = ctx.saved.map((x) => split(x, heads)) as [Tensor, Tensor, Tensor];
    const go = split(g as Tensor, heads);
    const shape = (g as Tensor).shape;
    const gq = ctx.needs[0] ? matmul(go, matmul(k, v, { transposeA: true }), { transposeB: true }) : null;
    const gkv = matmul(q, go, { transposeA: true });
    const gk = ctx.needs[1] ? matmul(v, gkv, { transposeB: true }) : null;
    const gv = ctx.needs[2] ? matmul(k, gkv) : null;
    return [gq, gk, gv].map((x) => x && join(x, shape));
  },
};

/**
 * q (k^T v) of every head.
 *
 * @param q spikes or f32 [.., N, C]; k and v of the same shape. Head i has the channels i C / heads to (i + 1) C / heads
 * @returns f32 of the same shape
 * @throws SpikeloomError for shapes that do not fit
 */
export function linearAttention(q: Tensor, k: Tensor, v: Tensor, heads: number): Tensor {
  for (const [name, x] of Object.entries({ q, k, v })) {
    expectTensor("linearAttention", name, x);
    if (x.rank < 2 || !sameShape(x.shape, q.shape)) wrong("linearAttention", name, "of shape [.., N, C], that of q", show(x.shape));
  }
  const c = q.shape[q.rank - 1] as number;
  if (!Number.isInteger(heads) || heads < 1 || c % heads)
    wrong("linearAttention", "heads", `a divisor of the ${c} channels`, String(heads));
  return apply(op, [q, k, v], heads);
}
