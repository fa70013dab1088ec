/** Training and evaluation: the `train` namespace. */
export * from "./evaluate.ts";
export * from "./losses.ts";
export * from "./trainer.ts";
