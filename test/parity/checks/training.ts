/** Fixtures of the official training's losses and optimisers. */
import { nn, optim, type Tensor, tensor, train } from "spikeloom";
import { type Check, check, compare, holds, relative } from "../compare.ts";
import { type Fixture, type InputSpec, inputArray, type Stored } from "../fixture.ts";

/** Float32 runs, stored with nine digits (spec, section 10). */
const TOLERANCE = 1e-6;

interface OfficialLoss {
  type: "mean" | "tet";
  base: string;
  smoothing?: number;
  means?: number;
  lamb?: number;
  target_threshold?: number;
}

/** Our settings for the official loss, and whether its targets are soft; undefined for a base that is not known. */
function lossSettings(args: OfficialLoss): { options: train.ClassificationLoss; soft: boolean } | undefined {
  const tet = args.type === "tet" ? { means: args.means ?? 1, lambda: args.lamb ?? 0 } : undefined;
  switch (args.base) {
    case "ce":
      return { options: { tet }, soft: false };
    case "label_smoothing":
      return { options: { tet, labelSmoothing: args.smoothing }, soft: false };
    case "soft_target":
      return { options: { tet }, soft: true };
    case "bce":
      return { options: { tet, base: "bce", targetThreshold: args.target_threshold }, soft: true };
    default:
      return undefined;
  }
}

function ofStored({ shape, values }: Stored): Tensor {
  return tensor(Float64Array.from(values as number[]), shape, "f32");
}

export function lossChecks(fixture: Fixture): Check[] {
  const z = inputArray("z", fixture.inputs.z as InputSpec);
  const labels = Int32Array.from(fixture.inputs.labels as number[]);
  const mixed = Object.entries(fixture).find(([key]) => key.startsWith("soft_targets"))?.[1] as Stored;
  return Object.entries(fixture.cases as Record<string, { args: OfficialLoss; loss: number; grad: Stored }>).flatMap(([name, stored]) => {
    const settings = lossSettings(stored.args);
    if (!settings) return [holds(name, false, `has the unknown base "${stored.args.base}"`)];
    const logits = tensor(z.data as Float32Array, z.shape);
    logits.requiresGrad = true;
    const loss = train.classificationLoss(logits, settings.soft ? ofStored(mixed) : tensor(labels), settings.options);
    loss.backward();
    const grad = logits.grad && { dtype: "f64" as const, shape: logits.shape, data: Float64Array.from(logits.grad.dataSync()) };
    return [
      check(`${name}: loss`, relative([loss.itemSync()], [stored.loss]), TOLERANCE),
      compare(`${name}: gradient`, grad ?? undefined, stored.grad, TOLERANCE),
    ];
  });
}

interface OfficialOptimizer {
  type: string;
  lr: number;
  weight_decay: number;
  trust_clip?: boolean;
}

function optimizerOf(args: OfficialOptimizer, parameters: readonly nn.Parameter[]): optim.AdamW | optim.LAMB | undefined {
  const groups = [
    { parameters: parameters.filter((p) => p.rank <= 1), weightDecay: 0 },
    { parameters: parameters.filter((p) => p.rank > 1), weightDecay: args.weight_decay },
  ];
  if (args.type === "adamw") return new optim.AdamW(groups, { lr: args.lr });
  if (args.type === "lamb") return new optim.LAMB(groups, { lr: args.lr, trustClip: args.trust_clip });
  return undefined;
}

export function optimizerChecks(fixture: Fixture): Check[] {
  const { name_pattern: pattern, s } = fixture.grad_fill as { name_pattern: string; s: number[] };
  const steps = fixture.params_after_each_step as Record<string, Record<string, Stored>[]>;
  return Object.entries(fixture.optimizer_args as Record<string, OfficialOptimizer>).flatMap(([name, args]) => {
    const parameters = new Map(
      Object.entries(fixture.inputs as Record<string, InputSpec>).flatMap(([key, spec]) => {
        // One entry says in words what the gradients are.
        if (!spec.shape) return [];
        const { data, shape } = inputArray(key, spec);
        return [[key, nn.parameterFrom(data as Float32Array, shape, null)]];
      }),
    );
    const optimizer = optimizerOf(args, [...parameters.values()]);
    const after = steps[name];
    if (!optimizer) return [holds(name, false, `has the unknown type "${args.type}"`)];
    if (!after) return [holds(name, false, "has no parameters after its steps")];
    const checks = after.flatMap((expected, t) => {
      optimizer.zeroGrad();
      for (const [key, p] of parameters) {
        const range = s[t] as number;
        const fill = pattern.replace("{t}", String(t)).replace("{k}", key);
        const { data } = inputArray(fill, { shape: [...p.shape], lo: -range, hi: range });
        p.grad = tensor(data as Float32Array, p.shape);
      }
      optimizer.step();
      return Object.entries(expected).map(([key, stored]) => {
        const p = parameters.get(key);
        const found = p && { dtype: "f64" as const, shape: p.shape, data: Float64Array.from(p.dataSync()) };
        return compare(`${name}: ${key} after step ${t + 1}`, found, stored, TOLERANCE);
      });
    });
    optimizer.zeroGrad();
    optimizer.dispose();
    for (const p of parameters.values()) p.dispose();
    return checks;
  });
}
