/** Running a model on batches and listening: what every measurement here has in common. */
import { type Module, withForwardHook, withTaps } from "../nn/module.ts";
import { kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { Neuron, Quant } from "../spiking/neurons.ts";
import { scope } from "../tensor/scope.ts";
import { noGrad } from "../tensor/tape.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { Clock } from "./geometry.ts";

/** One batch, or several one after another: a list of tensors, or a loader. */
export type Inputs = Tensor | Iterable<Tensor | { readonly x: Tensor }> | AsyncIterable<Tensor | { readonly x: Tensor }>;

export interface Listener {
  /** After a module's forward. */
  module?(name: string, module: Module, input: unknown, output: unknown): void;
  /** An intermediate value that the model reports by name. */
  tap?(name: string, value: Tensor): void;
  /** After a batch. `clock` is that of the first neuron with a membrane, where one fired: its output is [T, B, ...]. */
  batch?(input: Tensor, clock: Clock | undefined): void;
}

/** Run `model` in eval mode on each batch. A single tensor is run before this returns, so it may be freed right after the call. */
export async function walk(model: Module, inputs: Inputs, listener: Listener): Promise<void> {
  await eachBatch(inputs, (x) => walkOne(model, x, listener));
}

/** Give `run` each batch; a single tensor before this returns. @throws SpikeloomError where there is none */
export async function eachBatch(inputs: Inputs, run: (x: Tensor) => void): Promise<void> {
  if (inputs instanceof Tensor) return run(inputs);
  if (typeof inputs !== "object" || inputs === null || !(Symbol.iterator in inputs || Symbol.asyncIterator in inputs))
    throw new SpikeloomError(`measure: expected a tensor, a list of tensors or a loader to run the model on, found ${kindOf(inputs)}`);
  let batches = 0;
  for await (const batch of inputs) {
    run(batch instanceof Tensor ? batch : batch.x);
    batches++;
  }
  if (!batches) throw new SpikeloomError("measure: expected a batch or more to run the model on, found none");
}

function walkOne(model: Module, input: Tensor, listener: Listener): void {
  const names = new Map([...model.namedModules()].map(([name, m]) => [m, name]));
  let clock: Clock | undefined;
  const restore = model.modes();
  model.eval();
  try {
    scope(() =>
      noGrad(() =>
        withTaps(
          (name, value) => listener.tap?.(name, value),
          () =>
            withForwardHook(
              (m, [x], output) => {
                if (m instanceof Neuron && !(m instanceof Quant) && output instanceof Tensor)
                  clock ??= { steps: output.shape[0] as number, samples: output.rank > 2 ? (output.shape[1] as number) : 1 };
                listener.module?.(names.get(m) ?? "", m, x, output);
              },
              () => void model.forward(input),
            ),
        ),
      ),
    );
    listener.batch?.(input, clock);
  } finally {
    restore();
  }
}
