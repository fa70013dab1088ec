/** `spikeloom check`: every multiplication by a non-spike that a network makes, by layer, and what folds into weights and thresholds. */
import { existsSync } from "node:fs";
import { init, measure, models, nn, SpikeloomError, type snn } from "spikeloom";
import { count } from "../report/format.ts";
import { RunFolder } from "../run-folder.ts";
import { table } from "../table.ts";

export interface CheckOptions {
  /** A model's name, or a run's folder. */
  model: string;
  config?: Record<string, unknown> | undefined;
  mode?: snn.SpikeMode | undefined;
  /** [H, W]; default: what the configuration was made for. */
  size?: readonly [number, number] | undefined;
  /** Steps of a recording; default: the configuration's T, or the recipe's. */
  frames?: number | undefined;
  json?: boolean | undefined;
  strict?: boolean | undefined;
}

/** Rows of the list of what folds. */
interface Group {
  what: string;
  into: string;
  layers: number;
  multiplications: number;
  example: string;
}

export async function run({ mode = "spikes", json, strict, ...options }: CheckOptions): Promise<number> {
  const { name, system, config, frames } = await modelOf(options);
  const input = inputOf(name, config, { size: options.size, frames: options.frames ?? frames });
  await init({ device: "wasm", threads: 1 });
  const found = measure.check(() => nn.init.withoutDraws(() => system.build(config)), input, { mode });
  if (json) console.log(JSON.stringify({ model: name, ...found }));
  else print(name, found);
  return strict && found.remaining.length ? 1 : 0;
}

async function modelOf({ model, config }: CheckOptions) {
  if (!existsSync(model)) return { name: model, ...models.resolveModel(model, config), frames: undefined };
  const recipe = await new RunFolder(model).recipe();
  const { name } = recipe.model;
  return { name, ...models.resolveModel(name, { ...recipe.model.config, ...config }), frames: recipe.data.timeSteps };
}

/** Shape of one sample as the network takes it. */
function inputOf(name: string, config: Record<string, unknown>, { size, frames }: Pick<CheckOptions, "size" | "frames">): number[] {
  const [height, width] = size ?? (config.imageSize as [number, number] | undefined) ?? [];
  if (height === undefined || width === undefined)
    throw new SpikeloomError(`${name} was not made for images of one size: say --size, such as --size 224x224`);
  const channels = (config.inChannels as number | undefined) ?? 3;
  // Recordings have two polarities, and bring their own steps.
  const events = channels === 2 || config.family === "dvs" || frames !== undefined;
  return [...(events ? [frames ?? (config.T as number | undefined) ?? 1] : []), 1, height, width, channels];
}

const shape = (s: readonly number[]) => s.join("x");

function print(name: string, { mode, input, adding, remaining, folded, remarks, multiplications }: measure.SpikeCheck): void {
  console.log(
    `${name}, input [${input.join(", ")}], integers as ${mode === "spikes" ? "binary spikes" : "they are"}: ${adding.products} products only add (${count(adding.additions)} additions if every spike came); ${
      remaining.length
        ? `${remaining.length} operation${remaining.length > 1 ? "s" : ""} multipl${remaining.length > 1 ? "y" : "ies"} by non-spikes, ${count(multiplications)} times an input`
        : "nothing is multiplied by a non-spike"
    }`,
  );
  if (remaining.length) {
    console.log("\nremains\n");
    console.log(
      table<measure.Remaining>(
        [
          { head: "layer", cell: (r) => r.layer || "(network)" },
          { head: "what", cell: (r) => r.kind },
          { head: "operation", cell: (r) => r.op },
          { head: "inputs", cell: (r) => r.inputs.map(shape).join(" ") },
          { head: "output", cell: (r) => shape(r.output) },
          { head: "multiplications", right: true, cell: (r) => count(r.multiplications) },
        ],
        remaining,
      ),
    );
  }
  if (folded.length) {
    console.log("\nfolds away before the network runs\n");
    console.log(
      table<Group>(
        [
          { head: "what", cell: (g) => g.what },
          { head: "into", cell: (g) => g.into },
          { head: "layers", right: true, cell: (g) => count(g.layers) },
          { head: "multiplications", right: true, cell: (g) => count(g.multiplications) },
          { head: "such as", cell: (g) => g.example },
        ],
        groups(
          folded,
          ({ what, into }) => [what, into.split(" of ")[0] as string],
          ({ multiplications }) => multiplications,
        ),
      ),
    );
  }
  if (remarks.length) {
    console.log("\nbesides\n");
    console.log(
      table<Group>(
        [
          { head: "what", cell: (g) => g.what },
          { head: "how", cell: (g) => g.into },
          { head: "layers", right: true, cell: (g) => count(g.layers) },
          { head: "times", right: true, cell: (g) => count(g.multiplications) },
          { head: "such as", cell: (g) => g.example },
        ],
        groups(
          remarks,
          ({ what, note }) => [what, note],
          ({ count: n }) => n,
        ),
      ),
    );
  }
}

/** Layers that are alike, as one row. */
function groups<T extends { layer: string; into?: string }>(
  list: readonly T[],
  key: (item: T) => [string, string],
  amount: (item: T) => number,
): Group[] {
  const all = new Map<string, Group>();
  for (const item of list) {
    const [what, into] = key(item);
    const id = `${what}\n${into}`;
    const group = all.get(id) ?? {
      what,
      into,
      layers: 0,
      multiplications: 0,
      example: `${item.layer || "(network)"}${item.into ? ` into ${item.into}` : ""}`,
    };
    group.layers++;
    group.multiplications += amount(item);
    all.set(id, group);
  }
  return [...all.values()];
}
