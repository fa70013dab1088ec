/**
 * Recomputation (gradient checkpointing): a part of the program saves nothing but its inputs, and runs again during backward.
 *
 * Its gradients are those of the plain program to the last bit. A repeated value (see `Repeated`) is therefore repeated inside and outside of
 * the part, never across its border: steps are summed where they would be without it.
 */
import { checkFunction } from "../runtime/check.ts";
import { randomness } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { sourceOf, twin } from "./lazy.ts";
import { repeat } from "./ops/layout.ts";
import { adopt, detachedScope, scope } from "./scope.ts";
import { apply, isRecording, spread, withRecording } from "./tape.ts";
import { expectTensor, full, type Tensor } from "./tensor.ts";

/**
 * Recomputation: run `fn` now without saving anything inside, and again during backward. Costs a second forward, saves the
 * memory between. Random draws inside repeat exactly; batch-norm running statistics are updated by the first run only.
 * `fn` must depend on nothing that changes in between, but may use parameters (their gradients flow).
 */
export function checkpoint(fn: (...inputs: Tensor[]) => Tensor, ...inputs: Tensor[]): Tensor {
  checkFunction("checkpoint", "its first argument", fn);
  if (!isRecording()) return fn(...inputs);
  for (const [i, t] of inputs.entries()) expectTensor("checkpoint", `input ${i}`, t);
  const draws = randomness().state();
  // A tensor given twice is one input, so that its gradients are added inside.
  const given = [...new Set(inputs)];
  const sources = given.map(sourceOf);
  /** `fn` on these in the place of what is given. */
  const run = (own: readonly Tensor[]): Tensor => {
    const whole = own.map((t, i) => (sources[i] ? repeat(t, sources[i].steps) : t));
    checkpointed++;
    try {
      const y = fn(...inputs.map((t) => whole[given.indexOf(t)] as Tensor));
      expectTensor("checkpoint", "what the function returns", y);
      return y;
    } finally {
      checkpointed--;
    }
  };
  /** How often the result is repeated; 0 where it is not. */
  let steps = 0;
  return scope(() => {
    const output = apply<void>(
      {
        name: "checkpoint",
        forward(ctx, all) {
          const own = all.slice(0, -1);
          ctx.save(...own);
          const y = run(own);
          const source = sourceOf(y);
          steps = source?.steps ?? 0;
          // The graph hangs on the result, so it must not be a tensor that was there before.
          return source || y.kept || inputs.includes(y) ? (source?.x ?? y).handle() : y;
        },
        backward(ctx, [g]) {
          const now = randomness().state();
          randomness().restore(draws);
          recomputing++;
          try {
            return withRecording(true, () => {
              const leaves = ctx.saved.map((t, i) => {
                // What is made again anew is this backward's own already, and a neuron takes it unmade.
                const leaf = t.kept ? t.alias() : t;
                leaf.requiresGrad = ctx.needs[i] as boolean;
                return leaf;
              });
              const y = run(leaves);
              const root = steps ? sourceOf(y)?.x : y;
              if (!root)
                throw new SpikeloomError(
                  "checkpoint: the function went another way when it was run again. It must depend on nothing that changes",
                );
              if (root.node || root.requiresGrad) spread(root, handedOver(g as Tensor));
              return [...leaves.map(takenGradient), null];
            });
          } finally {
            recomputing--;
            randomness().restore(now);
          }
        },
      },
      // Parameters used inside get their gradient directly while backward runs the graph again.
      [...given.map((t, i) => (sources[i] ? twin(sources[i].x) : t)), anchorOf()],
      undefined,
    );
    return steps ? repeat(output, steps) : output;
  });
}

function takenGradient(leaf: Tensor): Tensor | null {
  const got = leaf.grad;
  leaf.grad = null;
  if (!got) return null;
  got.kept = false;
  return adopt(got);
}

/** A gradient, with the sums that hang on it, as a tensor that belongs to no scope; the one given is used up. */
function handedOver(g: Tensor): Tensor {
  const own = detachedScope(() => g.alias());
  [own.normSums, g.normSums] = [g.normSums, null];
  g.dispose();
  return own;
}

let recomputing = 0;
let checkpointed = 0;

/** Is this inside a checkpointed part? What changes with every run (a state carried on) cannot be repeated there. */
export function isCheckpointed(): boolean {
  return checkpointed > 0;
}

/** Is a checkpointed part being run for the second time? Running statistics must then stay as they are. */
export function isRecomputing(): boolean {
  return recomputing > 0;
}

/** An input that always wants a gradient, so that a checkpoint whose only trainable parts are parameters is recorded. */
function anchorOf(): Tensor {
  const t = full([], 0);
  t.requiresGrad = true;
  return t;
}
