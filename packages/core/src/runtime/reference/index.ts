/** The reference device's kernels, one for each entry of the kernel table: naive float64 loops, written to be read. */
import type { KernelName } from "../kernel-table.ts";
import type { ReferenceKernels } from "./args.ts";
import { elementwise } from "./elementwise.ts";
import { layout } from "./layout.ts";
import { neuron } from "./neuron.ts";
import { norm } from "./norm.ts";
import { optim } from "./optim.ts";
import { pooling } from "./pooling.ts";
import { products } from "./products.ts";
import { random } from "./random.ts";
import { reduce } from "./reduce.ts";
import { spikes } from "./spikes.ts";
import { winograd } from "./winograd.ts";

export type { ReferenceArgs } from "./args.ts";

export const referenceKernels: ReferenceKernels<KernelName> = {
  ...elementwise,
  ...layout,
  ...reduce,
  ...products,
  ...winograd,
  ...spikes,
  ...pooling,
  ...norm,
  ...random,
  ...neuron,
  ...optim,
};
