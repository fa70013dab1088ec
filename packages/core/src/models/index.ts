/** Published models: the `models` namespace. */
export * as caformer from "./caformer/index.ts";
export * from "./official.ts";
export * from "./registry.ts";
export * as sdtV1 from "./sdt-v1/index.ts";
export * as sdtV2 from "./sdt-v2/index.ts";
export * as sdtV3 from "./sdt-v3/index.ts";
export * from "./system.ts";
