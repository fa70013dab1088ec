/** Training and evaluation: the `train` namespace. */
export * from "./estimate.ts";
export * from "./evaluate.ts";
export * from "./losses.ts";
export * from "./objective.ts";
export * from "./trainer.ts";
