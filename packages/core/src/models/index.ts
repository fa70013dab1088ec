/** Published models: the `models` namespace. */
export * from "./official.ts";
export * from "./registry.ts";
export * as sdtV1 from "./sdt-v1/index.ts";
export * from "./state.ts";
export * from "./system.ts";
