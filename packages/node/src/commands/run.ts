/**
 * `spikeloom run`: any model, or part of one, on any tensor: files in PyTorch's names, shapes and axis order in, the same out.
 * Configurations are the official code's own arguments, so that a published setting can be pasted.
 */
import { type formats, models, nearest, nn, noGrad, npy, npz, SpikeloomError, safetensors, scope } from "spikeloom";
import { readFileChecked, writeFileAtomic } from "../files.ts";
import { type EngineChoice, startEngine } from "../session.ts";
import { loadWeights, tellNotes } from "../weights.ts";

export interface RunOptions extends EngineChoice {
  /** `system` (the whole network) or `system/kind` (a part). */
  model: string;
  config?: Record<string, unknown> | undefined;
  weights: string;
  /** Which of several dictionaries in the weights. */
  key?: string | undefined;
  input: string;
  output: string;
  taps?: boolean | undefined;
}

type Arrays = Map<string, formats.NdArray>;

export async function run({ model: name, config = {}, weights, key, input, output, taps = false, ...choice }: RunOptions): Promise<void> {
  const slash = name.indexOf("/");
  const system = models.findSystem(slash < 0 ? name : name.slice(0, slash));
  const kindName = slash < 0 ? "model" : name.slice(slash + 1);
  const kind = Object.hasOwn(system.official, kindName) ? system.official[kindName] : undefined;
  if (!kind) {
    if (Object.hasOwn(system.configs, kindName))
      throw new SpikeloomError(
        `${name} is a configuration: run takes the official code's own arguments. Use --model ${system.name} --config '{...}'`,
      );
    const near = nearest(kindName, Object.keys(system.official));
    throw new SpikeloomError(
      `${system.name} has no part "${kindName}"${near ? `, did you mean "${system.name}/${near}"?` : ""} (it has ${Object.keys(system.official).join(", ")})`,
    );
  }
  const inputs = await readArrays(input, "input");
  await startEngine(choice);
  const module = scope(() => nn.init.withoutDraws(() => kind.build(config)));
  const { notes } = await loadWeights(module, system, weights, { key });
  tellNotes(weights, notes);
  module.eval();
  const result = scope(() => {
    const { outputs, taps: values } = noGrad(() => kind.run(module, inputs, { taps }));
    return new Map([...outputs, ...(taps ? values : [])]);
  });
  await writeFileAtomic(output, await npz.encode(result));
  for (const [key, { shape, dtype }] of result) console.log(`${key}  ${dtype} [${shape.join(", ")}]`);
}

/** Arrays of a safetensors, npz or npy file (an npy is the input "x"). */
async function readArrays(path: string, what: string): Promise<Arrays> {
  const bytes = await readFileChecked(path, what);
  if (path.endsWith(".npz")) return npz.decode(bytes, { name: path });
  if (path.endsWith(".npy")) return new Map([["x", npy.decode(bytes, path)]]);
  if (path.endsWith(".safetensors")) return safetensors.load(bytes, path);
  throw new SpikeloomError(`${path}: ${what} must be a .safetensors, .npz or .npy file`);
}
