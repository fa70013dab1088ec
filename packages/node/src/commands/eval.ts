/** `spikeloom eval`: loss, accuracy and confusion matrix of a run's weights on its test set. */
import { train } from "spikeloom";
import { lossOf, testLoader } from "../session.ts";
import { table } from "../table.ts";
import { openTrained, type TrainedOptions } from "../trained.ts";

export interface EvalOptions extends TrainedOptions {
  json?: boolean | undefined;
}

export async function run({ json, ...options }: EvalOptions): Promise<void> {
  const { recipe, engine, set, model, folder } = await openTrained(options);
  const result = await train.evaluate(model, testLoader(recipe, set), { loss: lossOf(recipe) });
  const { classes } = set.entry;
  if (json) {
    const { predictions, ...rest } = result;
    console.log(
      JSON.stringify({
        run: folder.path,
        ...rest,
        classes,
        predictions: [...predictions],
        device: engine.device,
        isa: engine.isa,
        threads: engine.threads,
      }),
    );
    return;
  }
  console.log(
    `${folder.path}: accuracy ${(result.accuracy * 100).toFixed(2)} %, loss ${result.loss.toFixed(4)} on ${result.samples.toLocaleString("en")} test images of ${recipe.data.name} in ${result.seconds.toFixed(1)} s (${engine.device}, ${engine.isa})`,
  );
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
