/**
 * Where a training starts: weights of another run or of a file instead of fresh ones (`train.init`), and the teacher that it listens to
 * (`train.teacher`).
 */
import { crc32 } from "node:zlib";
import { models, nn, type SettingError, SpikeloomError } from "spikeloom";
import { type Recipe, recipeError } from "./recipe.ts";
import { FILES, RunFolder } from "./run-folder.ts";
import { loadWeights } from "./weights.ts";

/** Weights on the disk, as a recipe names them. */
type Source = NonNullable<Recipe["train"]["init"]>;

/** The file of a source, and which dictionary of it. */
function fileOf(recipe: Recipe, path: string, { run, which, weights, key }: Source): { file: string; key: string | undefined } {
  if (run === undefined) return { file: weights as string, key };
  const folder = new RunFolder(run);
  const name = which === "best" ? "best" : "weights";
  if (!folder.has(name))
    throw recipeError(
      recipe,
      `${path}.run`,
      `${path}.run: ${run} holds no ${FILES[name]}: ${folder.has("checkpoint") ? "let that run come to its end first" : "it is no run's folder, or nothing was trained there"}`,
    );
  return { file: folder.file(name), key: undefined };
}

/**
 * Give a model the weights that `train.init` names, by name: keys that only one of the two has, or that have another shape, stay as they are.
 * @returns what became of the keys, in words
 */
export async function startFrom(recipe: Recipe, model: nn.Module, system: models.System): Promise<string[]> {
  const { init } = recipe.train;
  if (!init) return [];
  const { file, key } = fileOf(recipe, "train.init", init);
  const { notes } = await loadWeights(model, system, file, { key, partial: true });
  return [`starts from ${file}`, ...notes.map((note) => `${file}: ${note}`)];
}

export interface LoadedTeacher {
  model: nn.Module;
  /** What it is, in words. */
  title: string;
  /** Checksum of its weights: a run that is resumed must have the same teacher. */
  hash: string;
  notes: string[];
}

/** The recipe's teacher with its weights; undefined where it has none. */
export async function loadTeacher(recipe: Recipe): Promise<LoadedTeacher | undefined> {
  const { teacher } = recipe.train;
  if (!teacher) return undefined;
  let { model: name, config } = teacher;
  if (teacher.run !== undefined) {
    try {
      ({ name, config } = (await new RunFolder(teacher.run).recipe()).model);
    } catch (error) {
      if (!(error instanceof SpikeloomError)) throw error;
      throw recipeError(recipe, "train.teacher.run", `train.teacher.run: ${error.message}`);
    }
  }
  let found: ReturnType<typeof models.resolveModel>;
  try {
    found = models.resolveModel(name as string, config);
    found.system.check(found.config);
  } catch (error) {
    if (!(error instanceof SpikeloomError)) throw error;
    const setting = (error as Partial<SettingError>).setting;
    const path = setting === undefined ? "train.teacher.model" : `train.teacher.config.${setting}`;
    throw recipeError(recipe, path, `${path}: ${error.message}`);
  }
  const { system } = found;
  const model = nn.init.withoutDraws(() => system.build(found.config));
  const { file, key } = fileOf(recipe, "train.teacher", teacher);
  const { notes } = await loadWeights(model, system, file, { key });
  return { model: model.eval(), title: `${name} of ${file}`, hash: hashOf(model), notes: notes.map((note) => `${file}: ${note}`) };
}

function hashOf(model: nn.Module): string {
  let hash = 0;
  for (const [, { data }] of model.stateDict()) hash = crc32(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), hash);
  return hash.toString(16).padStart(8, "0");
}

/** The teacher of a run that goes on is the one that it began with. @throws SpikeloomError where its weights are others */
export function expectTeacher(teacher: LoadedTeacher | undefined, metadata: Readonly<Record<string, string>>, file: string): void {
  const [found, expected] = [teacher?.hash, metadata.teacher];
  if (found !== expected)
    throw new SpikeloomError(
      expected === undefined || found === undefined
        ? `${file}: the run was made ${expected === undefined ? "without" : "with"} a teacher, this has ${found === undefined ? "none" : "one"} (train.teacher). Resume with the run's own recipe`
        : `${file}: the run's teacher had weights of the checksum ${expected}, ${teacher?.title} has ${found}. Put its weights back, or start a new run`,
    );
}
