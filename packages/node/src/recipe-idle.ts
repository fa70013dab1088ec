/**
 * Keys of a recipe that do nothing in it: its writer believes that they do. Those that no other value could make right (a key of event
 * data with images) are mistakes; the others (a milestone that a short run never reaches) are told.
 */
import type { Problem, Recipe } from "./recipe.ts";

export interface Idle extends Problem {
  /** A mistake, not only a warning. */
  fatal: boolean;
}

/**
 * @param total epochs of the whole run, those of cool-down included
 * @param events whether the data are event recordings, where that is known
 */
export function findIdle({ data, train }: Pick<Recipe, "data" | "train">, total: number, events?: boolean): Idle[] {
  const found: Idle[] = [];
  const add = (fatal: boolean) => (path: string, words: string) =>
    void found.push({ at: path.split("."), words: `${path} ${words}`, fatal });
  const [wrong, warn] = [add(true), add(false)];
  const { augment } = data;

  if (events === false) {
    const only = `has no effect on ${data.name}: it is for event recordings, and these are images. Leave it out`;
    if (data.timeSteps !== undefined) wrong("data.timeSteps", `${only}; the time steps of images are the model's (model.config.T)`);
    if (data.splitBy !== "number") wrong("data.splitBy", only);
    if (data.cache !== false) wrong("data.cache", only);
  }
  if (events) {
    const only = `cannot be used with ${data.name}: it is for images, and these are event recordings. Leave it out`;
    if (augment.randAugment !== undefined) wrong("data.augment.randAugment", only);
    if (augment.colorJitter) wrong("data.augment.colorJitter", only);
  }
  if (train.loss.base !== "bce" && train.loss.targetThreshold !== undefined)
    wrong("train.loss.targetThreshold", "has no effect on cross-entropy: set train.loss.base=bce, or leave it out");

  const { init, teacher, objective, optimizer } = train;
  if (optimizer.lr !== undefined && optimizer.blr !== undefined)
    wrong("train.optimizer.blr", "and train.optimizer.lr are two names of one rate: leave one out");
  for (const [path, given] of [
    ["train.init", init],
    ["train.teacher", teacher],
  ] as const) {
    if (given?.run !== undefined && given.key !== undefined)
      wrong(`${path}.key`, "has no effect: it is for a file (weights). Leave it out");
    if (given?.weights !== undefined && given.which !== "final")
      wrong(`${path}.which`, "has no effect: it is for a run's folder (run). Leave it out");
  }
  if (teacher) {
    const run = teacher.run !== undefined;
    if (run && teacher.model !== undefined)
      wrong("train.teacher.model", "has no effect: the model is that of train.teacher.run. Leave it out");
    if (run && Object.keys(teacher.config).length)
      wrong("train.teacher.config", "has no effect: the model is that of train.teacher.run. Leave it out");
    if (!run && teacher.model === undefined) wrong("train.teacher.model", "is missing: weights of a file need the model that they are of");
    if (teacher.kind === "hard" && teacher.tau !== 1)
      wrong("train.teacher.tau", "has no effect on a hard teacher: set train.teacher.kind=soft");
  }
  if (objective !== undefined) {
    const none = `has no effect: train.objective=${objective} does not look at labels. Leave it out`;
    if (teacher) wrong("train.teacher", none);
    if (train.labelSmoothing > 0) wrong("train.labelSmoothing", none);
    if (train.loss.base !== "ce") wrong("train.loss.base", none);
    if (train.loss.tet) wrong("train.loss.tet", none);
  }

  const { schedule, epochs } = train;
  const short = `in a run of ${epochs} epoch${epochs > 1 ? "s" : ""} (train.epochs)`;
  const { mix } = augment;
  if (mix?.offEpoch !== undefined && mix.offEpoch >= total)
    warn("data.augment.mix.offEpoch", `= ${mix.offEpoch} is never reached ${short}: images are mixed to the end`);
  if (schedule.warmupEpochs >= epochs)
    warn(
      "train.schedule.warmupEpochs",
      `= ${schedule.warmupEpochs} never ends ${short}: the rate only rises, and the ${schedule.name} schedule does not begin`,
    );
  if (schedule.warmupLr > 0 && schedule.warmupEpochs === 0)
    warn("train.schedule.warmupLr", "has no effect without train.schedule.warmupEpochs");
  if (schedule.name === "step" && schedule.decayEpochs >= epochs)
    warn("train.schedule.decayEpochs", `= ${schedule.decayEpochs} is never reached ${short}: the rate does not fall`);
  if (schedule.name === "multistep") {
    const beyond = schedule.milestones.filter((at) => at >= epochs);
    if (beyond.length)
      warn(
        "train.schedule.milestones",
        `= [${schedule.milestones.join(", ")}]: ${beyond.join(" and ")} ${beyond.length > 1 ? "are" : "is"} never reached ${short}`,
      );
  }
  return found;
}
