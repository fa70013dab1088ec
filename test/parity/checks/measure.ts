/** Fixtures of measurement: the energy table, the firing statistics of the official script, and attention maps. */
import { measure, models } from "spikeloom";
import { type Check, check, compare, holds, relative } from "../compare.ts";
import { type Fixture, type InputSpec, inputArray, inputArrays, type NdArray, type Stored } from "../fixture.ts";

interface OfficialEnergy {
  T: number;
  tokens: number;
  flops_per_step: Record<string, number>;
  total_flops_per_step: number;
  first_conv_macs: number;
  sops_total: number;
  power_mJ_first_conv_counted_T_times: number;
  power_mJ_first_conv_counted_once: number;
}

interface OfficialConfig {
  T: number;
  img_size: number;
  in_channels: number;
  embed_dims: number;
  depths: number;
  mlp_ratios: number;
  pooling_stat: string;
}

/** Values are stored with nine digits. */
const ENERGY = 5e-9;
const MILLIJOULES = 1e-9;

export function energyChecks(fixture: Fixture): Check[] {
  const system = models.findSystem(fixture.system);
  const { rates, E_MAC_pJ, E_AC_pJ } = fixture.inputs as unknown as { rates: Record<string, number>; E_MAC_pJ: number; E_AC_pJ: number };
  const official = models.sdtV1.configs["imagenet-8-512"] as models.sdtV1.SDTConfig;
  return Object.entries(fixture.outputs as unknown as Record<string, OfficialEnergy>).flatMap(([name, expected]) => {
    const given = (fixture.configs as Record<string, OfficialConfig>)[name] as OfficialConfig;
    const config: models.sdtV1.SDTConfig = {
      ...official,
      inChannels: given.in_channels,
      embedDims: given.embed_dims,
      depths: given.depths,
      mlpRatio: given.mlp_ratios,
      pooling: given.pooling_stat,
    };
    const size = given.img_size;
    const input = { timeSteps: given.T, height: size, width: size };
    const priced = (firstLayer: "T" | "once") =>
      measure.priceTable(
        (settings) => system.energyTable?.(config as unknown as Record<string, unknown>, input, settings) as measure.EnergyTable,
        ({ part }) => ({ rate: rates[part.replace(/^block\d+\./, "")] as number, perStep: null }),
        { samples: 1, parameters: 0 },
        { firstLayer, costs: { name: "the fixture's", mac: E_MAC_pJ, ac: E_AC_pJ } },
      );
    const every = priced("T");
    const ops = (part: string) => every.layers.find((l) => l.layer === part)?.denseOps;
    const differing = Object.entries(expected.flops_per_step).filter(([part, flops]) => ops(part) !== flops);
    const value = (what: string, found: number, stored: number) => check(`${name} ${what}`, relative([found], [stored]), ENERGY);
    return [
      holds(`${name} operations of each part`, differing.length === 0, differing.map(([part]) => part).join(", ")),
      holds(`${name} operations a step`, every.total.denseOps === expected.total_flops_per_step, String(every.total.denseOps)),
      holds(`${name} operations of the first convolution`, priced("once").total.macs === expected.first_conv_macs),
      value("additions", every.total.acs, expected.sops_total),
      value("energy, first convolution T times", every.total.energy * MILLIJOULES, expected.power_mJ_first_conv_counted_T_times),
      value("energy, first convolution once", priced("once").total.energy * MILLIJOULES, expected.power_mJ_first_conv_counted_once),
    ];
  });
}

type Table = Record<string, Record<string, Record<string, number>>>;

export function firingChecks(fixture: Fixture): Check[] {
  const meter = new measure.FiringMeter();
  for (let batch = 0; batch < (fixture.batches as number); batch++)
    for (const [layer, spec] of Object.entries(fixture.inputs as Record<string, InputSpec & { name_pattern: string }>)) {
      const array = inputArray(layer, { ...spec, name: spec.name_pattern.replace("{batch}", String(batch)) });
      const value = models.fromOfficial(
        array,
        array.shape.map((_, axis) => axis),
      );
      meter.add(layer, value);
      value.dispose();
    }
  const outputs = fixture.outputs as unknown as Record<string, Table>;
  return (
    [
      ["official_divides_by_len_minus_1", { compat: "sdt-v1" }],
      ["correct_divides_by_len", {}],
    ] as const
  ).flatMap(([figure, options]) => {
    const rates = new Map(meter.rates(options).map((r) => [r.layer, r]));
    return (
      [
        ["firing_rate", "valuePerStep"],
        ["non_zero", "perStep"],
      ] as const
    ).flatMap(([name, field]) =>
      Object.entries(outputs[figure]?.[name] ?? {}).map(([step, layers]) => {
        const found = Object.keys(layers).map((layer) => rates.get(layer)?.[field][Number(step.slice(1))] ?? Number.NaN);
        return check(`${figure} ${name} ${step}`, relative(found, Object.values(layers)), 1e-6);
      }),
    );
  });
}

export function attentionChecks(fixture: Fixture): Check[] {
  const inputs = inputArrays(fixture);
  const { map_before: before, map_after: after } = fixture.outputs as Record<string, Stored>;
  // (T, B, C, H, W) and (T, B, h, N, d), brought to [T, B, H, W, C] and [T, B, N, h, d]: the last axes of both are channels.
  const q = models.fromOfficial(inputs.get("q_lif") as NdArray, [0, 1, 3, 4, 2]);
  const heads = models.fromOfficial(inputs.get("x_after_qkv") as NdArray, [0, 1, 3, 2, 4]);
  const [t, b, n, h, d] = heads.shape as [number, number, number, number, number];
  const map = (value: Parameters<typeof models.sdtV1.positionRates>[0], stored: Stored | undefined): NdArray => ({
    dtype: "f64",
    shape: stored?.shape ?? [],
    data: Float64Array.from(models.sdtV1.positionRates(value).flatMap((rates) => [...rates])),
  });
  return [
    compare("map before the mask", map(q, before), before as Stored, 1e-6),
    compare("map after the mask", map(heads.reshape([t, b, n, h * d]), after), after as Stored, 1e-6),
  ];
}
