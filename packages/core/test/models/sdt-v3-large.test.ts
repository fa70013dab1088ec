// Spike-driven Transformer V3, large family and masked auto-encoder: sizes exactly as the official code's, masks that hide, and what follows
// from the options. Values are held against the official code by the parity fixtures.
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { createModel, findSystem } from "../../src/models/registry.ts";
import {
  type ESpikeFormerLarge,
  type LargeBlock,
  normSeen,
  patchify,
  reconstructionLoss,
  SeenPatches,
  type SpikeMaskedAutoencoder,
  startFromPretraining,
  unpatchify,
} from "../../src/models/sdt-v3/index.ts";
import { Conv1d } from "../../src/nn/conv.ts";
import { withoutDraws } from "../../src/nn/init.ts";
import { type Module, withForwardHook } from "../../src/nn/module.ts";
import { BatchNorm2d } from "../../src/nn/norm.ts";
import { AdamW } from "../../src/optim/adamw.ts";
import { device, init, randomness } from "../../src/runtime/engine.ts";
import { maxPool2d } from "../../src/tensor/ops/pool.ts";
import { scope } from "../../src/tensor/scope.ts";
import { noGrad } from "../../src/tensor/tape.ts";
import { Tensor, tensor, zeros } from "../../src/tensor/tensor.ts";
import { draw, gradcheck, leakless, RUNS } from "../gradcheck.ts";
import "../../src/tensor/methods.ts";

const SMALL = { inChannels: 2, embedDims: [4, 6, 8], depths: 2, numHeads: 2, mlpRatio: 2 };
/** A classifier whose blocks count: scales of 1e-6 would hide them. */
const large = (overrides: Record<string, unknown> = {}) =>
  createModel("sdt-v3/large-tiny", { ...SMALL, numClasses: 3, layerScale: 0.7, ...overrides }) as ESpikeFormerLarge;
const auto = (overrides: Record<string, unknown> = {}) =>
  createModel("sdt-v3/mae-tiny", {
    ...SMALL,
    ...{ decoderDim: 8, decoderHeads: 2, imageSize: [16, 16], ...overrides },
  }) as SpikeMaskedAutoencoder;

/** Parameters that are trained and state-dict keys of the official code, measured by instantiating it. */
const OFFICIAL: [name: string, overrides: Record<string, unknown>, parameters: number, keys: number][] = [
  ["83m", {}, 82_502_952, 1238],
  ["83m", { kd: true }, 83_015_952, 1240],
  ["171m", {}, 170_971_714, 1094],
  ["171m", { kd: true }, 171_740_714, 1096],
  ["171m", { embedDims: [192, 384, 768] }, 170_810_824, 1094],
  ["171m", { embedDims: [192, 384, 768], kd: true }, 171_579_824, 1096],
  ["mae-83m", {}, 85_464_128, 1270],
  ["mae-173m", {}, 173_575_904, 1126],
];

describe("the named configurations", () => {
  beforeAll(() => init({ device: "wasm", threads: 1 }));

  it.each(OFFICIAL)("%s %o: %d parameters, %d keys", (name, overrides, parameters, keys) => {
    const model = withoutDraws(() => createModel(`sdt-v3/${name}`, overrides));
    expect([model.parameterCount(), model.stateShapes().size]).toEqual([parameters, keys]);
    model.dispose();
    expect(device().memory().used).toBe(0);
  });

  /** Dense multiply-accumulates of an image: of the first convolution, of the other weight layers, and of attention's products. */
  it.each<[string, number, number, number, number]>([
    ["83m", 224, 118_013_952, 29_056_540_672, 154_140_672],
    ["83m", 384, 346_816_512, 85_388_664_832, 452_984_832],
    ["171m", 224, 180_708_864, 63_335_514_624, 346_816_512],
    ["171m", 384, 531_062_784, 186_125_881_344, 1_019_215_872],
  ])("%s at %d: operations of the energy table", (name, size, first, layers, attention) => {
    const { energyTable, configs } = findSystem("sdt-v3");
    const table = energyTable?.({ ...configs[name], kd: true }, { timeSteps: 1, height: size, width: size });
    const rows = table?.rows ?? [];
    const sum = (list: typeof rows) => list.reduce((n, { ops }) => n + ops, 0);
    const products = rows.filter(({ part }) => /k\^T v/.test(part));
    expect([rows[0]?.ops, sum(rows.slice(1)) - sum(products), sum(products)]).toEqual([first, layers, attention]);
  });

  it("lie in 14 layers, of which the first is everything before the blocks", () => {
    const { layers, configs } = findSystem("sdt-v3");
    const { count, of } = layers?.(configs["83m"] as Record<string, unknown>) ?? { count: 0, of: () => -1 };
    expect(count).toBe(13);
    const keys = ["downsample1_1.encode_conv.weight", "ConvBlock2_2.0.conv1.0.0.bias", "downsample3.encode_bn.weight"];
    expect(keys.map(of)).toEqual([0, 0, 0]);
    expect(["block3.0.layer_scale1", "block3.11.mlp.fc1_conv.bias", "head.weight", "head_kd.bias"].map(of)).toEqual([1, 12, 13, 13]);
  });
});

describe("settings that are wrong", () => {
  beforeAll(() => init({ device: "wasm", threads: 1 }));

  it.each<[() => Module, string]>([
    [() => large({ embedDims: [4, 6] }), "embedDims must be three positive integers, found [4,6]"],
    [() => large({ embedDims: [5, 6, 8] }), "embedDims must be even in its first number"],
    [() => large({ embedDims: [4, 6, 9] }), "embedDims must be a multiple of numHeads = 2 in its last number"],
    [() => large({ strides: [2, 2, 2] }), "strides must be four positive integers"],
    [() => large({ choice: "small" }), 'choice must be "base" or "large", found "small"'],
    [() => large({ dropPath: 1 }), "dropPath must be in [0, 1), found 1"],
    [() => large({ dropPathPer: "batch" }), 'dropPathPer must be "step" or "sample"'],
    [() => large({ kd: "yes" }), "kd must be true or false"],
    [() => auto({ imageSize: [18, 16] }), "imageSize must be multiples of a patch, the product of strides, 4, found [18,16]"],
    [() => auto({ maskRatio: 1 }), "maskRatio must be such that some of the 16 patches are seen, and not all, found 1"],
    [() => auto({ maskRatio: 0 }), "maskRatio must be"],
    [() => auto({ decoderDim: 6 }), "decoderDim must be a multiple of 4 and of decoderHeads = 2, found 6"],
    [() => auto({ tokenOrder: "random" }), 'tokenOrder must be one of "official", "raster", "mask-token", found "random"'],
  ])("%#", (build, message) => {
    expect(build).toThrow(`sdt-v3 config: ${message}`);
  });
});

describe("partly seen maps", () => {
  beforeAll(() => init({ device: "reference", seed: 2 }));

  const masks = fc.tuple(
    fc.integer({ min: 1, max: 3 }),
    fc.integer({ min: 1, max: 3 }),
    fc.array(fc.boolean(), { minLength: 18, maxLength: 18 }),
  );

  it("are normalised by what is seen, and stay zero elsewhere", () => {
    fc.assert(
      fc.property(masks, fc.boolean(), ([rows, columns, bits], training) => {
        scope(() => {
          const values = Uint8Array.from({ length: 2 * rows * columns }, (_, i) => (bits[i] ? 1 : 0));
          // A norm needs two values.
          values[0] = 1;
          const seen = new SeenPatches(values, [2, rows, columns]);
          const [h, w, c] = [2 * rows, 2 * columns, 3];
          const x = draw([1, 2, h, w, c], 7);
          const norm = new BatchNorm2d(c).train(training);
          const y = normSeen(norm, x, ...seen.places(1, h, w)).dataSync();
          const isSeen = (i: number) => {
            const [b, at] = [Math.floor(i / (h * w)), i % (h * w)];
            return values[(b * rows + (Math.floor(at / w) >> 1)) * columns + ((at % w) >> 1)] === 1;
          };
          const places = Array.from({ length: 2 * h * w }, (_, i) => i);
          const own = x.dataSync();
          for (let k = 0; k < c; k++) {
            const list = places.filter(isSeen).map((i) => own[i * c + k] as number);
            const mean = training ? list.reduce((a, b) => a + b, 0) / list.length : 0;
            const variance = training ? list.reduce((a, b) => a + (b - mean) ** 2, 0) / list.length : 1;
            for (const i of places)
              expect(y[i * c + k]).toBeCloseTo(isSeen(i) ? ((own[i * c + k] as number) - mean) / Math.sqrt(variance + 1e-5) : 0, 9);
          }
        });
      }),
      RUNS,
    );
  });

  it("have the gradient of what is done to them", () => {
    const seen = new SeenPatches(Uint8Array.from([1, 0, 0, 1, 1, 0]), [1, 2, 3]);
    const places = seen.places(2, 2, 3);
    const weights = draw([2, 1, 2, 3, 2], 5);
    const norm = new BatchNorm2d(2, { affine: false });
    gradcheck((x) => normSeen(norm, x, ...places).mul(weights), [draw([2, 1, 2, 3, 2], 3)], { tolerance: 1e-5 });
    gradcheck((x) => seen.mask(maxPool2d(x, 3, { stride: 2, padding: 1 })), [draw([1, 4, 6, 2], 4)]);
  });

  it("that are seen as a whole are normalised as ever", () => {
    scope(() => {
      const x = draw([1, 2, 4, 4, 3], 8);
      const all = new SeenPatches(new Uint8Array(8).fill(1), [2, 2, 2]);
      const [one, two] = [new BatchNorm2d(3), new BatchNorm2d(3)];
      expect(normSeen(one, x, ...all.places(1, 4, 4)).dataSync()).toEqual(two.forward(x).dataSync());
      expect(one.running_var?.dataSync()).toEqual(two.running_var?.dataSync());
    });
  });

  it("must be made of whole patches", () => {
    const seen = new SeenPatches(new Uint8Array(4), [1, 2, 2]);
    expect(() => seen.places(1, 5, 4)).toThrow("SeenPatches: a feature map must be of a multiple of 2 x 2 positions, found 5 x 4");
    expect(() => seen.mask(zeros([2, 4, 4, 1]))).toThrow("SeenPatches: x must be of shape [1, H, W, C], found [2, 4, 4, 1]");
  });
});

describe("the masked auto-encoder", () => {
  beforeAll(() => init({ device: "reference", seed: 3 }));

  /** `images` with other values where `change` says of a patch. */
  const changed = (images: Tensor, patch: number, change: (i: number) => boolean) => {
    const patches = patchify(images, patch);
    const width = patches.shape[2] as number;
    const values = patches.dataSync().map((v, i) => (change(Math.floor(i / width)) ? -3 * v + 1 : v));
    return unpatchify(tensor(values, patches.shape, "f32"), patch, images.shape.slice(1, 3) as [number, number]);
  };

  it.each([{}, { tokenOrder: "official" }, { tokenOrder: "raster" }])("rebuilds from what is seen alone %o", (overrides) => {
    scope(() => {
      // In training the statistics of the batch must not know what is hidden either.
      const model = auto(overrides);
      const images = draw([2, 16, 16, 2], 4);
      const noise = draw([2, 16], 5, 0, 1);
      const run = (x: Tensor) => noGrad(() => model.reconstruct(x, noise));
      const { predicted, latent, seen } = run(images);
      const flags = [...seen.dataSync()];
      const hidden = run(changed(images, 4, (i) => !flags[i]));
      expect(hidden.latent.dataSync()).toEqual(latent.dataSync());
      expect(hidden.predicted.dataSync()).toEqual(predicted.dataSync());
      expect(run(changed(images, 4, (i) => i === flags.indexOf(1))).latent.dataSync()).not.toEqual(latent.dataSync());
    });
  });

  it("the loss looks at hidden patches alone", () => {
    scope(() => {
      const [images, predicted] = [draw([1, 8, 8, 1], 6), draw([1, 4, 16], 7)];
      const seen = tensor(Uint8Array.from([1, 0, 1, 0]), [1, 4]);
      const loss = (x: Tensor) => reconstructionLoss(x, images, seen, 4).itemSync();
      const other = (patch: number) =>
        tensor(
          predicted.dataSync().map((v, i) => (Math.floor(i / 16) === patch ? v + 1 : v)),
          [1, 4, 16],
          "f32",
        );
      expect(loss(other(0))).toBe(loss(predicted));
      expect(loss(other(1))).not.toBe(loss(predicted));
    });
  });

  it("takes tokens in the order asked for", () => {
    scope(() => {
      const [raster, official, masked] = (["raster", "official", "mask-token"] as const).map((tokenOrder) => auto({ tokenOrder }).eval());
      if (!raster || !official || !masked) throw new Error();
      const [images, noise] = [draw([2, 16, 16, 2], 4), draw([2, 16], 5, 0, 1)];
      // What enters the decoder's first block, less positions.
      const tokensOf = (model: SpikeMaskedAutoencoder) => {
        model.loadStateDict(raster.stateDict());
        let tokens = new Float64Array();
        const hear = (m: Module, [x]: readonly unknown[]) => {
          if (m === model.decoder_blocks[0]) tokens = Float64Array.from((x as Tensor).sub(model.decoder_pos_embed).dataSync());
        };
        const out = withForwardHook(hear, () => noGrad(() => model.reconstruct(images, noise)));
        return { tokens, restore: out.restore.dataSync(), seen: out.seen.dataSync() };
      };
      const { tokens, restore, seen } = tokensOf(raster);
      const [mixed, replaced] = [tokensOf(official).tokens, tokensOf(masked).tokens];
      const mask = raster.mask_token.dataSync();
      for (let i = 0; i < 32; i++)
        for (let d = 0; d < 8; d++) {
          const from = 16 * Math.floor(i / 16) + (restore[i] as number);
          expect(mixed[8 * i + d]).toBeCloseTo(tokens[8 * from + d] as number, 10);
          expect(replaced[8 * i + d]).toBeCloseTo((seen[i] ? tokens[8 * i + d] : mask[d]) as number, 10);
        }
    });
  });

  it("hides its share of every image, drawn from a stream of its own", () => {
    scope(() => {
      const model = auto({ maskRatio: 0.7 }).eval();
      const images = draw([3, 16, 16, 2], 4);
      const before = randomness().state();
      const draws = () => [...noGrad(() => model.reconstruct(images)).seen.dataSync()];
      const first = draws();
      // Of 16 the first floor(16 x 0.3) stay.
      for (let b = 0; b < 3; b++) expect(first.slice(16 * b, 16 * b + 16).reduce((n, v) => n + v, 0)).toBe(4);
      expect(draws()).not.toEqual(first);
      const { mask, ...others } = randomness().state().streams;
      expect(mask).toBeDefined();
      const { mask: _, ...othersBefore } = before.streams;
      expect(others).toEqual(othersBefore);
      randomness().restore(before);
      expect(draws()).toEqual(first);
    });
  });

  it.each<[number, readonly number[]]>([
    [28, [1, 2, 2, 1]],
    [32, [1, 2, 2, 2]],
    [32, [2, 2, 2, 2]],
  ])("works for images of %d pixels a side with strides %o", (size, strides) => {
    scope(() => {
      const model = auto({ imageSize: [size, size], strides });
      const patch = strides.reduce((a, b) => a * b, 1);
      const { loss, predicted } = model.reconstruct(draw([2, size, size, 2], 1));
      expect(predicted.shape).toEqual([2, (size / patch) ** 2, patch * patch * 2]);
      loss.backward();
      for (const [name, p] of model.namedParameters()) expect(p.grad, name).not.toBeNull();
    });
  });

  it("gives the same for several time steps as for one", () => {
    scope(() => {
      const [one, three] = [auto().eval(), auto({ T: 3 }).eval()];
      three.loadStateDict(one.stateDict());
      const [images, noise] = [draw([2, 16, 16, 2], 4), draw([2, 16], 5, 0, 1)];
      const [a, b] = [one, three].map((m) => noGrad(() => m.reconstruct(images, noise)).predicted.dataSync()) as [
        Float64Array,
        Float64Array,
      ];
      a.forEach((v, i) => expect(b[i]).toBeCloseTo(v, 10));
    });
  });

  it("refuses other sizes and other noise", () => {
    scope(() => {
      const model = auto();
      expect(() => model.forward(draw([1, 20, 20, 2], 1))).toThrow(
        "SpikeMaskedAutoencoder: the input must be images [B, 16, 16, 2] (imageSize of the model), found [1, 20, 20, 2]",
      );
      expect(() => model.reconstruct(draw([1, 16, 16, 2], 1), zeros([1, 15]))).toThrow(
        "SpikeMaskedAutoencoder: the noise must be a tensor of shape [1, 16], found [1, 15]",
      );
    });
  });

  it("is the same to the last bit, and leaves no memory, when its parts are run again in backward", async () => {
    await init({ device: "wasm", threads: 2, seed: 6 });
    const gradients = [false, true].map((recompute) =>
      scope(() => {
        const model = auto();
        if (recompute) model.loadStateDict(first as Map<string, never>);
        else first = model.stateDict();
        for (const part of model.recomputable()) part.recompute = recompute;
        const noise = draw([2, 16], 5, 0, 1);
        leakless(() => {
          model.reconstruct(draw([2, 16, 16, 2], 4), noise).loss.backward();
          model.zeroGrad();
        });
        model.reconstruct(draw([2, 16, 16, 2], 4), noise).loss.backward();
        const found = [...model.namedParameters()].map(([name, p]) => [name, [...(p.grad?.dataSync() ?? [])]]);
        model.dispose();
        model.zeroGrad();
        return found;
      }),
    );
    expect(gradients[1]).toEqual(gradients[0]);
  });
  let first: ReadonlyMap<string, unknown>;

  it("learns: the loss falls in a few steps", async () => {
    await init({ device: "wasm", threads: 2, seed: 7 });
    const model = auto({ inChannels: 1 });
    const optimizer = new AdamW(model.parameters(), { lr: 3e-3, betas: [0.9, 0.95], eps: 1e-4 });
    // Stripes: what is hidden follows from what is seen.
    const images = tensor(
      Float32Array.from({ length: 4 * 256 }, (_, i) => Math.sin((i % 16) * (0.5 + Math.floor(i / 256) / 4))),
      [4, 16, 16, 1],
    );
    const losses = Array.from({ length: 60 }, () =>
      scope(() => {
        optimizer.zeroGrad();
        const loss = model.loss(images);
        loss.backward();
        optimizer.step();
        return loss.itemSync();
      }),
    );
    const mean = (list: number[]) => list.reduce((a, b) => a + b, 0) / list.length;
    expect(mean(losses.slice(-5))).toBeLessThan(0.9 * mean(losses.slice(0, 5)));
  });
});

describe("the classifier", () => {
  beforeAll(() => init({ device: "reference", seed: 8 }));
  const images = () => draw([2, 16, 16, 2], 4, -2, 2);

  it("with a distillation head gives both heads' logits in training and their mean in eval", () => {
    scope(() => {
      const model = large({ kd: true });
      const both = model.forward(images());
      expect(Array.isArray(both) && both.map((t) => t.shape)).toEqual([
        [2, 3],
        [2, 3],
      ]);
      model.eval();
      const heads = new Map<Module, Float64Array>();
      const hear = (m: Module, _: readonly unknown[], y: unknown) => {
        if (m === model.head || m === model.head_kd) heads.set(m, Float64Array.from((y as Tensor).dataSync()));
      };
      const y = withForwardHook(hear, () => model.forward(images())) as Tensor;
      const [a, b] = [...heads.values()] as [Float64Array, Float64Array];
      y.dataSync().forEach((v, i) => expect(v).toBeCloseTo(((a[i] as number) + (b[i] as number)) / 2, 12));
    });
  });

  it.each([true, false])("spikeBeforeHead %s decides what its head reads", (spikeBeforeHead) => {
    scope(() => {
      const model = large({ spikeBeforeHead }).eval();
      let dtype = "";
      withForwardHook(
        (m, [x]) => {
          if (m === model.head) dtype = (x as Tensor).dtype;
        },
        () => model.forward(images()),
      );
      expect(dtype).toBe(spikeBeforeHead ? "spikes" : "f32");
    });
  });

  it("drops branches more often from block to block, for all samples at once or each by itself", () => {
    const rates = (dropPathPer: string) =>
      (large({ depths: 3, dropPath: 0.2, dropPathPer }).block3 as LargeBlock[]).map(({ drop_path: d }) => d && [d.p, d.axis]);
    expect(rates("step")).toEqual([null, [0.1, 0], [0.2, 0]]);
    expect(rates("sample")).toEqual([null, [0.1, 1], [0.2, 1]]);
    expect(large({ depths: 1, dropPath: 0.2 }).block3[0]?.drop_path).toBeNull();
  });

  it("gives the same with its chains merged, and then multiplies by spikes alone behind the first convolution", () => {
    for (const choice of ["base", "large"])
      scope(() => {
        const model = large({ choice, spikeBeforeHead: true });
        // Running statistics other than 0 and 1.
        noGrad(() => model.forward(images()));
        model.eval();
        const floats = (net: Module) => {
          const found: string[] = [];
          const names = new Map([...net.namedModules()].map(([name, m]) => [m, name]));
          const hear = (m: Module, [x]: readonly unknown[]) => {
            if (m instanceof Conv1d && x instanceof Tensor && x.dtype !== "spikes") found.push(names.get(m) ?? "");
          };
          return { y: withForwardHook(hear, () => net.forward(images()) as Tensor).dataSync(), found };
        };
        const before = floats(model);
        expect(before.found).toHaveLength(choice === "base" ? 10 : 8);
        const after = floats(model.mergeRepConvs());
        expect(after.found).toEqual([]);
        before.y.forEach((v, i) => expect(after.y[i]).toBeCloseTo(v, 9));
        expect(model.mergeRepConvs()).toBe(model);
      });
  });
});

describe("fine-tuning", () => {
  beforeAll(() => init({ device: "wasm", threads: 1, seed: 9 }));

  it("starts from pre-training by name: 1212 keys shared at the published depth", () => {
    scope(() => {
      const sizes = { ...SMALL, embedDims: [2, 4, 8], depths: 12, choice: "base", imageSize: [32, 32] };
      const source = createModel("sdt-v3/mae-83m", { ...sizes, decoderDim: 8 });
      const target = createModel("sdt-v3/83m", { ...sizes, kd: true });
      const { loaded, missing, unused } = startFromPretraining(target, source.stateDict());
      expect([loaded.length, missing.length, unused.length]).toEqual([1212, 28, 58]);
      expect(missing.every((key) => /layer_scale[12]$|^head(_kd)?\./.test(key))).toBe(true);
      expect(unused.every((key) => /^(decoder_|norm\.|pos_embed$|mask_token$)/.test(key))).toBe(true);
      const [a, b] = [source.stateDict(), target.stateDict()];
      for (const key of loaded) expect(b.get(key), key).toEqual(a.get(key));
    });
  });

  it("says which width the weights have, and changes nothing", () => {
    scope(() => {
      const target = large({ embedDims: [6, 6, 8] });
      const before = target.stateDict();
      expect(() => startFromPretraining(target, auto().stateDict())).toThrow(
        /tensors have another shape, such as "downsample1_1\.encode_conv\.weight": expected \[3, 2, 7, 7\], found \[2, 2, 7, 7\]\. Its first width is 4: build/,
      );
      expect(target.stateDict()).toEqual(before);
      expect(() => startFromPretraining(target, new Map())).toThrow("startFromPretraining: the weights share no key with the classifier");
    });
  });
});
