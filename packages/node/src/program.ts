/**
 * The command line: which commands and options there are, their help, and how errors are told. Each command's work is in
 * commands/, loaded only when it is asked for.
 */
import { writeSync } from "node:fs";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { measure, SpikeloomError } from "spikeloom";
import type { SortKey } from "./commands/runs.ts";
import { diskError } from "./files.ts";
import { type ProfileSteps, parseSteps } from "./profile.ts";
import { durationSeconds } from "./recipe.ts";
import { variablesHelp } from "./variables.ts";
import { versions } from "./versions.ts";

const COMMANDS = {
  train: () => import("./commands/train.ts"),
  eval: () => import("./commands/eval.ts"),
  measure: () => import("./commands/measure.ts"),
  predict: () => import("./commands/predict.ts"),
  runs: () => import("./commands/runs.ts"),
  models: () => import("./commands/models.ts"),
  run: () => import("./commands/run.ts"),
  convert: () => import("./commands/convert.ts"),
  info: () => import("./commands/info.ts"),
  native: () => import("./commands/native.ts"),
};

/** What `spikeloom runs --sort` takes. */
const SORT_KEYS: readonly SortKey[] = [
  "name",
  "model",
  "data",
  "epochs",
  "status",
  "accuracy",
  "best",
  "firing",
  "energy",
  "time",
  "seed",
  "device",
  "date",
];

/** A command's module, as `main` uses it: `run` gives the exit code, or nothing for 0. */
export type CommandLoaders = {
  readonly [K in keyof typeof COMMANDS]: () => Promise<{
    run(options: Parameters<Awaited<ReturnType<(typeof COMMANDS)[K]>>["run"]>[0]): Promise<unknown>;
  }>;
};

export interface MainOptions {
  /** The commands' modules; tests give others. */
  commands?: CommandLoaders;
  out?: (text: string) => void;
  err?: (text: string) => void;
}

/**
 * Run the command line `args` (without node and script). Never throws.
 * @returns the exit code: 0, 1 after an error, 130 after Ctrl-C
 */
export async function main(args: readonly string[], options: MainOptions = {}): Promise<number> {
  const { commands = COMMANDS, out = (text) => process.stdout.write(text), err = (text) => process.stderr.write(text) } = options;
  for (const stream of [process.stdout, process.stderr])
    if (!stream.listeners("error").includes(stopUnwritable)) stream.on("error", stopUnwritable);
  let code = 0;
  const start = async (work: Promise<unknown>) => {
    const result = await work;
    if (typeof result === "number") code = result;
  };
  try {
    await program(commands, start, out, err).parseAsync([...args], { from: "user" });
    return unwritable === "failed" ? 1 : code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    err(`${describe(error)}\n`);
    return 1;
  }
}

/** Why the output can no longer be written: its reader is gone, which is no error, or the disk behind it is full. */
let unwritable: "closed" | "failed" | undefined;

function stopUnwritable(error: NodeJS.ErrnoException): void {
  // Every further write fails too, but a training takes a second signal for a user who will not wait for it to save.
  if (unwritable) return;
  unwritable = error.code === "EPIPE" ? "closed" : "failed";
  if (unwritable === "failed") tell(`${describe(diskError(error, "cannot write to the standard output"))}\n`);
  // A training saves and stops, as at Ctrl-C; anything else has nobody left to talk to.
  if (process.listenerCount("SIGINT")) process.emit("SIGINT");
  else process.exit(unwritable === "failed" ? 1 : 0);
}

/** On standard error, at once, where that can be written. */
function tell(text: string): void {
  try {
    writeSync(2, text);
  } catch {
    // Nobody hears.
  }
}

/** An error as its user reads it. The variable SPIKELOOM_DEBUG adds the stack. */
export function describe(error: unknown): string {
  const debug = !["", "0", "false", "no", "off"].includes(process.env.SPIKELOOM_DEBUG?.trim().toLowerCase() ?? "");
  const stack = debug && error instanceof Error ? `\n${error.stack}` : "";
  if (error instanceof SpikeloomError) return `error: ${error.message}${stack}`;
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const mend = debug ? "Please report it." : "Please report it, with what the same command prints when SPIKELOOM_DEBUG=1 is set.";
  return `error: ${message}\nThis is a mistake in spikeloom, not in what you did. ${mend}${stack}`;
}

/** Every command's help as it is printed, in the order of the list, the program's own first: what docs/commands.md is made of. */
export function helpPages(): { name: string; text: string }[] {
  const pages: { name: string; text: string }[] = [];
  const walk = (command: Command, parents: readonly string[]) => {
    const path = [...parents, command.name()];
    let text = "";
    command.configureOutput({ writeOut: (part) => (text += part), getOutHelpWidth: () => 100, getOutHasColors: () => false });
    command.outputHelp();
    pages.push({ name: path.join(" "), text: text.trimEnd() });
    for (const child of command.commands) walk(child, path);
  };
  walk(
    program(
      COMMANDS,
      async () => {},
      () => {},
      () => {},
    ),
    [],
  );
  return pages;
}

type Start = (work: Promise<unknown>) => Promise<void>;

function program(commands: CommandLoaders, start: Start, out: (text: string) => void, err: (text: string) => void): Command {
  const root = new Command("spikeloom")
    .description("Train, evaluate, measure and run spiking neural networks.")
    .version(versions()["@spikeloom/cli"], "-v, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand("help [command]", "print the help of a command")
    .configureOutput({ writeOut: out, writeErr: err })
    .exitOverride()
    .addHelpText(
      "after",
      `
Examples:
  $ spikeloom train recipes/mnist.yml
  $ spikeloom eval runs/mnist
  $ spikeloom models

Variables:
${variablesHelp()}`,
    );

  engine(root.command("train"))
    .summary("train a model by a recipe, or go on with a run")
    .description("Train a model as a recipe says; then evaluate it, measure its energy and write a report. Ctrl-C saves and stops.")
    .argument("[recipe]", "the recipe, a YAML file")
    .option("--set <key=value>", "override a value of the recipe, such as train.epochs=5; may be repeated", collect)
    .option("--out <dir>", "the run's folder (default: runs/ and the recipe's name)")
    .option("--resume <dir>", "go on with the run in this folder, bit for bit")
    .addOption(seed())
    .option(
      "--save-every <time>",
      "work between two checkpoints: minutes, or such as 30s, 5m, 1h (default: the recipe's, else 1)",
      duration,
    )
    .addOption(workers())
    .option(
      "--profile [file]",
      "record the kernels of some steps, print the slowest, and write a Chrome trace (default: trace.json in the run's folder)",
    )
    .option("--profile-steps <steps>", "which steps from the start are recorded, such as 5 or 3..12 (default: 3..12)", profileSteps)
    .addOption(json("events"))
    .addHelpText(
      "after",
      `
Examples:
  $ spikeloom train recipes/mnist.yml --seed 7
  $ spikeloom train recipes/mnist.yml --profile --set data.limit=2000
  $ spikeloom train recipes/mnist.yml --set train.epochs=2 --set train.optimizer.lr=0.002 --out runs/short
  $ spikeloom train --resume runs/short`,
    )
    .action((recipe: string | undefined, options) => start(commands.train().then(({ run }) => run({ ...options, recipe }))));

  engine(root.command("eval"))
    .summary("evaluate a run on its test set, or on another")
    .description("Loss, accuracy and confusion matrix of a run's weights on its test set, or on that of another data set.")
    .argument("<run>", "the run's folder")
    .option("--data <name>", "the data set (default: the run's): any that a recipe may name")
    .option("--dir <folder>", "where the data set's files are")
    .addOption(workers())
    .addOption(weights())
    .addOption(key())
    .option("--set <key=value>", "override a value of the run's recipe, such as data.dir=FOLDER; may be repeated", collect)
    .addOption(json("the result"))
    .addHelpText(
      "after",
      "\nExamples:\n  $ spikeloom eval runs/mnist\n  $ spikeloom eval runs/mnist --weights best --data kmnist --dir kmnist/\n  $ spikeloom eval runs/mnist --device reference --set data.testLimit=100 --json",
    )
    .action((run: string, options) => start(commands.eval().then((command) => command.run({ ...options, run }))));

  engine(root.command("measure"))
    .summary("firing rates, synaptic operations and energy of a run")
    .description(
      "Per layer and in total: shapes, dense operations, firing rates for each step, MACs and ACs counted exactly, and energy estimates by the papers' conventions side by side, each with its rule; sparsity and footprint by NeuroBench's definitions.",
    )
    .argument("<run>", "the run's folder")
    .option("--set <key=value>", "override a value of the run's recipe; may be repeated", collect)
    .addOption(weights())
    .addOption(key())
    .option("--images <n>", "test images to average over (default: 100)", whole(1))
    .option("--preset <name>", "a convention whose layers are listed (default: plain); may be repeated", collect)
    .addOption(
      new Option("--first-layer <rule>", "count the first layer of a still image at every step (the papers' rule) or once").choices([
        "T",
        "once",
      ]),
    )
    .addOption(json("the result"))
    .option("--csv <file>", "write layers, totals and firing rates as CSV; - prints it")
    .addHelpText("after", () => presetHelp())
    .addHelpText(
      "after",
      "\nExamples:\n  $ spikeloom measure runs/mnist\n  $ spikeloom measure runs/mnist --preset sdt:qkvRate=input --preset memory\n  $ spikeloom measure runs/mnist --images 1000 --csv energy.csv",
    )
    .action((run: string, options) => start(commands.measure().then((command) => command.run({ ...options, run }))));

  engine(root.command("predict"))
    .summary("classify images with a run, and show its spikes")
    .description(
      "Class and probability of each image, the step that decided, firing rate, synaptic operations and energy of this very image; and a page with its spikes, attention and energy by layer. Pictures are brought to the size that the network was trained on; for a network of events name recordings (.npz, .aedat).",
    )
    .argument("<run>", "the run's folder")
    .argument("<image...>", "JPEG, PNG, WebP, GIF, TIFF or AVIF files")
    .option("--invert", "exchange light and dark, as for dark digits on white paper where the data is light on dark")
    .option("--top <k>", "classes to name (default: 3)", whole(1))
    .option("--picture <file>", "where the page goes: .html, or .png for a picture alone; or a folder (default: predict/ in the run)")
    .option("--no-picture", "write no page")
    .addOption(weights())
    .addOption(key())
    .option("--set <key=value>", "override a value of the run's recipe, such as data.image.resize=32; may be repeated", collect)
    .addOption(json("the results"))
    .addHelpText(
      "after",
      "\nExamples:\n  $ spikeloom predict runs/mnist seven.png\n  $ spikeloom predict runs/mnist paper/*.jpg --invert --json --no-picture\n  $ spikeloom predict runs/mnist seven.png --weights best --picture seven-spikes.png",
    )
    .action((run: string, images: string[], options) =>
      start(commands.predict().then((command) => command.run({ ...options, run, images }))),
    );

  root
    .command("runs")
    .summary("a table of runs")
    .description(
      "The runs in a folder side by side: how far each came, accuracy of the last test and of the best, firing rate, energy, time. Half-written and damaged runs are listed too.",
    )
    .argument("[folder...]", "runs, or folders of runs (default: runs/)")
    .addOption(new Option("--sort <key>", "sort by this, the best or newest first").choices(SORT_KEYS).default("name"))
    .addOption(json("the rows"))
    .option("--csv <file>", "write the rows as CSV; - prints them")
    .addHelpText(
      "after",
      "\nExamples:\n  $ spikeloom runs\n  $ spikeloom runs --sort accuracy\n  $ spikeloom runs runs/mnist runs/mnist-2 --json",
    )
    .action((folders: string[], options) => start(commands.runs().then(({ run }) => run({ ...options, folders }))));

  root
    .command("models")
    .summary("list the models, or describe one")
    .description("The models there are; for one name its configuration, parameter count and every state-dict key with its PyTorch shape.")
    .argument("[name]", "a model, such as sdt-v1/cifar10-2-256")
    .addOption(json("the result"))
    .addHelpText("after", "\nExamples:\n  $ spikeloom models\n  $ spikeloom models sdt-v1/cifar10-2-256 --json")
    .action((name: string | undefined, options) => start(commands.models().then(({ run }) => run({ ...options, name }))));

  engine(root.command("run"))
    .summary("run any model on any tensor")
    .description("Run a model, with given weights, on an input in PyTorch's axis order, and write its outputs.")
    .requiredOption("--model <name>", "a system such as sdt-v1, or a part of one: system/kind")
    .option("--config <json>", "its configuration", object)
    .requiredOption("--weights <file>", "safetensors, npz or a PyTorch checkpoint, under PyTorch's keys and shapes")
    .addOption(key())
    .requiredOption("--input <file>", "npy, or npz where there are several inputs")
    .requiredOption("--output <file>", "the npz to write")
    .option("--taps", "write every tapped intermediate result too")
    .addHelpText(
      "after",
      `\nExamples:\n  $ spikeloom run --model sdt-v1 --config '{"T": 4}' --weights net.safetensors --input x.npy --output y.npz --taps`,
    )
    .action((options) => start(commands.run().then(({ run }) => run(options))));

  root
    .command("convert")
    .summary("weights from PyTorch to safetensors or npz")
    .description(
      "Convert weights: a PyTorch checkpoint of any version (zip, stream or tar; whole modules too; nothing in it is ever run), safetensors or npz. With --model the output has the model's keys; missing, left over, renamed and mis-shaped ones are listed, and unless they are harmless nothing is written.",
    )
    .argument("<in>", "the file: .pt, .pth, .bin, .safetensors, .npz (its content decides)")
    .argument("<out>", "a file that ends in .safetensors or .npz")
    .option("--model <name>", "the model that the weights are of, such as sdt-v1/cifar10-2-256")
    .option("--config <json>", "settings over the model's", object)
    .addOption(key())
    .addOption(new Option("--dtype <type>", "type of floating-point tensors (default: the file's)").choices(["f32", "f16", "bf16"]))
    .addHelpText(
      "after",
      `\nExamples:\n  $ spikeloom convert checkpoint.pth net.safetensors --model sdt-v1/imagenet-8-768\n  $ spikeloom convert checkpoint.pth.tar ema.safetensors --key state_dict_ema --dtype f16`,
    )
    .action((input: string, output: string, options) =>
      start(commands.convert().then((command) => command.run({ ...options, input, output }))),
    );

  engine(root.command("info"))
    .summary("device, instruction sets, threads, versions")
    .description("What spikeloom runs on here: device, instruction sets, threads, versions, and where the native addon is.")
    .addOption(json("the result"))
    .addHelpText("after", "\nExamples:\n  $ spikeloom info\n  $ spikeloom info --device wasm --json")
    .action((options) => start(commands.info().then(({ run }) => run(options))));

  const native = root
    .command("native")
    .summary("the native accelerator")
    .description("The native accelerator of this machine: optional, faster than WebAssembly.");
  native
    .command("build")
    .summary("compile it")
    .description(
      "Compile the native addon with a C++17 compiler. It goes to this user's cache (or, in a clone, to its build folder) and is found from then on.",
    )
    .option("--output <file>", "where it goes instead; name it then by SPIKELOOM_NATIVE")
    .addHelpText("after", "\nExamples:\n  $ spikeloom native build\n  $ CXX=clang++ spikeloom native build")
    .action((options) => start(commands.native().then(({ run }) => run(options))));

  return root;
}

/** Every energy convention and the choices it leaves open, the default first. */
function presetHelp(): string {
  const lines = measure.presets.flatMap(({ name, title, settings = {} }) => [
    `  ${name.padEnd(14)} ${title}`,
    ...Object.entries(settings).map(([key, values]) => `${" ".repeat(17)}${name}:${key}=${values.join("|")}`),
  ]);
  return `\nPresets:\n${lines.join("\n")}`;
}

/** The options of every command that starts the engine. */
function engine(command: Command): Command {
  return command
    .addOption(
      new Option("--device <name>", "what computes (default: native where it was built, else wasm)").choices([
        "auto",
        "native",
        "wasm",
        "reference",
      ]),
    )
    .option("--threads <n>", "threads (default: the processors)", whole(1, 256));
}

function seed(): Option {
  return new Option("--seed <n>", "seed of every random stream (default: the recipe's)").argParser(whole(0));
}

function workers(): Option {
  return new Option("--workers <n>", "threads that read and change images (default: the recipe's, else by the data)").argParser(
    whole(0, 64),
  );
}

function weights(): Option {
  return new Option(
    "--weights <which>",
    "final (of the end), best (of the best test) or last (of the last checkpoint), or a file of weights (default: final, else last)",
  );
}

function key(): Option {
  return new Option("--key <path>", "which dictionary in a file of weights, such as model_ema (default: the model's, which is told)");
}

function json(what: string): Option {
  return new Option("--json", `print ${what} as JSON`);
}

function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

function whole(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isSafeInteger(value) || value < min || value > max)
      throw new InvalidArgumentError(`Expected a whole number ${max === Number.MAX_SAFE_INTEGER ? `>= ${min}` : `from ${min} to ${max}`}.`);
    return value;
  };
}

function profileSteps(text: string): ProfileSteps {
  const steps = parseSteps(text);
  if (!steps) throw new InvalidArgumentError("Expected a step from 1 on, such as 5, or the first and last, such as 3..12.");
  return steps;
}

function duration(text: string): string {
  if (durationSeconds(text) === undefined) throw new InvalidArgumentError("Expected minutes, or a time such as 30s, 5m or 1h.");
  return text;
}

function object(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InvalidArgumentError(`It is not JSON: ${(error as Error).message}.`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new InvalidArgumentError('Expected a JSON object such as {"T": 4}.');
  return value as Record<string, unknown>;
}
