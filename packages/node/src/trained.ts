/** A run that was trained: its recipe, data and model with the weights loaded. What eval and measure stand on. */
import { type EngineInfo, type models, type nn, SpikeloomError, safetensors } from "spikeloom";
import type { Recipe } from "./recipe.ts";
import { FILES, RunFolder } from "./run-folder.ts";
import { buildModel, type EngineChoice, loadData, type SessionData, startEngine } from "./session.ts";

export interface Trained {
  folder: RunFolder;
  recipe: Recipe;
  engine: EngineInfo;
  set: SessionData;
  model: nn.Module;
  system: models.System;
}

export interface TrainedOptions extends EngineChoice {
  run: string;
  set?: readonly string[] | undefined;
}

/**
 * Open a run's folder. Its final weights are used, or those of the last checkpoint while it is not done.
 * @throws SpikeloomError when the folder holds no run or no weights
 */
export async function openTrained({ run, set: sets = [], device, threads }: TrainedOptions): Promise<Trained> {
  const folder = new RunFolder(run);
  const recipe = await folder.recipe(sets);
  const engine = await startEngine({ device: device ?? recipe.device, threads: threads ?? recipe.threads, seed: recipe.seed });
  const set = await loadData(recipe);
  const { model, system } = buildModel(recipe, set.test);
  if (folder.has("weights"))
    model.loadStateDict((await safetensors.load(await folder.read("weights", "weights"), folder.file("weights"))) as Weights);
  else if (folder.has("checkpoint")) {
    const { tensors } = safetensors.decode(await folder.read("checkpoint", "checkpoint"), folder.file("checkpoint"));
    model.loadStateDict(
      new Map(
        [...tensors].filter(([key]) => key.startsWith("model.")).map(([key, value]) => [key.slice("model.".length), value]),
      ) as Weights,
    );
  } else throw new SpikeloomError(`${run} holds no weights (neither ${FILES.weights} nor ${FILES.checkpoint}): train it first`);
  return { folder, recipe, engine, set, model, system };
}

type Weights = Parameters<nn.Module["loadStateDict"]>[0];
