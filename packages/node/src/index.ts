/** What a program may use of the Node side: recipes, files, data on disk, reports, the native addon, and the command itself. */
export { addonIsas, addonTarget, buildAddon, findAddon } from "./addon.ts";
export { type ImageSplits, loadMnist } from "./datasets/mnist.ts";
export { diskError, readFileChecked, writeFileAtomic } from "./files.ts";
export { main } from "./program.ts";
export { createProgress, type Progress, type ProgressOptions } from "./progress.ts";
export { durationSeconds, type KnownNames, loadRecipe, parseRecipe, type Recipe, recipeSchema, recipeToYaml } from "./recipe.ts";
export { renderReport } from "./report.ts";
export * from "./report-data.ts";
