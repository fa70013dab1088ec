/**
 * `npm run bench -- --sweep NAME`: time against density (each implementation forced, with the densities where they cross), time steps, batch,
 * channels or threads.
 */
import {
  backward,
  type DeviceName,
  IMPLEMENTATIONS,
  type ImplementationChoice,
  init,
  models,
  nn,
  noGrad,
  optim,
  rand,
  randn,
  scope,
  snn,
  type Tensor,
  tensor,
} from "spikeloom";
import { calibrate } from "./inputs.ts";
import { markdownTable, median } from "./report.ts";
import { crossings, exponent, type Panel, plot, type Series } from "./svg.ts";
import { timed } from "./timed.ts";
import { observe } from "./workloads.ts";

export const SWEEPS = ["density", "time-steps", "batch", "channels", "threads"] as const;

interface SweepOptions {
  devices: readonly string[];
  threads: number;
  repeat: number;
  quick: boolean;
  addon: string | undefined;
}

export interface SweepResult {
  text: string;
  svg: string;
  data: { sweep: string; panels: Panel[] };
}

const SDT = "sdt-v1/cifar10-2-256";

/** Frees what it is given when the work is done. */
type Prepared = { run: () => void; dispose: () => void };

function convolution(channels: number, size: number, images: number, density: number) {
  const x = scope(() => rand([images, size, size, channels]).lt(density).toSpikes());
  const weight = randn([3, 3, channels, channels], { std: 0.05 });
  const gy = randn([images, size, size, channels]);
  weight.requiresGrad = true;
  const { sum, size: total } = snn.spikeStats(x);
  const apply = () => nn.conv2d(x, weight, null, { padding: 1 });
  const y = apply();
  return {
    density: sum / total,
    forward: () => noGrad(() => scope(() => void apply())),
    gradWeight: () => {
      backward(y, { gradient: gy, retainGraph: true });
      weight.grad?.dispose();
      weight.grad = null;
    },
    dispose: () => {
      for (const t of [y, x, weight, gy]) t.dispose();
    },
  };
}

function inference(model: nn.Module, x: Tensor): Prepared {
  model.eval();
  return {
    run: () => noGrad(() => scope(() => void model.forward(x))),
    dispose: () => {
      model.dispose();
      x.dispose();
    },
  };
}

function training(model: nn.Module, x: Tensor): Prepared {
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
  const y = tensor(Int32Array.from({ length: x.shape[0] as number }, (_, i) => i % 10));
  model.train();
  return {
    run: () =>
      scope(() => {
        optimizer.zeroGrad();
        nn.crossEntropy(model.forward(x), y).backward();
        optimizer.step();
      }),
    dispose: () => {
      model.zeroGrad();
      optimizer.dispose();
      model.dispose();
      x.dispose();
      y.dispose();
    },
  };
}

const neuron = () => new snn.LIF({ tau: 2, detachReset: true, surrogate: snn.surrogate.sigmoid({ alpha: 4 }) });

function lif(steps: number): Prepared {
  const layer = neuron();
  const x = randn([steps, 16, 16, 16, 256]);
  const gy = randn(x.shape);
  x.requiresGrad = true;
  return {
    run: () =>
      scope(() => {
        backward(layer.forward(x), { gradient: gy });
        x.grad?.dispose();
        x.grad = null;
      }),
    dispose: () => {
      x.dispose();
      gy.dispose();
    },
  };
}

const image = (batch: number, size = 32) => rand([batch, size, size, 3]);

/** Builds a panel per device from points: `measure(label, x, y)` is called by `points` for each. */
class Panels {
  readonly panels: Panel[] = [];
  private readonly repeat: number;

  constructor(repeat: number) {
    this.repeat = repeat;
  }

  panel(title: string, x: string): Panel {
    const found = this.panels.find((p) => p.title === title);
    if (found) return found;
    const made: Panel = { title, x, y: "ms", series: [], marks: [] };
    this.panels.push(made);
    return made;
  }

  /** Times `run` and adds a point. */
  point(panel: Panel, label: string, x: number, run: () => void): void {
    let series = panel.series.find((s) => s.label === label);
    if (!series) {
      series = { label, x: [], y: [] };
      panel.series.push(series);
    }
    series.x.push(x);
    series.y.push(median(timed(run, this.repeat, 0.5)));
  }
}

/** Operations whose cost depends on the density. */
const SPIKE_PRODUCTS = ["spikeProduct", "spikeProductGradWeight"] as const;

/** Each implementation of products with spikes forced in both of them that have it, and what the engine chooses by itself. */
function choices(): [string, ImplementationChoice][] {
  const names = [...new Set<string>(SPIKE_PRODUCTS.flatMap((operation) => [...IMPLEMENTATIONS[operation]]))];
  const forced = names.map((name): [string, ImplementationChoice] => {
    const fitting = SPIKE_PRODUCTS.filter((operation) => (IMPLEMENTATIONS[operation] as readonly string[]).includes(name));
    return [name, Object.fromEntries(fitting.map((operation) => [operation, name]))];
  });
  return [...forced, ["chosen", {}]];
}

async function density(panels: Panels, device: string, options: SweepOptions): Promise<void> {
  const all = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1];
  const densities = options.quick ? [0.001, 0.01, 0.1, 0.3, 1] : all;
  const biases = options.quick ? [-1, 0, 2] : [-2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 5];
  for (const [label, implementations] of choices()) {
    const engine = await start(device, options.threads, options, implementations);
    for (const d of densities) {
      const work = convolution(64, 32, 16, d);
      panels.point(panels.panel(`3x3 64 -> 64 [16, 32, 32], forward, ${engine}`, "density, %"), label, 100 * work.density, work.forward);
      if (label === "chosen" || (IMPLEMENTATIONS.spikeProductGradWeight as readonly string[]).includes(label))
        panels.point(
          panels.panel(`3x3 64 -> 64 [16, 32, 32], weight gradient, ${engine}`, "density, %"),
          label,
          100 * work.density,
          work.gradWeight,
        );
      work.dispose();
    }
    // The biases of all batch norms set the rate of the whole network.
    const model = models.createModel(SDT);
    calibrate(model, 32);
    const x = image(4);
    const { run, dispose } = inference(model, x);
    for (const bias of biases) {
      for (const [, m] of model.namedModules())
        if (m instanceof nn.BatchNorm2d) (m.bias as nn.Parameter).set(new Float32Array(m.numFeatures).fill(bias));
      const { rate } = observe(run, false);
      if (rate > 0) panels.point(panels.panel(`SDT 2-256 inference, batch 4, ${engine}`, "mean firing rate, %"), label, 100 * rate, run);
    }
    dispose();
  }
}

/** A sweep of one number: what runs at each value. */
async function over(
  panels: Panels,
  device: string,
  options: SweepOptions,
  axis: string,
  values: readonly number[],
  lines: Readonly<Record<string, (value: number) => Prepared>>,
): Promise<void> {
  const engine = await start(device, options.threads, options);
  const panel = panels.panel(engine, axis);
  for (const value of values)
    for (const [label, make] of Object.entries(lines)) {
      const { run, dispose } = make(value);
      panels.point(panel, label, value, run);
      dispose();
    }
}

async function start(
  device: string,
  threads: number,
  { addon }: SweepOptions,
  implementations: ImplementationChoice = {},
): Promise<string> {
  const engine = await init({ device: device as DeviceName, threads, native: addon, seed: 0, implementations });
  return `${engine.isa}, ${threads === 1 ? "1 thread" : `${threads} threads`}`;
}

async function threadSweep(panels: Panels, device: string, options: SweepOptions): Promise<void> {
  const lines = {
    "3x3 64 -> 64 at 15 %, forward": () => asPrepared(convolution(64, 32, 64, 0.15), "forward"),
    "... weight gradient": () => asPrepared(convolution(64, 32, 64, 0.15), "gradWeight"),
    "LIF T 4, 1 M neurons, forward + backward": () => lif(4),
    "SDT 2-256 training step, batch 8": () => training(models.createModel(SDT), image(8)),
  };
  for (let threads = 1; threads <= options.threads; threads++) {
    const engine = await start(device, threads, options);
    const panel = panels.panel(engine.split(",")[0] as string, "threads");
    for (const [label, make] of Object.entries(lines)) {
      const { run, dispose } = make();
      panels.point(panel, label, threads, run);
      dispose();
    }
  }
}

const asPrepared = (work: ReturnType<typeof convolution>, which: "forward" | "gradWeight"): Prepared => ({
  run: work[which],
  dispose: work.dispose,
});

const percent = (x: number) => `${x < 10 ? x.toFixed(1) : x.toFixed(0)} %`;

/** Marks where two forced implementations cost the same; gives the lines to print. */
function markCrossings(panel: Panel): string[] {
  const forced = panel.series.filter((s) => s.label !== "chosen");
  return forced.flatMap((a, i) =>
    forced.slice(i + 1).flatMap((b) => {
      const points = crossings(a, b);
      for (const { x, y } of points) panel.marks.push({ x, y, text: percent(x) });
      const where = points.length ? `cross at ${points.map(({ x }) => percent(x)).join(", ")}` : "do not cross";
      return [`${panel.title}: ${a.label} and ${b.label} ${where}.`];
    }),
  );
}

/** Runs a sweep on every device; gives tables, a picture and the numbers. */
export async function sweep(name: string, options: SweepOptions): Promise<SweepResult> {
  const { devices, quick } = options;
  const panels = new Panels(options.repeat);
  const upTo = (most: number, first = 1) => Array.from({ length: Math.log2(most / first) + 1 }, (_, i) => first * 2 ** i);
  for (const device of devices) {
    console.error(`sweep over ${name}, ${device}`);
    if (name === "density") await density(panels, device, options);
    else if (name === "threads") await threadSweep(panels, device, options);
    else if (name === "time-steps")
      await over(panels, device, options, "time steps", upTo(quick ? 4 : 16), {
        "LIF, 1 M neurons, forward + backward": lif,
        "SDT 2-256 inference, batch 8": (T) => inference(models.createModel(SDT, { T }), image(8)),
        "SDT 2-256 training step, batch 8": (T) => training(models.createModel(SDT, { T }), image(8)),
      });
    else if (name === "batch")
      await over(panels, device, options, "batch", upTo(quick ? 4 : 32), {
        "SDT 2-256 inference": (batch) => inference(models.createModel(SDT), image(batch)),
        "SDT 2-256 training step": (batch) => training(models.createModel(SDT), image(batch)),
      });
    else
      await over(panels, device, options, "channels", upTo(quick ? 64 : 512, 16), {
        "3x3 C -> C [16, 16, 16] at 15 %, forward": (c) => asPrepared(convolution(c, 16, 16, 0.15), "forward"),
        "... weight gradient": (c) => asPrepared(convolution(c, 16, 16, 0.15), "gradWeight"),
      });
  }
  const remarks = panels.panels.flatMap((panel) =>
    name === "density"
      ? markCrossings(panel)
      : panel.series.map((s) => `${panel.title}: ${s.label}: time ~ ${name}^${exponent(s).toFixed(2)} (${speedOf(s)}).`),
  );
  // The engine's own choice lies upon one of the forced curves.
  for (const panel of panels.panels) for (const s of panel.series) if (s.label === "chosen") s.broken = true;
  const table = ({ title, x, series }: Panel) => {
    const [first] = series as [Series];
    const rows = first.x.map((value, i) => [value.toPrecision(3), ...series.map((s) => (s.y[i] as number).toPrecision(3))]);
    return `${title}\n\n${markdownTable([`${x}; ms`, ...series.map((s) => s.label)], rows)}`;
  };
  const columns = name === "density" ? 3 : Math.min(2, panels.panels.length);
  return {
    text: [...panels.panels.map(table), remarks.join("\n")].join("\n\n"),
    svg: plot(`Time against ${name}`, panels.panels, columns),
    data: { sweep: name, panels: panels.panels },
  };
}

const speedOf = ({ y }: Series) => `${((y.at(-1) as number) / (y[0] as number)).toFixed(2)} times the first at the last`;
