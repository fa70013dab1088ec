/** `spikeloom models`: the zoo; for one name its configuration, parameter count and every state-dict key with its PyTorch shape. */
import { init, models, nn, scope } from "spikeloom";
import { table } from "../table.ts";

export interface ModelsOptions {
  name?: string | undefined;
  json?: boolean | undefined;
}

interface Entry {
  name: string;
  system: string;
  title: string;
  paper: string;
  config: Record<string, unknown>;
  parameters: number;
  keys: number;
}

export async function run({ name, json }: ModelsOptions): Promise<void> {
  await init({ device: "wasm", threads: 1 });
  if (name !== undefined) return describe(name, json ?? false);
  const entries = models.modelNames().map(entryOf);
  if (json) {
    console.log(JSON.stringify(entries, null, 2));
    return;
  }
  console.log(
    table<Entry>(
      [
        { head: "model", cell: (e) => e.name },
        { head: "parameters", right: true, cell: (e) => e.parameters.toLocaleString("en") },
        { head: "keys", right: true, cell: (e) => String(e.keys) },
        {
          head: "configuration",
          cell: (e) =>
            Object.entries(e.config)
              .map(([k, v]) => `${k} ${JSON.stringify(v)}`)
              .join("  "),
        },
      ],
      entries,
    ),
  );
}

function entryOf(name: string): Entry {
  const { system, config } = models.resolveModel(name);
  return scope(() => {
    const model = nn.init.withoutDraws(() => system.build(config));
    const entry = {
      name,
      system: system.name,
      title: system.title,
      paper: system.paper,
      config,
      parameters: model.parameterCount(),
      keys: model.stateShapes().size,
    };
    model.dispose();
    return entry;
  });
}

function describe(name: string, json: boolean): void {
  const { system, config } = models.resolveModel(name);
  const state = scope(() => {
    const model = nn.init.withoutDraws(() => system.build(config));
    const shapes = [...model.stateShapes()].map(([key, shape]) => ({ key, shape: [...shape] }));
    const parameters = model.parameterCount();
    model.dispose();
    return { shapes, parameters };
  });
  if (json) {
    console.log(
      JSON.stringify(
        { name, system: system.name, title: system.title, paper: system.paper, config, parameters: state.parameters, state: state.shapes },
        null,
        2,
      ),
    );
    return;
  }
  console.log(`${name}: ${system.title}\n${system.paper}\n`);
  for (const [key, value] of Object.entries(config)) console.log(`  ${key}: ${JSON.stringify(value)}`);
  console.log(`\n${state.parameters.toLocaleString("en")} parameters, ${state.shapes.length} state-dict keys\n`);
  console.log(
    table<{ key: string; shape: number[] }>(
      [
        { head: "key", cell: (s) => s.key },
        { head: "PyTorch shape", cell: (s) => `[${s.shape.join(", ")}]` },
      ],
      state.shapes,
    ),
  );
  const { renames = [], harmless = [] } = system;
  for (const { from, to, why } of renames) console.log(`\nin files, ${from} is ${to}: ${why}`);
  for (const { keys, why } of harmless) console.log(`\nin files, ${keys} may be left over: ${why}`);
}
