/** Fixtures of Spike-driven Transformer V3 that are no whole networks: blocks, the energy table, event data. */
import { measure, models, nn, noGrad, type Tensor } from "spikeloom";
import { type Check, check, holds, relative } from "../compare.ts";
import { type Fixture, filledState, type NdArray } from "../fixture.ts";
import { type BuiltBlock, blockChecks, inputOf } from "./integer-networks.ts";

const { sdtV3 } = models;

const channelsLast = {
  toOurs: (array: NdArray) => models.fromOfficial(array, [0, 2, 3, 1]),
  toOfficial: (value: Tensor) => models.toOfficial(value, [0, 3, 1, 2]),
};

/** The MLP of the block, on an image's positions. */
function mlp(module: models.sdtV3.MLP): BuiltBlock {
  let image: number[] = [];
  return {
    module,
    toOurs: (array) => {
      const x = channelsLast.toOurs(array);
      image = [...x.shape];
      const [b, h, w, c] = image as [number, number, number, number];
      return x.reshape([b, h * w, c]).detach();
    },
    toOfficial: (value) => channelsLast.toOfficial(value.reshape(image.with(-1, value.shape.at(-1) as number))),
  };
}

export const baseBlockChecks = blockChecks((name, shapes, fixture) => {
  const { D, num_heads: heads } = fixture.config as { D: number; num_heads: number };
  const neuron = sdtV3.evenNeuron(D);
  const built = (module: nn.Module): BuiltBlock => ({ module, ...channelsLast });
  const size = (key: string, axis: number) => shapes[key]?.[axis] as number;
  switch (name) {
    case "SepConv_Spike_k7":
      return built(new sdtV3.SepConv(size("pwconv1.0.weight", 1), 7, neuron));
    case "SepConv_Spike_k3":
      return built(new sdtV3.SepConv(size("pwconv1.0.weight", 1), 3, neuron));
    case "MS_ConvBlock_spike_SepConv":
      return built(new sdtV3.ConvBlock(size("conv1.weight", 1), 4, neuron));
    case "MS_DownSampling_first":
      return built(
        new sdtV3.Downsampling(size("encode_conv.weight", 1), size("encode_conv.weight", 0), { kernel: 7, padding: 3, neuron: null }),
      );
    case "MS_DownSampling":
      return built(new sdtV3.Downsampling(size("encode_conv.weight", 1), size("encode_conv.weight", 0), { neuron }));
    case "MS_MLP_base":
      return mlp(new sdtV3.MLP(size("fc1_conv.weight", 1), 4, neuron));
    case "MS_Attention_linear":
      return built(new sdtV3.Attention(size("q_conv.0.weight", 1), heads, neuron));
    case "MS_Block_Spike_SepConv":
      return built(new sdtV3.Block({ dim: size("attn.q_conv.0.weight", 1), heads, mlpRatio: 4, neuron }));
    default:
      throw new Error(`no block "${name}" is known`);
  }
});

/** Name, dense operations of an image, mean integer of what enters, additions. */
type EnergyRow = [string, number, number | null, number | null];

/** The energy table of a filled network: every layer's operations exactly, then the sums. */
export function energyTableChecks(fixture: Fixture): Check[] {
  const system = models.findSystem(fixture.system);
  const { T, D, E_MAC_pJ: mac, E_AC_pJ: ac } = fixture.config as Record<string, number>;
  const { T: _t, E_MAC_pJ: _m, E_AC_pJ: _a, ...settings } = fixture.config;
  const kind = system.official.model as models.OfficialKind;
  const module = kind.build(settings) as models.sdtV3.ESpikeFormer;
  const shapes = Object.fromEntries(module.stateShapes()) as Record<string, number[]>;
  module.loadStateDict(filledState({ ...fixture, state_shapes: shapes }) as Parameters<nn.Module["loadStateDict"]>[0]);
  module.eval();
  const paths = new Map([...module.namedModules()].map(([path, m]) => [m, path]));
  const means = new Map<string, number>();
  const hear = (m: nn.Module, [x]: readonly unknown[], y: unknown) => {
    const path = paths.get(m) ?? "";
    const of = (t: Tensor) => means.set(path, Float64Array.from(t.dataSync()).reduce((a, v) => a + v, 0) / t.size / (t.spikes?.scale ?? 1));
    if (m instanceof nn.Conv2d || m instanceof nn.Conv1d || m instanceof nn.Linear) of(x as Tensor);
    else if (/spike\d?$/.test(path)) of(y as Tensor);
  };
  const image = inputOf(fixture);
  nn.withForwardHook(hear, () => noGrad(() => kind.run(module, image)));
  const [height, width] = (image.get("x") as NdArray).shape.slice(2) as [number, number];
  const report = measure.priceTable(
    (choices) =>
      system.energyTable?.(
        module.config as unknown as Record<string, unknown>,
        { timeSteps: T as number, height, width },
        choices,
      ) as measure.EnergyTable,
    ({ rate }) => ({ rate: 0, value: means.get((rate?.inputs ?? rate?.neurons ?? [])[0] as string) as number, perStep: null }),
    { samples: 1, parameters: module.parameterCount() },
    { preset: "sdt-v3", costs: { name: "the fixture's", mac: mac as number, ac: ac as number } },
  );
  module.dispose();
  const stored = fixture.outputs as unknown as Record<string, EnergyRow[]> & Record<string, number>;
  const list = (start: string) => stored[Object.keys(stored).find((key) => key.startsWith(start)) as string] as EnergyRow[];
  const checks = [...list("weight_layers"), ...list("attention_products")].flatMap(([name, macs, mean, additions]) => {
    const row = report.layers.find((l) => l.layer === name);
    return [
      holds(`operations of ${name}`, row?.denseOps === macs, `${row?.denseOps} for ${macs}`),
      check(`mean integer of ${name}`, Math.abs((row?.meanSpike ?? 0) - (mean ?? 0)), 1e-8),
      check(`additions of ${name}`, Math.abs((row?.acs ?? Number.NaN) - (additions ?? 0)), 1e-3),
    ];
  });
  const { total } = report;
  const near = (what: string, found: number, expected: number | undefined) => check(what, relative([found], [expected as number]), 1e-6);
  return [
    ...checks,
    holds("as many rows", report.layers.length === checks.length / 3, `${report.layers.length}`),
    near("multiplications", total.macs, stored.real_valued_macs),
    near("additions", total.acs, (stored.synaptic_operations_weight_layers as number) + (stored.synaptic_operations_attention as number)),
    near("energy", total.energy, stored.energy_pJ),
    near("energy of the dense network", total.annEnergy, stored.dense_energy_pJ),
    holds("the rule says T and D", report.rule.includes(`T = ${T}, D = ${D}`), report.rule),
  ];
}
