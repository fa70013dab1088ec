/** Optimisers, gradient clipping, averages of weights, and learning-rate schedules. */
export * from "./adamw.ts";
export * from "./ema.ts";
export * from "./lamb.ts";
export * from "./optimizer.ts";
export * from "./schedule.ts";
export type { Given } from "./settings.ts";
export * from "./sgd.ts";
