/** Fixtures of the official training's losses and optimisers. */
import { models, nn, optim, scope, type Tensor, tensor, train } from "spikeloom";
import { type Check, check, compare, holds, relative } from "../compare.ts";
import { type Fixture, type InputSpec, inputArray, type Stored, unit } from "../fixture.ts";

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

interface DistillationCase {
  kind: "none" | "hard" | "soft";
  alpha: number;
  tau: number;
  smoothing: number;
}

/** Logits of the heads, as a leaf. */
function headOf(fixture: Fixture, key: string): Tensor {
  const { data, shape } = inputArray(key, fixture.inputs[key] as InputSpec);
  const t = tensor(data as Float32Array, shape);
  t.requiresGrad = true;
  return t;
}

const gradientOf = (t: Tensor) => t.grad && { dtype: "f64" as const, shape: t.shape, data: Float64Array.from(t.grad.dataSync()) };

/** One case of a loss with a teacher: its value and the gradients of both heads. */
function distilled(
  what: string,
  { kind, alpha, tau, smoothing }: DistillationCase,
  [head, student, teacher]: readonly [Tensor, Tensor, Tensor],
  labels: Int32Array,
  expected: { loss: number; head: Stored; student: Stored | null },
): Check[] {
  const base = train.classificationLoss(head, tensor(labels), { labelSmoothing: smoothing });
  const loss = kind === "none" ? base : nn.distillationLoss(base, student, teacher, { kind, alpha, temperature: tau });
  loss.backward();
  return [
    check(`${what}: loss`, relative([loss.itemSync()], [expected.loss]), TOLERANCE),
    compare(`${what}: gradient`, gradientOf(head) ?? undefined, expected.head, TOLERANCE),
    expected.student
      ? compare(`${what}: gradient of the other head`, gradientOf(student) ?? undefined, expected.student, TOLERANCE)
      : holds(`${what}: no gradient of the other head`, !student.grad),
    holds(`${what}: no gradient of the teacher`, !teacher.grad),
  ];
}

/** The distillation loss of V2's training. */
export function distillationChecks(fixture: Fixture): Check[] {
  const labels = Int32Array.from(fixture.inputs.labels as number[]);
  const cases = fixture.cases as Record<string, { args: DistillationCase; loss: number; grad_head: Stored; grad_head_kd: Stored | null }>;
  return Object.entries(cases).flatMap(([what, { args, loss, grad_head, grad_head_kd }]) =>
    scope(() => {
      const heads = ["head", "head_kd", "teacher"].map((key) => headOf(fixture, key)) as [Tensor, Tensor, Tensor];
      return distilled(what, args, heads, labels, { loss, head: grad_head, student: grad_head_kd });
    }),
  );
}

interface DistillationOutput {
  loss: number;
  grad_logits: number[];
  grad_logits_kd: number[] | null;
}

/** The losses of V3's training on labels and on a teacher. */
export function classifierLossChecks(fixture: Fixture): Check[] {
  const labels = Int32Array.from(fixture.inputs.labels as number[]);
  return Object.entries(fixture.outputs as Record<string, unknown>).flatMap(([name, stored]) =>
    scope((): Check[] => {
      const heads = ["ls_logits", "ls_logits_kd", "ls_teacher"].map((key) => headOf(fixture, key)) as [Tensor, Tensor, Tensor];
      const [head] = heads;
      const { shape } = head;
      const plain = (targets: Tensor, labelSmoothing = 0) => [
        check(name, relative([train.classificationLoss(head, targets, { labelSmoothing }).itemSync()], [stored as number]), TOLERANCE),
      ];
      if (name === "cross_entropy") return plain(tensor(labels));
      if (name === "label_smoothing_0.1") return plain(tensor(labels), 0.1);
      if (name === "soft_target") {
        const scores = Float64Array.from(unit("ls_soft", head.size), (u) => Math.fround(4 * u - 2));
        return plain(nn.softmax(tensor(scores, shape, "f32")));
      }
      const [, kind, alpha, tau] = /^distill_(none|hard|soft)_alpha([\d.]+)_tau([\d.]+)$/.exec(name) ?? [];
      if (kind === undefined) return [];
      const { loss, grad_logits: first, grad_logits_kd: second } = stored as DistillationOutput;
      const as = (values: number[]): Stored => ({ shape: [...shape], values });
      return distilled(
        name,
        { kind: kind as DistillationCase["kind"], alpha: Number(alpha), tau: Number(tau), smoothing: 0.1 },
        heads,
        labels,
        { loss, head: as(first), student: second && as(second) },
      );
    }),
  );
}

interface Group {
  lr_scale: number;
  weight_decay: number;
}

/** Our groups of a network, and how many tensors and numbers each of the stored ones should have. */
function groupChecks<G extends Group>(
  what: string,
  groups: readonly optim.ParameterGroup[],
  stored: readonly G[],
  same: (group: optim.ParameterGroup, expected: G) => boolean,
): Check[] {
  return [
    holds(`${what}: number of groups`, groups.length === stored.length, `${groups.length} for ${stored.length}`),
    ...stored.map((expected) => {
      const { lr_scale: scale, weight_decay: decay } = expected;
      // Scales are stored with nine digits.
      const own = groups.find((g) => relative([g.lrScale ?? 1], [scale]) < 5e-9 && g.weightDecay === decay);
      return holds(`${what}: scale ${scale}, decay ${decay}`, own !== undefined && same(own, expected));
    }),
  ];
}

const rates = (schedule: optim.Schedule, scale: number, [epoch, rate]: readonly [number, number]) =>
  check(`rate at ${epoch}${scale === 1 ? "" : `, times ${scale}`}`, relative([scale * optim.lrAt(schedule, epoch)], [rate]), 5e-9);

/** The learning rates of V2's training, and its groups: every rate is the same, whatever the layer decay. */
export function rateAndGroupChecks(fixture: Fixture): Check[] {
  interface Stage {
    lr: number;
    warmup_epochs: number;
    epochs: number;
    min_lr: number;
    lr_at_fractional_epoch: Record<string, number>;
  }
  const checks = Object.values(fixture.schedules as Record<string, Stage>).flatMap((s) => {
    const { lr, epochs } = s;
    const schedule = { name: "cosine", lr, epochs, warmupEpochs: s.warmup_epochs, minLr: s.min_lr, warmupPrefix: true } as const;
    return Object.entries(s.lr_at_fractional_epoch).map(([epoch, rate]) => rates(schedule, 1, [Number(epoch), rate]));
  });
  const { weight_decay: decay, keys_of_param_groups_tiny_model: _, ...config } = fixture.param_groups_model as Record<string, unknown>;
  const kind = models.findSystem("sdt-v2").official.model as models.OfficialKind;
  const net = nn.init.withoutDraws(() => kind.build(config));
  const groups = optim.weightDecayGroups(net, decay as number);
  type Counted = Group & { tensors: number; params: number };
  for (const [layerDecay, stored] of Object.entries(fixture.param_groups_tiny_model as Record<string, Counted[]>))
    checks.push(
      ...groupChecks(`layer decay ${layerDecay}`, groups, stored, ({ parameters }, { tensors, params }) => {
        return parameters.length === tensors && parameters.reduce((n, p) => n + p.size, 0) === params;
      }),
    );
  net.dispose();
  return checks;
}

/** LAMB, AdamW, learning rates and groups of V3's trainings. */
export function trainingRuleChecks(fixture: Fixture): Check[] {
  const { lamb, adamw_pretrain: adamw, lr_schedule: schedules, ...groups } = fixture.outputs as Record<string, Json>;
  const checks = [...optimizerSteps("lamb", lamb), ...optimizerSteps("adamw", adamw)];
  for (const [name, points] of Object.entries(schedules as Record<string, [number, number, number][]>)) {
    const [, blr, batch, warmupEpochs, epochs, minLr] =
      /\(blr ([\de.-]+), batch (\d+), warmup (\d+), epochs (\d+), min ([\de.-]+)\)/.exec(name)?.map(Number) ?? [];
    if (blr === undefined) continue;
    const lr = (blr * (batch as number)) / 256;
    const schedule = { name: "cosine", lr, epochs, warmupEpochs, minLr, warmupPrefix: true } as optim.Schedule;
    for (const [epoch, rate, half] of points) checks.push(rates(schedule, 1, [epoch, rate]), rates(schedule, 0.5, [epoch, half]));
  }
  return [...checks, ...networkGroupChecks(groups)];
}

// biome-ignore lint/suspicious/noExplicitAny: a fixture's part, whose fields its check knows
type Json = any;

/** Three steps of an optimiser on tensors under the fill rule. */
function optimizerSteps(what: "lamb" | "adamw", { first_step: start, settings, inputs, after_steps_1_2_3: steps }: Json): Check[] {
  const filled = (spec: InputSpec, name: string) => inputArray(name, spec).data as Float32Array;
  const names = what === "lamb" ? { w: "g1", b: "g2", z: "g3" } : { w: "g" };
  const parameters = Object.keys(names).map((key) => {
    const spec = inputs[`${what}_${key}`] as InputSpec | undefined;
    const shape = spec?.shape ?? [2, 2];
    return nn.parameterFrom(spec ? filled(spec, `${what}_${key}`) : new Float32Array(4), shape, null);
  });
  const { lr, betas, eps } = settings;
  const optimizer =
    what === "lamb"
      ? new optim.LAMB(
          parameters.map((p) => ({
            parameters: [p],
            weightDecay: p.rank > 1 ? (settings.weight_decay_w_z as number) : (settings.weight_decay_b as number),
          })),
          { lr, betas, eps, maxGradNorm: settings.max_grad_norm, trustClip: settings.trust_clip },
        )
      : new optim.AdamW(parameters, { lr, betas, eps, weightDecay: settings.weight_decay });
  const checks = (steps as (Record<string, number[]> | number[])[]).flatMap((after, i) => {
    optimizer.zeroGrad();
    Object.values(names).forEach((name, k) => {
      const p = parameters[k] as nn.Parameter;
      p.grad = tensor(filled(inputs[`${what}_${name}_<step>`] as InputSpec, `${what}_${name}_${start + i}`), p.shape);
    });
    optimizer.step();
    return Object.keys(names).map((key, k) => {
      const p = parameters[k] as nn.Parameter;
      const found = { dtype: "f64" as const, shape: p.shape, data: Float64Array.from(p.dataSync()) };
      const values = (Array.isArray(after) ? after : after[key]) as number[];
      return compare(`${what}: ${key} after step ${i + 1}`, found, { shape: [...p.shape], values }, TOLERANCE);
    });
  });
  optimizer.zeroGrad();
  optimizer.dispose();
  for (const p of parameters) p.dispose();
  return checks;
}

/** Groups of whole networks, with a layer decay of 0.75 and without one. */
function networkGroupChecks(stored: Json): Check[] {
  type Named = Group & { n_params: number; first: string; last?: string };
  const grouped = (model: string, layerDecay: number, expected: Named[]): Check[] => {
    const { system, config } = models.resolveModel(model);
    const net = nn.init.withoutDraws(() => system.build(config));
    const layers = system.layers?.(config);
    const groups = optim.weightDecayGroups(net, 0.05, { layerDecay, layers });
    const names = new Map([...net.namedParameters()].map(([name, p]) => [p, name]));
    const checks = groupChecks(model, groups, expected, ({ parameters }, { n_params, first, last }) => {
      const keys = parameters.map((p) => names.get(p));
      return keys.length === n_params && keys[0] === first && (last === undefined || keys.at(-1) === last);
    });
    for (const [key, id] of Object.entries(layerDecay === 1 ? {} : (stored.layer_id_large as Record<string, number>)))
      checks.push(holds(`layer of ${key}`, layers?.of(key) === id));
    net.dispose();
    return checks;
  };
  return [...grouped("sdt-v3/83m", 0.75, stored["layer_decay_large_83m_0.75"]), ...grouped("sdt-v3/5m", 1, stored.groups_base_5m)];
}
