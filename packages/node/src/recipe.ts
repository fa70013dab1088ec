/**
 * Recipes: one YAML file that reproduces one training. The schema is strict, and what is wrong is named by its full path and
 * line, with what was expected, what was found and, for a key, the nearest right one.
 */
import { basename, extname } from "node:path";
import { nearest, SettingError, SpikeloomError } from "spikeloom";
import { type Document, isMap, isNode, LineCounter, parse, parseDocument, stringify } from "yaml";
import { z } from "zod";
import { readFileChecked } from "./files.ts";
import { sizeBytes } from "./memory.ts";
import { findIdle } from "./recipe-idle.ts";

// Every schema carries as its error the words that follow "expected" (choices excepted): `explain` puts errors together.
const whole = (min: number, max = Number.MAX_SAFE_INTEGER) => {
  const words = max === Number.MAX_SAFE_INTEGER ? `a whole number >= ${min}` : `a whole number from ${min} to ${max}`;
  return z.int(words).min(min, words).max(max, words);
};
const atLeast = (min: number) => z.number(`a number >= ${min}`).min(min, `a number >= ${min}`);
const above0 = z.number("a number > 0").positive("a number > 0");
/** From 0 to 1, 1 excluded. */
const fraction = z.number("a number from 0 to below 1").min(0, "a number from 0 to below 1").lt(1, "a number from 0 to below 1");
const text = z.string("text").min(1, "text that is not empty");
const flag = z.boolean("true or false");
const chance = z.number("a number from 0 to 1").min(0, "a number from 0 to 1").max(1, "a number from 0 to 1");
const range = (words: string) => z.tuple([above0, above0], words).refine(([low, high]) => low <= high, words);
const SIDE = "a whole number of pixels from 1 to 8192, or [height, width]";
const side = z.union([whole(1, 8192), z.tuple([whole(1, 8192), whole(1, 8192)])], SIDE);
const interpolation = z.enum(["bilinear", "bicubic"]).default("bicubic");
const mapping = <T extends z.core.$ZodLooseShape>(shape: T) => z.strictObject(shape, { error: "a mapping" });

const MEMORY = '"auto", or a size such as "500 MB" or "2 GiB"';
const DURATION = 'minutes as a number, or a duration such as "30s", "5m" or "1h"';
const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };

/** Seconds of a duration as recipes and `--save-every` write it: a number of minutes, or "30s", "5m", "1h". Undefined if it is neither or not > 0. */
export function durationSeconds(value: number | string): number | undefined {
  const parts = /^\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*$/.exec(String(value));
  const seconds = parts ? Number(parts[1]) * (UNITS[parts[2] || "m"] as number) : 0;
  return seconds > 0 ? seconds : undefined;
}

const warmup = {
  /** Epochs of linear warm-up from `warmupLr` to the optimiser's rate. */
  warmupEpochs: atLeast(0).default(0),
  warmupLr: atLeast(0).default(0),
  /** The schedule's time counts from the end of the warm-up (timm's warmup_prefix). */
  warmupPrefix: flag.default(false),
};
/** Epochs until the schedule has run out; `train.epochs` where not given. */
const epochs = above0.optional();
/** Epochs at the schedule's last rate, after `train.epochs`. */
const cooldownEpochs = whole(0).default(0);
const minLr = atLeast(0).default(0);
/** The rate moves with every step, or with every epoch as timm's does. */
const per = z.enum(["step", "epoch"]).default("step");

/** Rates of optimisers: `lr`, or `blr`, from which lr = blr x batchSize x accumulate / 256. One of the two; the default where there is none. */
const rate = { lr: above0.optional(), blr: above0.optional() };
const DEFAULT_LR = { adamw: 1e-3, lamb: 1e-3, sgd: 0.1 } as const;
const decay = {
  /** Decay biases and tensors of one dimension too. */
  decayAll: flag.default(false),
};
/** Weights on the disk: a run's, of its end or of its best test, or a file's, with the dictionary in it where there are several. */
const source = {
  run: text.optional(),
  which: z.enum(["final", "best"]).default("final"),
  weights: text.optional(),
  key: text.optional(),
};
const SOURCE = "a mapping with either run (a folder) or weights (a file)";
const oneSource = ({ run, weights }: { run?: string | undefined; weights?: string | undefined }) =>
  (run === undefined) !== (weights === undefined);

const MILESTONES = "a list of epochs, such as [100, 150]";
const MIX = "a mapping with mixup or cutmix above 0";

export const recipeSchema = mapping({
  /** Name of the run and of its folder below runs/; the file's name where not given. */
  name: z
    .string("text")
    .regex(/^[\w][\w.-]*$/, "letters, digits, dots, dashes and underscores, not beginning with a dot or dash")
    .optional(),
  model: mapping({
    /** A name that `spikeloom models` lists. */
    name: text,
    /** Overrides of the named model's configuration; the model checks them. */
    config: z.record(z.string(), z.json(), "a mapping").default({}),
  }),
  data: mapping({
    name: text,
    /** Folder of the files; for embedded data sets the npm package is looked for where not given. */
    dir: text.optional(),
    /** Event data: frames that a recording is made into, and whether they share its events or its time. */
    timeSteps: whole(1, 1024).optional(),
    splitBy: z.enum(["number", "time"]).default("number"),
    /** Event data: keep frames on disk, in this user's cache or a folder, so that recordings are decoded once. */
    cache: z.union([z.boolean(), text], "true, false or a folder").default(false),
    /** What every image goes through, of training (where it is not cropped at random) and of testing: its shortest side, then its centre. */
    image: mapping({ resize: side.optional(), crop: side.optional(), interpolation }).prefault({}),
    /** Changes to training images, each drawn from a stream of its own, in this order. */
    augment: mapping({
      /** A part of the image of an area in `scale` (of the whole) and a shape in `ratio`, resized to `size`. */
      randomResizedCrop: mapping({
        size: side,
        scale: range("two numbers > 0, such as [0.08, 1]").default([0.08, 1]),
        ratio: range("two numbers > 0, such as [0.75, 1.3333]").default([3 / 4, 4 / 3]),
        interpolation,
      }).optional(),
      /** Pad with zeros on every side, then cut out `size` (the image's own where not given). */
      randomCrop: mapping({ padding: whole(0, 1024).default(4), size: side.optional() }).optional(),
      /** Random translation by up to so many pixels in both directions. */
      shift: whole(0, 64).default(0),
      /** Chance of a mirror image. */
      flip: chance.default(0),
      /** timm's RandAugment: rand-m9-n1-mstd0.4-inc1 is magnitude 9 (spread 0.4), one operation, the increasing set. */
      randAugment: text.optional(),
      colorJitter: mapping({
        brightness: atLeast(0).default(0),
        contrast: atLeast(0).default(0),
        saturation: atLeast(0).default(0),
        hue: z.number("a number from 0 to 0.5").min(0, "a number from 0 to 0.5").max(0.5, "a number from 0 to 0.5").default(0),
      }).optional(),
      /** Chance that a rectangle is erased, after normalisation. */
      randomErasing: chance.default(0),
      /** Event frames: a hole of 16 x 16, the same in a whole batch. */
      cutout: flag.default(false),
      /** Event frames: one shear, translation or rotation a recording. */
      trivialAugment: flag.default(false),
      /** Mix pairs of images and their targets; `mixup` and `cutmix` are the alphas of their Beta distributions, 0 for never. */
      mix: mapping({
        mixup: atLeast(0).default(0),
        cutmix: atLeast(0).default(0),
        /** Chance that a batch is mixed; and that it is by cutmix where both are on. */
        probability: chance.default(1),
        switchProbability: chance.default(0.5),
        /** No more mixing from this epoch on. */
        offEpoch: whole(0).optional(),
      })
        .refine(({ mixup, cutmix }) => mixup > 0 || cutmix > 0, MIX)
        .optional(),
    }).prefault({}),
    /** Threads that read and change samples beside the trainer's; see `workerCount`. */
    workers: whole(0, 64).optional(),
    /** Only the first so many training images of each class: a training with few labels. */
    perClass: whole(1).optional(),
    /** Only the first so many images, of training and of testing. */
    limit: whole(1).optional(),
    testLimit: whole(1).optional(),
  }),
  train: mapping({
    epochs: whole(1),
    batchSize: whole(1).default(64),
    evalBatchSize: whole(1).default(256),
    optimizer: z
      .discriminatedUnion(
        "name",
        [
          mapping({
            name: z.literal("adamw"),
            ...rate,
            weightDecay: atLeast(0).default(0.01),
            ...decay,
            betas: z.tuple([fraction, fraction], "two numbers, such as [0.9, 0.999]").default([0.9, 0.999]),
            eps: above0.default(1e-8),
          }),
          mapping({
            name: z.literal("lamb"),
            ...rate,
            weightDecay: atLeast(0).default(0.01),
            ...decay,
            betas: z.tuple([fraction, fraction], "two numbers, such as [0.9, 0.999]").default([0.9, 0.999]),
            eps: above0.default(1e-6),
            /** Gradients are divided by their common norm over this, where it is larger; 0 for never. */
            maxGradNorm: atLeast(0).default(1),
            /** Trust ratios of at most 1. */
            trustClip: flag.default(false),
          }),
          mapping({
            name: z.literal("sgd"),
            ...rate,
            weightDecay: atLeast(0).default(0),
            ...decay,
            momentum: fraction.default(0.9),
            nesterov: flag.default(false),
          }),
        ],
        { error: "a mapping" },
      )
      .prefault({ name: "adamw" }),
    schedule: z
      .discriminatedUnion(
        "name",
        [
          mapping({ name: z.literal("cosine"), ...warmup, minLr, epochs, cooldownEpochs, per }),
          mapping({ name: z.literal("linear"), ...warmup, minLr, epochs, cooldownEpochs, per }),
          /** The rate is multiplied by `decayRate` every `decayEpochs`. */
          mapping({ name: z.literal("step"), ...warmup, minLr, decayEpochs: above0.default(30), decayRate: above0.default(0.1), per }),
          /** The same at each of the epochs `milestones`. */
          mapping({
            name: z.literal("multistep"),
            ...warmup,
            minLr,
            milestones: z.array(above0, MILESTONES).min(1, MILESTONES),
            decayRate: above0.default(0.1),
            per,
          }),
          /** (1 - t / epochs) to the power. */
          mapping({ name: z.literal("polynomial"), ...warmup, minLr, epochs, cooldownEpochs, power: above0.default(1), per }),
          mapping({ name: z.literal("constant"), warmupEpochs: warmup.warmupEpochs, warmupLr: warmup.warmupLr, per }),
        ],
        { error: "a mapping" },
      )
      .prefault({ name: "cosine" }),
    /** Start from weights of a run or a file instead of fresh ones; keys that do not fit stay fresh, and are told. */
    init: mapping(source).refine(oneSource, SOURCE).optional(),
    /** A trained model that the student learns from beside the labels, see `train.distillation`. Of a run, the model is the run's. */
    teacher: mapping({
      model: text.optional(),
      config: z.record(z.string(), z.json(), "a mapping").default({}),
      ...source,
      kind: z.enum(["hard", "soft"]).default("hard"),
      /** Share of the teacher in the loss. */
      alpha: chance.default(0.5),
      /** Temperature of the soft kind. */
      tau: above0.default(1),
    })
      .refine(oneSource, SOURCE)
      .optional(),
    /** Something else than classification that the model's system can be trained for: a pre-training. */
    objective: text.optional(),
    /** Rates fall from the head down: by this factor from each layer of the network to the one below it. */
    layerDecay: z.number("a number > 0 and <= 1").gt(0, "a number > 0 and <= 1").max(1, "a number > 0 and <= 1").default(1),
    /** Largest L2 norm of all gradients together. */
    clipNorm: above0.optional(),
    /** Batches whose gradients are averaged before a step. */
    accumulate: whole(1).default(1),
    /** Memory that the run may take, as "500 MB"; "auto" for all there is. Parts of the model are run again in backward until it fits. */
    memory: z
      .string(MEMORY)
      .refine((value) => value === "auto" || sizeBytes(value) !== undefined, MEMORY)
      .default("auto"),
    /** Test after every so many epochs, and after the last. */
    evalEvery: whole(1).default(1),
    /** Keep a moving average of the weights, and test and ship that. */
    ema: mapping({ decay: fraction.default(0.9998), warmup: flag.default(false) }).optional(),
    labelSmoothing: fraction.default(0),
    loss: mapping({
      /** Cross-entropy, or timm's binary cross-entropy of each class by itself. */
      base: z.enum(["ce", "bce"]).default("ce"),
      /** Binary cross-entropy: targets above it count as 1, the others as 0. */
      targetThreshold: chance.optional(),
      /** Temporal efficient training: the loss at every step, plus `lambda` times the mean squared distance to `means`. */
      tet: mapping({ lambda: fraction.default(1e-3), means: z.number("a number").default(1) }).optional(),
    }).prefault({}),
  }),
  seed: whole(0).default(0),
  threads: whole(1, 256).optional(),
  device: z.enum(["auto", "native", "wasm", "reference"]).optional(),
  /** How integer-valued neurons emit in tests and measurements: integers, or binary virtual steps (see `snn.setMode`). */
  mode: z.enum(["integer", "spikes"]).optional(),
  /** Precision of products on a machine with matrix units. */
  matmulPrecision: z.enum(["highest", "high", "medium"]).optional(),
  /** The run's folder; runs/<name> where not given. */
  out: text.optional(),
  /** Work between two checkpoints; see `durationSeconds`. */
  saveEvery: z
    .union([z.number(), z.string()], DURATION)
    .refine((value) => durationSeconds(value) !== undefined, DURATION)
    .default(1),
});

/** A checked recipe with every default filled in; plain JSON. */
export type Recipe = z.output<typeof recipeSchema> & { name: string };

/** The optimiser's rate: as given, or of the base rate for 256 images. */
export function learningRate({ train: { optimizer, batchSize, accumulate } }: Pick<Recipe, "train">): number {
  const { lr, blr } = optimizer;
  return blr === undefined ? (lr ?? DEFAULT_LR[optimizer.name]) : (blr * batchSize * accumulate) / 256;
}

/** What a recipe may name, asked for only when needed, so that what is wrong is found before anything starts. */
export interface KnownNames {
  models?: () => Iterable<string>;
  datasets?: () => Iterable<string>;
  /** @throws SettingError for a wrong setting of the model's configuration */
  checkModel?: (name: string, config: Readonly<Record<string, unknown>>) => void;
  /** Whether a data set is of event recordings. */
  isEvents?: (dataset: string) => boolean;
}

/** What the recipe's reader knows of it that is not in the recipe itself. */
interface Origin {
  /** "r.yml: line 3: " for what is at a path. */
  where: (at: readonly string[]) => string;
  warnings: readonly string[];
}

const origins = new WeakMap<Recipe, Origin>();

/** Keys of a recipe that do nothing in it, each with its file and line. */
export function recipeWarnings(recipe: Recipe): readonly string[] {
  return origins.get(recipe)?.warnings ?? [];
}

/** A mistake that shows only later, at `path` (dotted) of the recipe: told with the line, as those that its reader finds. */
export function recipeError(recipe: Recipe, path: string, words: string): SpikeloomError {
  return new SpikeloomError(`${origins.get(recipe)?.where(path.split(".")) ?? ""}${words}`);
}

/** Epochs of the whole run, those of cool-down included. */
export function recipeEpochs({ train: { epochs, schedule } }: Pick<Recipe, "train">): number {
  return epochs + ("cooldownEpochs" in schedule ? schedule.cooldownEpochs : 0);
}

/**
 * Read, override and check a recipe.
 * @param path a YAML file
 * @param sets overrides `a.b=value`, the value in YAML (so `0.1`, `true`, `[0.9, 0.99]`, `text`)
 * @throws SpikeloomError that lists everything wrong: syntax by line and column, the rest by path and line
 */
export async function loadRecipe(path: string, sets: readonly string[] = [], known: KnownNames = {}): Promise<Recipe> {
  return parseRecipe(new TextDecoder().decode(await readFileChecked(path, "recipe")), path, sets, known);
}

/** `loadRecipe` on text; `path` is for messages and for the default name. */
export function parseRecipe(source: string, path: string, sets: readonly string[] = [], known: KnownNames = {}): Recipe {
  const lines = new LineCounter();
  // What the reader would only warn of on standard error (a tag it does not know, a list as a name) is a mistake here too.
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false, logLevel: "error" });
  const broken = document.errors[0] ?? document.warnings[0];
  if (broken) {
    const { line, col } = lines.linePos(broken.pos[0]);
    throw new SpikeloomError(`${path}:${line}:${col}: this is not YAML: ${broken.message}`);
  }
  if (document.contents === null) document.contents = document.createNode({}) as unknown as NonNullable<typeof document.contents>;
  if (!isMap(document.contents))
    throw new SpikeloomError(`${path}: expected a mapping (name: value lines), found ${show(toJs(document, path))}.`);
  const fromSet = new Set<string>();
  for (const set of sets) fromSet.add(applySet(document, set));

  const raw = toJs(document, path);
  nameDefaults(raw);
  const result = recipeSchema.safeParse(raw);
  const place = (at: readonly string[]) => where(document, lines, fromSet, at);
  const idle = result.success ? findIdle(result.data, recipeEpochs(result.data), known.isEvents?.(result.data.data.name)) : [];
  const problems = result.success
    ? [...unknownNames(result.data, known), ...idle.filter(({ fatal }) => fatal)]
    : result.error.issues.flatMap((issue) => explain(issue, raw));
  if (problems.length || !result.success) {
    const located = problems.map(({ at, words }) => `${place(at)}${words}`);
    throw new SpikeloomError(
      located.length === 1 ? `${path}: ${located[0]}` : `${path}: ${located.length} mistakes\n${located.map((l) => `  ${l}`).join("\n")}`,
    );
  }
  const recipe = { ...result.data, name: result.data.name ?? runName(path) };
  const { optimizer } = recipe.train;
  if (optimizer.blr === undefined) optimizer.lr ??= DEFAULT_LR[optimizer.name];
  origins.set(recipe, {
    where: (at) => `${path}: ${place(at)}`,
    warnings: idle.filter(({ fatal }) => !fatal).map(({ at, words }) => `${path}: ${place(at)}${words}`),
  });
  return recipe;
}

/** A recipe as YAML, defaults written out: read again, it is the same recipe. */
export function recipeToYaml(recipe: Recipe): string {
  return stringify(recipe, { lineWidth: 120, flowCollectionPadding: false });
}

function runName(path: string): string {
  return (
    basename(path, extname(path))
      .replace(/[^\w.-]/g, "-")
      .replace(/^[.-]+/, "") || "run"
  );
}

/** The optimiser and the schedule that there are where none is named: `train.optimizer.lr` alone means AdamW's. */
function nameDefaults(raw: unknown): void {
  for (const [key, name] of [
    ["optimizer", "adamw"],
    ["schedule", "cosine"],
  ] as const) {
    const given = valueAt(raw, ["train", key]);
    if (typeof given === "object" && given !== null && !Array.isArray(given) && !Object.hasOwn(given, "name"))
      (given as Record<string, unknown>).name = name;
  }
}

function toJs(document: Document, path: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw new SpikeloomError(`${path}: this YAML cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/** Apply one `a.b=value`. @returns its path */
function applySet(document: Document, set: string): string {
  const at = set.indexOf("=");
  const key = set.slice(0, Math.max(at, 0)).trim();
  const keys = key.split(".");
  if (at < 0 || keys.includes("")) {
    throw new SpikeloomError(`--set ${set}: expected path=value with a dotted path, such as --set train.optimizer.lr=0.001.`);
  }
  let value: unknown;
  try {
    value = parse(set.slice(at + 1), { logLevel: "error" });
  } catch (error) {
    throw new SpikeloomError(`--set ${set}: the value is not YAML: ${(error as Error).message.split("\n")[0]}`, { cause: error });
  }
  for (let i = 1; i < keys.length; i++) {
    const parent = document.getIn(keys.slice(0, i));
    // A name without a value in the file (`augment:`) is null: the path makes it a mapping.
    if (parent === null) document.deleteIn(keys.slice(0, i));
    else if (parent !== undefined && !isNode(parent)) {
      throw new SpikeloomError(`--set ${set}: ${keys.slice(0, i).join(".")} is ${show(parent)}, which has no parts to set.`);
    }
  }
  try {
    // `--set data.dir=` takes the key away: its default counts again.
    if (value === null || value === undefined) document.deleteIn(keys);
    else document.setIn(keys, document.createNode(value));
  } catch (error) {
    throw new SpikeloomError(`--set ${set}: ${(error as Error).message}`, { cause: error });
  }
  return key;
}

export interface Problem {
  /** Path of what is wrong, as far as the file may have it. */
  at: readonly string[];
  words: string;
}

function explain(issue: z.core.$ZodIssue, raw: unknown): Problem[] {
  const at = issue.path.map(String);
  const name = at.join(".");
  if (issue.code === "unrecognized_keys") return issue.keys.map((key) => ({ at: [...at, key], words: unknownKey(at, key, raw) }));
  const found = valueAt(raw, at);
  // The names of a choice: of an enum, or (not in zod's type of the issue) of a union told apart by one key.
  const options = (issue.code === "invalid_value" ? issue.values : (issue as { options?: readonly string[] }).options) ?? [];
  const expected = options.length ? `one of ${options.join(", ")}` : issue.message;
  if (found === undefined) return [{ at: at.slice(0, -1), words: `${name} is missing: expected ${expected}.` }];
  const near = typeof found === "string" ? nearest(found, options.map(String)) : undefined;
  return [{ at, words: `${name}: expected ${expected}, found ${show(found)}${near ? `. Did you mean ${show(near)}?` : "."}` }];
}

function unknownKey(parent: readonly string[], key: string, raw: unknown): string {
  const path = [...parent, key].join(".");
  const schema = schemaAt(parent, raw);
  const siblings = Object.keys(schema?.shape ?? {});
  const near = nearest(key, siblings);
  if (near) return `${path} is no key of a recipe. Did you mean ${[...parent, near].join(".")}?`;
  // The right word in the wrong place: `train.lr` for `train.optimizer.lr`.
  const elsewhere = allPaths(recipeSchema, [], raw);
  const word = nearest(
    key,
    elsewhere.map((p) => p.at(-1) as string),
  );
  const twin = elsewhere.find((p) => p.at(-1) === word);
  if (twin) return `${path} is no key of a recipe. Did you mean ${twin.join(".")}?`;
  return `${path} is no key of a recipe. ${parent.join(".") || "A recipe"} has ${siblings.join(", ")}.`;
}

type ObjectSchema = { shape: Readonly<Record<string, z.core.$ZodType>> };

/** The object schema behind defaults and optionals; of a union the member that `value` names. */
function objectSchema(schema: z.core.$ZodType, value: unknown): ObjectSchema | undefined {
  const def = schema._zod.def as { type: string; innerType?: z.core.$ZodType; options?: z.core.$ZodType[]; discriminator?: string };
  if (def.innerType) return objectSchema(def.innerType, value);
  if (def.type === "object") return schema as unknown as ObjectSchema;
  if (!def.discriminator || !def.options) return undefined;
  const members = def.options as unknown as { shape: Record<string, { def: { values: string[] } }> }[];
  const wanted = valueAt(value, [def.discriminator]);
  return (members.find((m) => m.shape[def.discriminator as string]?.def.values.includes(wanted as string)) ??
    members[0]) as unknown as ObjectSchema;
}

function schemaAt(path: readonly string[], raw: unknown): ObjectSchema | undefined {
  let schema: z.core.$ZodType | undefined = recipeSchema;
  for (let i = 0; schema && i < path.length; i++) schema = objectSchema(schema, valueAt(raw, path.slice(0, i)))?.shape[path[i] as string];
  return schema && objectSchema(schema, valueAt(raw, path));
}

function allPaths(schema: z.core.$ZodType, at: readonly string[], raw: unknown): string[][] {
  const shape = objectSchema(schema, valueAt(raw, at))?.shape ?? {};
  return Object.entries(shape).flatMap(([key, inner]) => [[...at, key], ...allPaths(inner, [...at, key], raw)]);
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

function unknownNames(recipe: z.output<typeof recipeSchema>, known: KnownNames): Problem[] {
  const check = (at: string[], name: string, names: Iterable<string> | undefined, what: string, list: string): Problem[] => {
    const all = names && [...names];
    if (!all || all.includes(name)) return [];
    const near = nearest(name, all);
    return [
      {
        at,
        words: `${at.join(".")}: there is no ${what} ${show(name)}. ${near ? `Did you mean ${show(near)}?` : list || `There are ${all.join(", ")}.`}`,
      },
    ];
  };
  const { name, config } = recipe.model;
  const names = [
    ...check(["model", "name"], name, known.models?.(), "model", "`spikeloom models` lists them."),
    ...check(["data", "name"], recipe.data.name, known.datasets?.(), "data set", ""),
  ];
  if (!names.length)
    try {
      known.checkModel?.(name, config);
    } catch (error) {
      if (!(error instanceof SettingError)) throw error;
      const at = ["model", "config", error.setting];
      names.push({ at, words: `${at.join(".")}: ${error.message}` });
    }
  return names;
}

/** "line 12: " where the file has the thing or what should contain it; "--set: " where an override put it there. */
function where(document: Document, lines: LineCounter, fromSet: ReadonlySet<string>, at: readonly string[]): string {
  for (let n = at.length; n > 0; n--) {
    if (fromSet.has(at.slice(0, n).join("."))) return "--set: ";
    const parent = document.getIn(at.slice(0, n - 1), true);
    const pair = isMap(parent)
      ? parent.items.find((item) => String(isNode(item.key) ? item.key.toJSON() : item.key) === at[n - 1])
      : undefined;
    const range = isNode(pair?.key) ? pair.key.range : undefined;
    if (range) return `line ${lines.linePos(range[0]).line}: `;
  }
  return "";
}

function show(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return value.length ? `the list ${clip(JSON.stringify(value))}` : "an empty list";
  if (typeof value === "object") return "a mapping";
  return typeof value === "string" ? clip(JSON.stringify(value)) : String(value);
}

function clip(words: string): string {
  return words.length > 60 ? `${words.slice(0, 57)}...` : words;
}
