// Training: it learns, it is the same for any number of threads, a stopped run goes on bit for bit, and what is wrong is told.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Loader } from "../../src/data/loader.ts";
import { mixup } from "../../src/data/transforms/mixup.ts";
import * as safetensors from "../../src/formats/safetensors.ts";
import * as nn from "../../src/nn/index.ts";
import { type Module, type Parameter, withForwardHook } from "../../src/nn/module.ts";
import { SGD } from "../../src/optim/index.ts";
import { init } from "../../src/runtime/engine.ts";
import { FormatError, SpikeloomError } from "../../src/runtime/error.ts";
import * as snn from "../../src/spiking/index.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { type EpochEvent, type StepEvent, type TrainEvent, Trainer } from "../../src/train/trainer.ts";
import { ADDON, compiledDevices } from "../gradcheck.ts";
import { adamw, advance, averaged, images, lamb, Net, type Setup, STANDARD, sgd, tinySdt, trainer, weights } from "./support.ts";

const NETS: [string, Setup][] = [
  ["Conv-BN-LIF-Linear", {}],
  ["SDT", { model: () => tinySdt() }],
];

async function events(t: Trainer): Promise<TrainEvent[]> {
  const all: TrainEvent[] = [];
  for await (const event of t.run()) all.push(event);
  return all;
}

const parameter = (model: Module, name: string) => new Map(model.namedParameters()).get(name) as Parameter;

/** Set one value of a parameter. */
function plant(model: Module, name: string, value: number): void {
  const p = parameter(model, name);
  const values = p.dataSync();
  values[0] = value;
  p.set(values);
}

describe("a run", () => {
  it.each(NETS)("of %s lowers the loss and learns the classes", async (_, setup) => {
    const t = await trainer({ ...setup, epochs: 12, threads: 2, schedule: { name: "cosine", lr: 0.03, epochs: 12 } });
    const test = new Loader(images(32, 9), { batchSize: 20, transforms: STANDARD });
    const before = await evaluate(t.options.model, test);
    const epochs = (await events(t)).filter((e): e is EpochEvent => e.type === "epoch");
    expect(epochs.length).toBe(12);
    const last = epochs.at(-1) as EpochEvent;
    expect(last.loss).toBeLessThan(0.5 * (epochs[0] as EpochEvent).loss);
    const after = await evaluate(t.options.model, test);
    expect(after.loss).toBeLessThan(before.loss);
    // Chance is 0.25.
    expect(after.accuracy).toBeGreaterThan(0.6);
    expect(last.firingRate).toBeGreaterThan(0);
    expect(last.firingRate).toBeLessThan(1);
  });

  it("tells of every step and epoch; a smaller last batch counts by its images", async () => {
    const testLoader = new Loader(images(12, 9), { batchSize: 5, transforms: STANDARD });
    const t = await trainer({ samples: 40, testLoader, rateEvery: 2, clipNorm: 0.01 });
    const all = await events(t);
    const steps = all.filter((e): e is StepEvent => e.type === "step");
    expect(all.map((e) => e.type).join(" ")).toBe("step step step epoch step step step epoch");
    expect(steps.map((s) => [s.epoch, s.batch, s.batches, s.step, s.images])).toEqual([
      [0, 1, 3, 1, 16],
      [0, 2, 3, 2, 16],
      [0, 3, 3, 3, 8],
      [1, 1, 3, 4, 16],
      [1, 2, 3, 5, 16],
      [1, 3, 3, 6, 8],
    ]);
    expect(steps.map((s) => s.firingRate !== undefined)).toEqual([true, false, true, true, false, true]);
    for (const s of steps) expect(s.gradNorm).toBeGreaterThan(0.01);
    const [first, second] = all.filter((e): e is EpochEvent => e.type === "epoch") as [EpochEvent, EpochEvent];
    const mean = (from: StepEvent[], of: (s: StepEvent) => number) => from.reduce((n, s) => n + of(s) * s.images, 0) / 40;
    expect(first.loss).toBeCloseTo(
      mean(steps.slice(0, 3), (s) => s.loss),
      10,
    );
    expect(second.accuracy).toBeCloseTo(
      mean(steps.slice(3), (s) => s.accuracy),
      10,
    );
    expect([first.step, second.step, first.test?.samples]).toEqual([3, 6, 12]);
    expect(second.lr).toBe((steps[5] as StepEvent).lr);
    expect(t.options.model.training).toBe(true);
    expect([t.steps, t.totalSteps, t.epochsDone]).toEqual([6, 6, 2]);
  });

  it("moves the learning rate every step, or every epoch", async () => {
    const schedule = { name: "linear", lr: 0.01, epochs: 2 } as const;
    const rates = async (schedulePer: "step" | "epoch") =>
      (await events(await trainer({ samples: 32, schedule, schedulePer }))).map((e) => e.lr);
    const expected = { step: [0.01, 0.0075, 0.0075, 0.005, 0.0025, 0.0025], epoch: [0.01, 0.01, 0.01, 0.005, 0.005, 0.005] };
    for (const per of ["step", "epoch"] as const)
      (await rates(per)).forEach((lr, i) => expect(lr, `${per} ${i}`).toBeCloseTo(expected[per][i] as number, 15));
  });

  it("tests every second epoch, and the last", async () => {
    const all = await events(
      await trainer({ samples: 16, epochs: 5, evalEvery: 2, testLoader: new Loader(images(8, 9), { batchSize: 8 }) }),
    );
    const epochs = all.filter((e): e is EpochEvent => e.type === "epoch");
    expect(epochs.map((e) => e.test !== undefined)).toEqual([false, true, false, true, true]);
  });

  it("with averaged weights tests those, and goes on with its own", async () => {
    const setup: Setup = { samples: 32, testLoader: new Loader(images(20, 9), { batchSize: 20, transforms: STANDARD }) };
    const plain = await trainer(setup);
    await advance(plain);
    const expected = weights(plain.options.model);
    const t = await trainer({ ...setup, ema: averaged });
    const last = (await events(t)).at(-1) as EpochEvent;
    expect(weights(t.options.model)).toEqual(expected);
    const ema = t.options.ema as NonNullable<typeof t.options.ema>;
    expect(ema.updates).toBe(4);
    const { loss } = await ema.swapped(() => evaluate(t.options.model, setup.testLoader as Loader));
    expect(last.test?.loss).toBe(loss);
    expect((await evaluate(t.options.model, setup.testLoader as Loader)).loss).not.toBe(loss);
  });

  it("is not changed by its tests, nor by one that was broken off, where a forward draws", async () => {
    class Poisson extends Net {
      override forward(x: Tensor): Tensor {
        return super.forward(snn.poisson(x.clamp(0, 1), 1).sum(0));
      }
    }
    const setup: Setup = { model: () => new Poisson(), samples: 32 };
    const testLoader = () => new Loader(images(20, 9), { batchSize: 5, transforms: STANDARD });
    const plain = await trainer(setup);
    await advance(plain);
    const expected = weights(plain.options.model);
    const tested = await trainer({ ...setup, testLoader: testLoader() });
    const test = (await events(tested)).flatMap((e) => (e.type === "epoch" ? [e.test?.loss] : []));
    expect(weights(tested.options.model)).toEqual(expected);

    const control = new AbortController();
    const first = await trainer({ ...setup, testLoader: testLoader(), signal: control.signal });
    await expect(
      (async () => {
        for await (const event of first.run()) {
          if (event.type === "step" && first.steps === 2) setTimeout(() => control.abort(), 0);
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      })(),
    ).rejects.toThrow("abort");
    const saved = first.checkpoint();
    const second = await trainer({ ...setup, testLoader: testLoader() });
    second.restore(saved);
    const rest = (await events(second)).flatMap((e) => (e.type === "epoch" ? [e.test?.loss] : []));
    expect(rest).toEqual(test.slice(-rest.length));
    expect(weights(second.options.model)).toEqual(expected);
  });

  it("reports the firing rate that measure gives: pools and reshapes are no neurons", async () => {
    const t = await trainer({ samples: 16, epochs: 1, rateEvery: 1, optimizer: (model) => new SGD(model.parameters(), { lr: 1e-12 }) });
    const { x, y } = await t.options.loader.batchOf(Array.from({ length: 16 }, (_, i) => i));
    const running: boolean[] = [];
    const [step] = await events(t);
    // In training mode, as the step was: measure runs in eval mode, where the norm has other statistics.
    let spikes = 0;
    let neurons = 0;
    t.options.model.train();
    withForwardHook(
      (m, _i, out) => {
        if (!(m instanceof snn.LIF)) return;
        running.push(true);
        spikes += Array.from((out as Tensor).dataSync()).reduce((a, b) => a + b, 0);
        neurons += (out as Tensor).size;
      },
      () => t.options.model.forward(x),
    );
    expect(running.length).toBe(1);
    expect((step as StepEvent).firingRate).toBeCloseTo(spikes / neurons, 3);
    x.dispose();
    y.dispose();
  });

  it("with accumulated batches makes the steps of a run with large ones", async () => {
    // With batch norm in eval mode and no dropout, the mean of two batches' gradients is the gradient of both.
    const model = () => {
      const net = tinySdt().eval();
      net.train = () => net;
      return net;
    };
    const final = async (setup: Setup) => {
      const t = await trainer({
        device: "reference",
        model,
        optimizer: sgd,
        samples: 32,
        epochs: 1,
        schedulePer: "epoch",
        rateEvery: 0,
        ...setup,
      });
      await advance(t);
      expect(t.options.optimizer.steps).toBe(2);
      return weights(t.options.model);
    };
    const large = await final({ batchSize: 16 });
    const small = await final({ batchSize: 8, accumulate: 2 });
    for (const [key, values] of Object.entries(large)) values.forEach((v, i) => expect(small[key]?.[i], `${key} ${i}`).toBeCloseTo(v, 9));
  });

  it("refuses what is no model, loader or average, unknown options, and neurons that carry their state", async () => {
    const { options } = await trainer();
    const wrong = (change: object) => () => new Trainer({ ...options, ...change });
    expect(wrong({ ema: 0.9 })).toThrow("Trainer: ema must be of the class EMA, found 0.9");
    expect(wrong({ model: undefined })).toThrow("Trainer: model must be of the class Module");
    expect(wrong({ schedule: "cosine" })).toThrow("Trainer: schedule must be an object");
    expect(wrong({ epoch: 4 })).toThrow('did you mean "epochs"?');
    const carrying = new nn.Sequential(new snn.LIF({ carry: "detached" }));
    expect(wrong({ model: carrying })).toThrow('"0" carries its state');
  });

  it.each([
    ["epochs", 0],
    ["epochs", 1.5],
    ["accumulate", 0],
  ])("refuses %s %d", async (key, value) => {
    await expect(trainer({ [key]: value })).rejects.toThrow(`Trainer: ${key} must be a positive integer, found ${value}`);
  });
});

describe.each(compiledDevices())("on %s", (device) => {
  it.each(NETS)("weights of %s are the same bits with 1, 2 and 3 threads", async (_, setup) => {
    const results: unknown[] = [];
    for (const threads of [1, 2, 3]) {
      const t = await trainer({ ...setup, device, threads, batchSize: 32, shift: 1, clipNorm: 1 });
      await advance(t);
      results.push(weights(t.options.model));
    }
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });
});

describe("a stopped run", () => {
  const RUNS: [string, Setup][] = [
    ["AdamW, accumulated, clipped, shifted", { optimizer: adamw, accumulate: 2, clipNorm: 0.5, shift: 1, samples: 72 }],
    ["SGD with momentum", { optimizer: sgd, shift: 1 }],
    [
      "LAMB, mixed images, averaged weights",
      { optimizer: lamb, batchTransforms: [mixup({ mixupAlpha: 0.5, cutmixAlpha: 1 })], ema: averaged },
    ],
    ["SDT, AdamW, per epoch", { model: () => tinySdt({ spikeMode: "plif" }), schedulePer: "epoch", accumulate: 2, samples: 56 }],
  ];

  it.each(RUNS.flatMap(([name, setup]) => compiledDevices().map((device) => [name, device, setup] as const)))(
    "(%s, %s) goes on bit for bit, wherever it stopped",
    async (_, device, setup) => {
      const options = { ...setup, device, threads: 2 };
      const whole = await trainer(options);
      await advance(whole);
      const [expected, bytes, total] = [weights(whole.options.model), whole.checkpoint(), whole.steps];
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 0, max: total - 1 }), async (stop) => {
          const first = await trainer(options);
          await advance(first, stop);
          const saved = first.checkpoint();
          const second = await trainer(options);
          expect(second.restore(saved)).toBeUndefined();
          // What was restored saves as the same bytes.
          expect(second.checkpoint()).toEqual(saved);
          expect(second.steps).toBe(stop);
          await advance(second);
          expect(weights(second.options.model)).toEqual(expected);
          expect(second.checkpoint()).toEqual(bytes);
        }),
        { seed: 7, numRuns: 3, examples: [[whole.options.loader.batches], [1]] },
      );
    },
  );

  it("goes on on the reference device, too, in the middle of a group of batches", async () => {
    const options: Setup = { device: "reference", accumulate: 2, samples: 24, batchSize: 8, epochs: 1 };
    const whole = await trainer(options);
    await advance(whole);
    const expected = weights(whole.options.model);
    const first = await trainer(options);
    await advance(first, 1);
    const saved = first.checkpoint();
    const second = await trainer(options);
    second.restore(saved);
    await advance(second);
    expect(weights(second.options.model)).toEqual(expected);
  });

  it("that was aborted by its signal loses no batch and no test", async () => {
    const testLoader = () => new Loader(images(20, 9), { batchSize: 5, transforms: STANDARD });
    const options: Setup = { samples: 48, shift: 1 };
    const summary = (all: TrainEvent[]) =>
      all.map((e) => ({ ...e, seconds: 0, waitSeconds: 0, ...(e.type === "epoch" && e.test ? { test: { ...e.test, seconds: 0 } } : {}) }));
    const whole = await trainer({ ...options, testLoader: testLoader() });
    const expected = summary(await events(whole));
    const bytes = whole.checkpoint();
    // After the third batch of the first epoch its test follows: aborting at 2 stops between batches, at 3 inside the test.
    for (const stop of [2, 3]) {
      const control = new AbortController();
      const first = await trainer({ ...options, testLoader: testLoader(), signal: control.signal });
      const seen: TrainEvent[] = [];
      await expect(
        (async () => {
          for await (const event of first.run()) {
            seen.push(event);
            if (first.steps === stop && event.type === "step") setTimeout(() => control.abort(), 0);
            // The timer runs before the generator goes on, as a signal's handler would.
            await new Promise((resolve) => setTimeout(resolve, 1));
          }
        })(),
      ).rejects.toThrow("abort");
      expect(seen.length).toBe(stop);
      const saved = first.checkpoint();
      const second = await trainer({ ...options, testLoader: testLoader() });
      second.restore(saved);
      expect(summary([...seen, ...(await events(second))])).toEqual(expected);
      expect(second.checkpoint()).toEqual(bytes);
    }
  });

  it("warns when it goes on on another device", async () => {
    const first = await trainer({ device: "reference", samples: 16, epochs: 1 });
    await advance(first, 1);
    const saved = first.checkpoint();
    const second = await trainer({ device: "wasm", samples: 16, epochs: 1 });
    expect(second.restore(saved)).toBe("the run was made on reference (float64), this is wasm (simd128): it goes on, but not bit for bit");
  });
});

describe("a checkpoint that is wrong changes nothing:", () => {
  /** A trainer some steps into a run, its state, and a good checkpoint of another moment. */
  async function started(setup: Setup = {}): Promise<{ t: Trainer; before: Uint8Array; good: Uint8Array }> {
    const t = await trainer({ samples: 48, shift: 1, ...setup });
    await advance(t, 1);
    const good = t.checkpoint();
    await advance(t, 3);
    return { t, before: t.checkpoint(), good };
  }

  it("truncated anywhere", async () => {
    const { t, before, good } = await started();
    fc.assert(
      fc.property(fc.integer({ min: 0, max: good.length - 1 }), (length) => {
        expect(() => t.restore(good.slice(0, length), "a.safetensors")).toThrow(FormatError);
      }),
      { seed: 1, numRuns: 60 },
    );
    expect(t.checkpoint()).toEqual(before);
    t.restore(good);
    expect(t.checkpoint()).toEqual(good);
  });

  it("any bit of the header flipped", async () => {
    const { t, before, good } = await started();
    const header = 8 + Number(new DataView(good.buffer, good.byteOffset).getBigUint64(0, true));
    // The header ends in spaces that say nothing.
    const end = good.subarray(0, header).findLastIndex((byte) => byte !== 0x20) + 1;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: end - 1 }), fc.integer({ min: 0, max: 7 }), (at, bit) => {
        const bad = good.slice();
        bad[at] = (bad[at] as number) ^ (1 << bit);
        expect(() => t.restore(bad, "a.safetensors"), `byte ${at}, bit ${bit}`).toThrow(FormatError);
      }),
      { seed: 1, numRuns: 300 },
    );
    expect(t.checkpoint()).toEqual(before);
  });

  it("a flipped bit in a weight, a moment or anything else", async () => {
    const { t, good, before } = await started();
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 8 * good.length - 1 }), (bit) => {
        const bad = good.slice();
        bad[bit >> 3] = (bad[bit >> 3] as number) ^ (1 << (bit & 7));
        expect(() => t.restore(bad, "a.safetensors"), `bit ${bit}`).toThrow(SpikeloomError);
      }),
      { seed: 2, numRuns: 100, examples: [[8 * (good.length - 9)]] },
    );
    expect(t.checkpoint()).toEqual(before);
  });

  it("notes in its metadata, which are under the same seal", async () => {
    const { t } = await started();
    const bytes = t.checkpoint({ classes: '["cat","dog"]', sampleShape: "[8,8,1]" });
    const { tensors, metadata } = safetensors.decode(bytes);
    expect(metadata).toMatchObject({ classes: '["cat","dog"]', sampleShape: "[8,8,1]" });
    expect(t.restore(bytes)).toBeUndefined();
    const changed = safetensors.encode(tensors, { ...metadata, classes: '["dog","cat"]' });
    expect(() => t.restore(changed, "c")).toThrow(/^c: expected the checksum/);
  });

  it("weights alone, or the file of another program", async () => {
    const { t, before } = await started();
    const file = (metadata: Record<string, string>) => safetensors.encode(t.options.model.stateDict(), metadata);
    expect(() => t.restore(file({}), "w.safetensors")).toThrow(
      'w.safetensors: no training checkpoint (its metadata has no "spikeloom" entry)',
    );
    expect(() => t.restore(file({ spikeloom: "null" }), "w.safetensors")).toThrow(FormatError);
    expect(() => t.restore(new TextEncoder().encode("not a checkpoint"), "w.safetensors")).toThrow(FormatError);
    expect(t.checkpoint()).toEqual(before);
  });

  it.each<[string, Setup, string]>([
    ["another model", { model: () => tinySdt() }, 'state dict: 8 missing keys ("conv.weight"'],
    ["another optimiser", { optimizer: sgd }, "the run was made with the optimiser SGD, this one has AdamW"],
    ["another batch size", { batchSize: 8 }, "expected batchSize 16, found 8"],
    ["other data", { samples: 40 }, "a.safetensors: the data set has 48 samples now, 40 when the run began: put the files back"],
    ["averaged weights", { ema: averaged }, "the run was made with averaged weights, this one has none"],
    ["another seed", { seed: 4 }, "the run was made with seed 4, this one has 3. Resume with the run's own seed"],
  ])("%s", async (_, other, message) => {
    const foreign = await trainer({ samples: 48, shift: 1, ...other });
    await advance(foreign, 1);
    const saved = foreign.checkpoint();
    const { t, before } = await started();
    expect(() => t.restore(saved, "a.safetensors")).toThrow(SpikeloomError);
    expect(() => t.restore(saved, "a.safetensors")).toThrow(message);
    expect(() => t.restore(saved, "a.safetensors")).toThrow(/^a\.safetensors/);
    expect(t.checkpoint()).toEqual(before);
  });
});

describe("numbers that are not finite stop the run and name where they began:", () => {
  async function failure(t: Trainer, steps = 100): Promise<string> {
    const before = weights(t.options.model);
    const error = await advance(t, steps).then(
      () => undefined,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(SpikeloomError);
    const after = weights(t.options.model);
    for (const name of new Map(t.options.model.namedParameters()).keys()) expect(after[name], name).toEqual(before[name]);
    return (error as Error).message;
  }

  it("a weight of the last layer", async () => {
    const t = await trainer();
    plant(t.options.model, "fc.weight", Number.NaN);
    expect(await failure(t)).toMatch(
      /^the loss is NaN at step 1 \(epoch 1\): the weight "fc\.weight" is not finite\. Lower the learning rate/,
    );
  });

  it("a weight before neurons, which stay silent and hide it from the loss", async () => {
    const t = await trainer({ model: () => tinySdt() });
    plant(t.options.model, "patch_embed.proj_conv.weight", Number.NaN);
    expect(await failure(t)).toMatch(/at step 1 \(epoch 1\): the weight "patch_embed\.proj_conv\.weight" is not finite/);
  });

  it("the input", async () => {
    const t = await trainer();
    const data = new Float32Array(64 * 64);
    for (let i = 5; i < data.length; i += 64) data[i] = Number.POSITIVE_INFINITY;
    Object.assign(t.options.loader.dataset, { images: data });
    expect(await failure(t)).toMatch(/the input itself is not finite/);
  });

  it("a layer that overflows though its weights are finite", async () => {
    const t = await trainer();
    const { model } = t.options;
    plant(model, "fc.bias", 3e38);
    parameter(model, "fc.weight").set(new Float32Array(6 * 16 * 4).fill(3e38));
    expect(await failure(t)).toMatch(/the first layer whose output is not finite is "fc"/);
  });

  it("a learning rate beyond reason; the checkpoint before is good, and nothing worse is saved", async () => {
    const t = await trainer({ optimizer: sgd, schedule: { name: "constant", lr: 1e38, epochs: 4 }, epochs: 4 });
    const start = t.checkpoint();
    const before = weights(t.options.model);
    await expect(advance(t)).rejects.toThrow(/at step \d+ \(epoch \d\): the (weight|first layer|gradient)/);
    t.restore(start);
    expect([t.steps, weights(t.options.model)]).toEqual([0, before]);
    plant(t.options.model, "conv.weight", Number.NaN);
    expect(() => t.checkpoint()).toThrow(
      'checkpoint: "model.conv.weight" is not finite; it is not saved, so that the last good checkpoint stays',
    );
  });
});

describe("evaluate", () => {
  it("gives loss, accuracy, confusion and predictions, whatever the batches, and leaves the mode alone", async () => {
    await init({ device: "wasm", threads: 1, seed: 3, native: ADDON });
    const model = tinySdt();
    const set = images(30, 2);
    const at = (batchSize: number) => evaluate(model, new Loader(set, { batchSize, transforms: STANDARD }));
    const one = await at(30);
    const many = await at(7);
    expect(many.predictions).toEqual(one.predictions);
    expect(many.confusion).toEqual(one.confusion);
    expect(many.loss).toBeCloseTo(one.loss, 5);
    expect(one.samples).toBe(30);
    let right = 0;
    const counts = Array.from({ length: 4 }, () => [0, 0, 0, 0]);
    one.predictions.forEach((guess, i) => {
      const label = set.labels[i] as number;
      if (guess === label) right++;
      (counts[label] as number[])[guess]!++;
    });
    expect([one.confusion, one.accuracy]).toEqual([counts, right / 30]);
    expect(model.training).toBe(true);
  });

  it("begins anew after it was stopped in the middle", async () => {
    await init({ device: "wasm", threads: 1, seed: 3, native: ADDON });
    const model = tinySdt();
    const loader = new Loader(images(20, 2), { batchSize: 5 });
    const control = new AbortController();
    await expect(evaluate(model, loader, { signal: control.signal, onBatch: (done) => done >= 10 && control.abort() })).rejects.toThrow(
      "abort",
    );
    expect(model.training).toBe(true);
    expect((await evaluate(model, loader)).samples).toBe(20);
  });
});
