/** `spikeloom eval`: loss, accuracy and confusion matrix of a run's weights on its test set. */
import { measure, SpikeloomError, train } from "spikeloom";
import { startWorkers, workerCount } from "../sample-workers.ts";
import { testLoader } from "../session.ts";
import { table } from "../table.ts";
import { openTrained, type TrainedOptions } from "../trained.ts";

/** A wider confusion matrix fits no terminal; --json has it. */
const MOST_CLASSES_SHOWN = 20;

export interface EvalOptions extends TrainedOptions {
  /** Another data set than the run's, and its folder. */
  data?: string | undefined;
  dir?: string | undefined;
  workers?: number | undefined;
  /** Run integers and spikes, and hold their outputs against each other. */
  compareModes?: boolean | undefined;
  json?: boolean | undefined;
}

export async function run({ json, data, dir, workers: count, compareModes, ...options }: EvalOptions): Promise<void> {
  const overrides = [
    ...(options.set ?? []),
    // Another data set is not in the folder of the run's own.
    ...(data === undefined ? [] : [`data.name=${JSON.stringify(data)}`, "data.dir="]),
    ...(dir === undefined ? [] : [`data.dir=${JSON.stringify(dir)}`]),
  ];
  const { recipe, engine, set, model, folder, objective } = await openTrained({ ...options, set: overrides });
  if (compareModes && objective)
    throw new SpikeloomError(
      `--compare-modes holds the outputs for each class against each other, and ${folder.path} names no classes (${recipe.train.objective}). Compare its losses: --mode integer and --mode spikes`,
    );
  const workers = startWorkers(recipe, set.splits, count ?? workerCount(recipe, set));
  let result: train.Evaluation;
  let modes: measure.ModeComparison | undefined;
  try {
    result = await train.evaluate(model, testLoader(recipe, set, workers), { objective });
    if (compareModes) modes = await measure.compareModes(model, testLoader(recipe, set, workers));
  } finally {
    await workers?.close();
  }
  const { classes } = set;
  if (json) {
    const { predictions, ...rest } = result;
    console.log(
      JSON.stringify({
        run: folder.path,
        ...rest,
        ...(modes ? { modes } : {}),
        classes,
        predictions: [...predictions],
        device: engine.device,
        isa: engine.isa,
        threads: engine.threads,
      }),
    );
    return;
  }
  const on = `on ${result.samples.toLocaleString("en")} test images of ${recipe.data.name} in ${result.seconds.toFixed(1)} s (${engine.device}, ${engine.isa})`;
  if (objective) return console.log(`${folder.path}: loss ${result.loss.toFixed(4)} (${recipe.train.objective}) ${on}`);
  console.log(
    `${folder.path}: accuracy ${(result.accuracy * 100).toFixed(2)} %${set.classes.length > 10 ? ` (top-5 ${(result.top5 * 100).toFixed(2)} %)` : ""}, loss ${result.loss.toFixed(4)} ${on}`,
  );
  if (modes) printModes(modes);
  if (classes.length > MOST_CLASSES_SHOWN) return;
  const columns = [
    { head: "true \\ predicted", cell: (row: number) => classes[row] as string },
    ...classes.map((name, i) => ({ head: name, right: true, cell: (row: number) => String(result.confusion[row]?.[i] ?? 0) })),
  ];
  console.log(
    table(
      columns,
      classes.map((_, i) => i),
    ),
  );
}

function printModes({ samples, same, moved, difference, rounding, largest }: measure.ModeComparison): void {
  const count = (n: number) => n.toLocaleString("en");
  const rounded = moved
    ? `in ${count(moved)} rounding moved an integer (logits differ by up to ${difference.toPrecision(2)}), in the others they differ by at most ${rounding.toExponential(1)}`
    : `logits differ by at most ${difference.toExponential(1)}`;
  console.log(
    `integers and spikes: ${count(same)} of ${count(samples)} predictions are the same; ${rounded}; the largest logit is ${largest.toPrecision(3)}`,
  );
}
