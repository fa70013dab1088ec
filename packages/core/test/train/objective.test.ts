// What a step minimises: a teacher beside the labels, a loss without labels; and that such runs go on bit for bit.
import { describe, expect, it } from "vitest";
import { Loader } from "../../src/data/loader.ts";
import { mixup } from "../../src/data/transforms/mixup.ts";
import * as nn from "../../src/nn/index.ts";
import { init } from "../../src/runtime/engine.ts";
import * as snn from "../../src/spiking/index.ts";
import { square } from "../../src/tensor/ops/elementwise.ts";
import { uniform } from "../../src/tensor/ops/random.ts";
import { mean } from "../../src/tensor/ops/reduce.ts";
import { noGrad } from "../../src/tensor/tape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { estimateMemory } from "../../src/train/estimate.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { classificationLoss } from "../../src/train/losses.ts";
import { classification, distillation, type Objective } from "../../src/train/objective.ts";
import { type EpochEvent, type StepEvent, Trainer } from "../../src/train/trainer.ts";
import { adamw, advance, CLASSES, images, Net, STANDARD, trainer, weights } from "./support.ts";

/** A network with a head that learns from a teacher: two answers in training, their mean in evaluation. */
class TwoHeads extends Net {
  fc_kd = new nn.Linear(6 * 4 * 4, CLASSES);

  override forward(x: Tensor): Tensor {
    const h = nn.flatten(this.pool.forward(this.lif.forward(this.bn.forward(this.conv.forward(snn.repeat(x, 2))))), 2);
    const [a, b] = [mean(this.fc.forward(h), 0), mean(this.fc_kd.forward(h), 0)];
    return this.training ? ([a, b] as unknown as Tensor) : a.add(b).mul(0.5);
  }
}

/** Knows the answer: the mean brightness of each quarter of the image. */
class Teacher extends nn.Module {
  pool = new nn.AvgPool2d(4);
  bn = new nn.BatchNorm2d(1);
  forward(x: Tensor): Tensor {
    return nn.flatten(this.bn.forward(this.pool.forward(x)), 1);
  }
}

const values = (rows: number[][]) => tensor(Float64Array.from(rows.flat()), [rows.length, (rows[0] as number[]).length], "f32");

describe("distillation", () => {
  const [x, y] = [[[0.5, -1, 2]], Int32Array.of(1)] as const;

  /** A module that gives what it is told. */
  class Fixed extends nn.Module {
    readonly output: () => unknown;
    constructor(output: () => unknown) {
      super();
      this.output = output;
    }
    forward(): unknown {
      return this.output();
    }
  }

  it("asks the first head by the labels and the second by the teacher; a single head by both, over time too", async () => {
    await init({ device: "reference" });
    const [first, second] = [values([[1, 0, -1]]), values([[0.2, 0.4, 0]])];
    const teacher = new Fixed(() => values(x as unknown as number[][]));
    const settings = { kind: "soft", alpha: 0.3, temperature: 2 } as const;
    const objective = distillation({ teacher, loss: { labelSmoothing: 0.1 }, ...settings });
    const expected = (a: Tensor, b: Tensor) =>
      nn
        .distillationLoss(classificationLoss(a, tensor(y), { labelSmoothing: 0.1 }), b, values(x as unknown as number[][]), settings)
        .itemSync();
    const two = objective.loss(new Fixed(() => [first, second]), first, tensor(y));
    expect(two.loss.itemSync()).toBeCloseTo(expected(first, second), 12);
    expect(two.logits).toBe(first);
    expect(objective.loss(new Fixed(() => second), first, tensor(y)).loss.itemSync()).toBeCloseTo(expected(second, second), 12);
    const steps = snn.repeat(second, 3);
    expect(objective.loss(new Fixed(() => steps), first, tensor(y)).loss.itemSync()).toBeCloseTo(expected(second, second), 12);
  });

  it("says where classes differ, where there is no teacher for a second head, and what is no teacher", async () => {
    await init({ device: "reference" });
    const [three, two] = [values([[1, 0, -1]]), values([[0.2, 0.4]])];
    expect(() => distillation({ teacher: new Fixed(() => three) }).loss(new Fixed(() => two), two, tensor(y))).toThrow(
      "the teacher gives logits [1, 3] and the student [1, 2]: both must name the same classes",
    );
    expect(() => classification().loss(new Fixed(() => [three, three]), two, tensor(y))).toThrow(
      "has a head for distillation, which learns from a teacher only, and there is none. Give a teacher (train.teacher)",
    );
    expect(() => classification().loss(new Fixed(() => ({})), two, tensor(y))).toThrow(
      "must give logits [B, K] or [T, B, K], found an object",
    );
    expect(() => distillation({ teacher: 3 as unknown as nn.Module })).toThrow("teacher must be a model (nn.Module), found 3");
    expect(() => distillation({ teacher: new Fixed(() => three), tau: 1 } as unknown as Parameters<typeof distillation>[0])).toThrow(
      'there is no option "tau"',
    );
    const { options } = await trainer();
    expect(() => new Trainer({ ...options, objective: 3 as unknown as Objective })).toThrow("objective must be { loss(model, x, y) }");
    expect(() => new Trainer({ ...options, loss: {}, objective: classification() })).toThrow("leave out loss, or objective");
  });

  /** A trainer whose student never sees a right label: what it learns it has from its teacher. */
  const untaught = (more: object = {}) => {
    let teacher: Teacher | undefined;
    const objective: Objective = {
      loss(model, x, y) {
        teacher ??= new Teacher();
        return distillation({ teacher, alpha: 1 }).loss(model, x, y);
      },
    };
    return {
      made: trainer({ model: () => new TwoHeads(), objective, epochs: 8, schedule: { name: "constant", lr: 0.03, epochs: 8 }, ...more }),
      of: () => teacher as Teacher,
    };
  };

  it("teaches what the labels do not say, and leaves the teacher as it was", async () => {
    const { made, of } = untaught();
    const t = await made;
    await advance(t, 1);
    const before = weights(of());
    await advance(t);
    expect(weights(of())).toEqual(before);
    expect(of().training).toBe(true);
    const test = await evaluate(t.options.model, new Loader(images(32, 9), { batchSize: 20, transforms: STANDARD }));
    // Chance is 0.25; the head that is asked by labels, with weight 0, was not trained.
    expect(test.accuracy).toBeGreaterThan(0.6);
  });

  it("counts the model's spikes, not its teacher's", async () => {
    const first = await untaught({ rateEvery: 1 }).made;
    const rates = async (t: Trainer) => {
      for await (const event of t.run()) if (event.type === "step") return event.firingRate;
      return undefined;
    };
    const expected = await rates(first);
    class Spiking extends Teacher {
      lif = new snn.LIF({ vThreshold: -10 });
      override forward(x: Tensor): Tensor {
        this.lif.forward(snn.repeat(x, 2));
        return super.forward(x);
      }
    }
    let teacher: Teacher | undefined;
    const objective: Objective = {
      loss(model, x, y) {
        teacher ??= new Spiking();
        return distillation({ teacher, alpha: 1 }).loss(model, x, y);
      },
    };
    expect(await rates(await trainer({ model: () => new TwoHeads(), objective, rateEvery: 1 }))).toBe(expected);
  });

  it("goes on bit for bit, with mixed images", async () => {
    const options = { batchTransforms: [mixup({ mixupAlpha: 0.5, cutmixAlpha: 1 })], epochs: 2, shift: 1 };
    const whole = await untaught(options).made;
    await advance(whole);
    const expected = weights(whole.options.model);
    for (const stop of [3, 4]) {
      const first = await untaught(options).made;
      await advance(first, stop);
      const saved = first.checkpoint();
      const second = await untaught(options).made;
      expect(second.restore(saved)).toBeUndefined();
      await advance(second);
      expect(weights(second.options.model)).toEqual(expected);
    }
  });
});

describe("an objective without labels", () => {
  /** Predict the image from itself with half of it hidden. */
  class Filler extends nn.Module {
    conv = new nn.Conv2d(1, 1, 3, { padding: 1 });
    forward(x: Tensor): Tensor {
      return this.conv.forward(x);
    }
  }
  const objective: Objective = {
    unlabelled: true,
    loss(model, x) {
      const hidden = noGrad(() => uniform(x.shape, { stream: "mask" }).lt(0.5).to("f32"));
      return { loss: mean(square(model.forward(x.mul(hidden)).sub(x))) };
    },
  };
  const setup = (more: object = {}) => trainer({ model: () => new Filler(), objective, epochs: 2, ...more });
  const testLoader = () => new Loader(images(12, 9), { batchSize: 5, transforms: STANDARD });

  it("is trained, and tested by its loss; there is no accuracy", async () => {
    const t = await setup({ epochs: 6, testLoader: testLoader(), schedule: { name: "constant", lr: 0.05, epochs: 6 } });
    const steps: StepEvent[] = [];
    const epochs: EpochEvent[] = [];
    for await (const event of t.run()) event.type === "step" ? steps.push(event) : epochs.push(event);
    expect((epochs.at(-1) as EpochEvent).loss).toBeLessThan(0.8 * (epochs[0] as EpochEvent).loss);
    for (const { accuracy } of [...steps, ...epochs]) expect(accuracy).toBeNaN();
    const { test } = epochs.at(-1) as EpochEvent;
    expect([test?.accuracy, test?.top5, test?.samples]).toEqual([Number.NaN, Number.NaN, 12]);
    expect([test?.confusion, [...(test?.predictions ?? [0])]]).toEqual([[], []]);
    expect(test?.loss).toBeLessThan((epochs[0] as EpochEvent).test?.loss as number);
  });

  it("goes on bit for bit, draws of its own included", async () => {
    const whole = await setup({ testLoader: testLoader() });
    await advance(whole);
    const expected = weights(whole.options.model);
    const first = await setup({ testLoader: testLoader() });
    await advance(first, 5);
    const saved = first.checkpoint();
    const second = await setup({ testLoader: testLoader() });
    second.restore(saved);
    await advance(second);
    expect(weights(second.options.model)).toEqual(expected);
  });

  it("is estimated like a training of labels, which it leaves as it was", async () => {
    const plain = await setup({ testLoader: testLoader() });
    await advance(plain);
    const expected = weights(plain.options.model);
    const t = await setup({ testLoader: testLoader() });
    const estimate = await estimateMemory(t, 0);
    expect(estimate.trainHeapBytes).toBeGreaterThan(0);
    await advance(t);
    expect(weights(t.options.model)).toEqual(expected);
  });

  it("names the layer that is not finite", async () => {
    const t = await setup({ optimizer: adamw });
    const { conv } = t.options.model as Filler;
    const broken = conv.weight.dataSync();
    broken[0] = Number.NaN;
    conv.weight.set(broken);
    await expect(advance(t)).rejects.toThrow('the weight "conv.weight" is not finite');
  });
});
