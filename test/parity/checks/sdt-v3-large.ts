/** Fixtures of the large family of Spike-driven Transformer V3: its blocks, masked layers, and the masked auto-encoder. */
import { models, nn, noGrad, type Tensor, tensor } from "spikeloom";
import { type Check, check, compare, holds } from "../compare.ts";
import { type Fixture, filledState, type InputSpec, inputArray, type NdArray, type Stored } from "../fixture.ts";
import { type BuiltBlock, blockChecks, countTies, fill, gradients, names, type Tap, tapChecks } from "./integer-networks.ts";

const { sdtV3 } = models;

/** Channels after `leading` axes in the official order, last in ours. */
function channelsAt(leading: number): Pick<BuiltBlock, "toOurs" | "toOfficial"> {
  const count = (rank: number) => Array.from({ length: rank }, (_, i) => i);
  return {
    toOurs: (array) => {
      const axes = count(array.shape.length);
      return models.fromOfficial(array, [...axes.toSpliced(leading, 1), leading]);
    },
    toOfficial: (value) => {
      const axes = count(value.rank - 1);
      return models.toOfficial(value, axes.toSpliced(leading, 0, value.rank - 1));
    },
  };
}

export const largeBlockChecks = blockChecks((name, shapes, fixture) => {
  const { D, num_heads: heads } = fixture.config as { D: number; num_heads: number };
  const neuron = sdtV3.upNeuron(D);
  const size = (key: string, axis: number) => shapes[key]?.[axis] as number;
  const built = (module: nn.Module): BuiltBlock => ({ module, ...channelsAt(2) });
  const block = (choice: "base" | "large") =>
    new sdtV3.LargeBlock({ dim: size("layer_scale1", 0), heads, mlpRatio: 4, neuron, choice, layerScale: 1e-6 });
  switch (name) {
    case "MS_ConvBlock_large":
      return built(new sdtV3.LargeConvBlock(size("conv1.0.0.weight", 1), 4, neuron));
    case "RepConv_1d_expand_1.5":
      return { module: new sdtV3.RepConv1d(size("conv1.0.weight", 1), 1.5), ...channelsAt(1) };
    case "RepConv2_1d":
      return { module: new sdtV3.RepConv1d(size("conv1.0.weight", 1), 1), ...channelsAt(1) };
    case "MS_Attention_Conv_qkv_id":
      return built(new sdtV3.LargeAttention(size("proj_conv.1.weight", 0), heads, neuron));
    case "MS_MLP_large":
      return built(new sdtV3.MLP(size("fc1_conv.weight", 1), 4, neuron));
    case "MS_Block_base_with_layer_scale":
      return built(block("base"));
    case "MS_Block_large_with_layer_scale":
      return built(block("large"));
    default:
      throw new Error(`no block "${name}" is known`);
  }
});

interface SparseCase {
  module?: { kernel: number; stride: number; padding: number };
  input_name: string;
  input: InputSpec;
  upstream_gradient: InputSpec & { name: string };
  train_output: Stored;
  eval_output?: Stored;
  input_grad: Stored;
  param_grads: Record<string, Stored>;
  running_mean_after?: Stored;
  running_var_after?: Stored;
}

/** Absolute, as the specification has it for values; gradients relative to the largest. */
const CLOSE = 1e-5;

/** A convolution, a norm and a pool of partly seen maps. */
export function sparseChecks(fixture: Fixture): Check[] {
  const { active, ...cases } = fixture.outputs as unknown as { active: Stored } & Record<string, SparseCase>;
  const [batch, , rows, columns] = active.shape as [number, number, number, number];
  const seen = new sdtV3.SeenPatches(Uint8Array.from(active.values as number[]), [batch, rows, columns]);
  return Object.entries(cases).flatMap(([name, c]) => {
    const { toOurs, toOfficial } = channelsAt(1);
    const x = toOurs(inputArray(c.input_name, c.input));
    x.requiresGrad = true;
    const { kernel = 1, stride = 1, padding = 0 } = c.module ?? {};
    const module = sparseModule(name, c, x, seen);
    if (!module) return [holds(name, false, "this case is not known")];
    const { layer, shapes, forward } = module(kernel, stride, padding);
    const state = filledState({ ...fixture, state_shapes: shapes, fill: (c as unknown as Fixture).fill });
    const fill = () => layer?.loadStateDict(state as Parameters<nn.Module["loadStateDict"]>[0], { strict: false });
    fill();
    const y = forward();
    const checks = [compare("train output", toOfficial(y), c.train_output, CLOSE)];
    y.backward({ gradient: toOurs(inputArray(c.upstream_gradient.name, c.upstream_gradient)) });
    checks.push(compare("grad of the input", toOfficial(x.grad as Tensor), c.input_grad, CLOSE));
    if (layer) checks.push(...gradients(layer, c.param_grads, []));
    for (const key of ["running_mean", "running_var"] as const) {
      const stored = c[`${key}_after`];
      if (stored) checks.push(compare(key, layer?.stateDict().get(key), stored, CLOSE));
    }
    if (c.eval_output) {
      fill();
      layer?.eval();
      checks.push(
        compare(
          "eval output",
          noGrad(() => toOfficial(forward())),
          c.eval_output,
          CLOSE,
        ),
      );
    }
    return checks.map((k) => ({ ...k, what: `${name} ${k.what}` }));
  });
}

type Sparse = { layer: nn.Module | null; shapes: Record<string, number[]>; forward(): Tensor };

function sparseModule(name: string, c: SparseCase, x: Tensor, seen: models.sdtV3.SeenPatches) {
  const channels = x.shape[3] as number;
  if (/^SparseConv2d/.test(name))
    return (kernel: number, stride: number, padding: number): Sparse => {
      const out = c.train_output.shape[1] as number;
      const layer = new nn.Conv2d(channels, out, kernel, { stride, padding });
      const shapes = { weight: [out, channels, kernel, kernel], bias: [out] };
      return { layer, shapes, forward: () => seen.mask(layer.forward(x)) };
    };
  if (name === "SparseBatchNorm2d")
    return (): Sparse => {
      const layer = new nn.BatchNorm2d(channels);
      const places = seen.places(1, x.shape[1] as number, x.shape[2] as number);
      const shapes = Object.fromEntries(["weight", "bias", "running_mean", "running_var"].map((key) => [key, [channels]]));
      return { layer, shapes, forward: () => sdtV3.normSeen(layer, x, ...places) };
    };
  if (name === "SparseMaxPooling")
    return (kernel: number, stride: number, padding: number): Sparse => ({
      layer: null,
      shapes: {},
      forward: () => seen.mask(nn.maxPool2d(x, kernel, { stride, padding })),
    });
  return undefined;
}

const ORDERS = { raster_order_no_mask_token: "raster", mask_token_at_masked_positions: "mask-token" } as const;

export function maeChecks(fixture: Fixture, double: boolean): Check[] {
  const kind = models.findSystem(fixture.system).official[fixture.kind] as models.OfficialKind;
  const model = nn.init.withoutDraws(() => kind.build(fixture.config)) as models.sdtV3.SpikeMaskedAutoencoder;
  try {
    // Fixed positions are parameters in the official code, which are not trained.
    const fixed = model.pos_embed.size + model.decoder_pos_embed.size;
    const { params, params_trainable: trainable } = fixture as { params?: number; params_trainable?: number };
    const checks = names({ ...fixture, params: trainable as number }, model);
    checks.push(holds("parameters with fixed positions", model.parameterCount() + fixed === params, `${model.parameterCount() + fixed}`));
    if (fixture.mode === "shapes only") return checks;
    const table = model.decoder_pos_embed.dataSync().slice();
    fill(fixture, model);
    const given = fixture.fill.override?.decoder_pos_embed as Stored;
    checks.push(compare("positions of the decoder", { dtype: "f64", shape: given.shape, data: Float64Array.from(table) }, given, 1e-6));
    return [...checks, ...(fixture.mode === "train" ? maeStep : maeForward)(fixture, kind, model, double)];
  } finally {
    model.dispose();
  }
}

function maeInputs(fixture: Fixture): Map<string, NdArray> {
  const input = (field: string) => inputArray(fixture[field] as string, fixture.inputs[fixture[field] as string] as InputSpec);
  return new Map([
    ["x", input("input_name")],
    ["noise", input("noise_name")],
  ]);
}

const lossCheck = (found: number, expected: number, tolerance: number) => check("loss", Math.abs(found - expected), tolerance);

function maeForward(fixture: Fixture, kind: models.OfficialKind, model: models.sdtV3.SpikeMaskedAutoencoder, double: boolean): Check[] {
  model.eval();
  const ties = countTies(model);
  const inputs = maeInputs(fixture);
  const { outputs, taps } = nn.withForwardHook(ties.hear, () => noGrad(() => kind.run(model, inputs, { taps: true })));
  const { loss: _, ...arrays } = fixture.outputs as Record<string, Stored>;
  const checks = Object.entries(arrays).map(([name, stored]) => {
    const exact = fixture.outputs_f64?.[name];
    if (double && exact) return compare(name, outputs.get(name), exact, 1e-6);
    return compare(name, outputs.get(name), stored, name === "active" || name === "ids_restore" ? 0 : 1e-5);
  });
  const expected = (double ? fixture.loss_f64 : fixture.loss) as number;
  checks.push(lossCheck(outputs.get("loss")?.data[0] as number, expected, double ? 1e-9 : 1e-5));
  for (const [name, tap] of Object.entries((fixture.taps ?? {}) as Record<string, Tap>))
    checks.push(...tapChecks(name, taps.get(name), tap));
  checks.push(holds("neuron evaluations", ties.neurons === fixture.neuron_evaluations, `${ties.neurons}`));
  checks.push(holds("exact ties", ties.ties === fixture.exact_rounding_ties, `${ties.ties}`));
  for (const [name, stored] of Object.entries((fixture.option_outputs ?? {}) as Record<string, { loss: number; pred: Stored }>)) {
    const other = new sdtV3.SpikeMaskedAutoencoder({ ...model.config, tokenOrder: ORDERS[name as keyof typeof ORDERS] });
    other.loadStateDict(model.stateDict());
    other.eval();
    const option = noGrad(() => kind.run(other, inputs)).outputs;
    checks.push({ ...lossCheck(option.get("loss")?.data[0] as number, stored.loss, 1e-5), what: `${name} loss` });
    checks.push(compare(`${name} pred`, option.get("pred"), stored.pred, 1e-5));
    other.dispose();
  }
  return checks;
}

function maeStep(fixture: Fixture, kind: models.OfficialKind, model: models.sdtV3.SpikeMaskedAutoencoder, double: boolean): Check[] {
  model.train();
  const run = kind.run(model, maeInputs(fixture));
  const loss = run.tensors.get("loss") as Tensor;
  loss.backward();
  const expected = (double ? fixture.loss_f64 : fixture.loss) as number;
  const checks = [
    lossCheck(loss.itemSync(), expected, double ? 1e-9 : 1e-5),
    ...gradients(model, fixture.grads as Record<string, Stored>, []),
  ];
  const mask = model.mask_token.grad?.dataSync() ?? [];
  checks.push(
    holds(
      "the mask token takes no part",
      [...mask].every((v) => v === fixture.mask_token_grad_abs_max),
    ),
  );
  const state = model.stateDict();
  for (const [name, stats] of Object.entries(fixture.bn_running_stats_after as Record<string, Record<string, Stored>>))
    for (const [field, stored] of Object.entries(stats))
      checks.push(compare(`${name}.${field}`, state.get(`${name}.${field}`), stored, 1e-5));
  return checks;
}

interface ReconstructionCase {
  inputs: Record<"rl_img" | "rl_pred", InputSpec> & { active: number[][] };
  loss: number;
  patchify: Stored;
  pred_grad: Stored;
}

/** Of the fixture of losses, what pre-training needs: the masked loss, its patches, and positions. */
export function reconstructionChecks(fixture: Fixture, double: boolean): Check[] {
  const { masked_reconstruction: stored, sincos_pos_embed: tables } = fixture.outputs as unknown as {
    masked_reconstruction: ReconstructionCase;
    sincos_pos_embed: Record<string, Stored>;
  };
  const image = models.fromOfficial(inputArray("rl_img", stored.inputs.rl_img), [0, 2, 3, 1]);
  const predicted = models.fromOfficial(inputArray("rl_pred", stored.inputs.rl_pred), [0, 1, 2]);
  predicted.requiresGrad = true;
  const { active } = stored.inputs;
  const seen = tensor(Uint8Array.from(active.flat()), [active.length, (active[0] as number[]).length]);
  const loss = sdtV3.reconstructionLoss(predicted, image, seen, 16);
  loss.backward();
  const patches = sdtV3.patchify(image, 16);
  const again = sdtV3.unpatchify(patches, 16, [32, 32]).dataSync();
  const original = image.dataSync();
  return [
    lossCheck(loss.itemSync(), stored.loss, 1e-6),
    compare("patchify", models.toOfficial(patches), stored.patchify, double ? 1e-7 : 1e-6),
    compare("grad of the prediction", models.toOfficial(predicted.grad as Tensor), stored.pred_grad, 1e-5),
    holds(
      "unpatchify of patchify is the image",
      again.every((v, i) => v === original[i]),
    ),
    ...Object.entries(tables).map(([name, table]) => {
      const [, dim, side] = /^dim(\d+)_grid(\d+)$/.exec(name) ?? [];
      return compare(name, models.toOfficial(nn.sinCosPositions(Number(dim), Number(side))), table, 1e-6);
    }),
  ];
}
