/**
 * What reference kernels receive: the arguments of the kernel table with each pointer as a typed array. `POINTERS` names the
 * pointers that are not plain f32; the types below follow from it, and so does the harness that tests every device.
 */
import type { TypedArray } from "../device.ts";
import type { KERNELS, KernelName } from "../kernel-table.ts";

type PointerName = { [K in KernelName]: { [A in keyof (typeof KERNELS)[K]]: `${K}.${A & string}` }[keyof (typeof KERNELS)[K]] }[KernelName];

/** Element type of a pointer, `any` where another argument says it; `?` marks a pointer that may be null. */
type PointerKind = "i32" | "u8" | "u32" | "any" | "f32?" | "i32?" | "u8?" | "u32?";

export const POINTERS = {
  "compare.a": "any",
  "compare.b": "any",
  "compare.y": "u8",
  "logical.a": "u8",
  "logical.b": "u8?",
  "logical.y": "u8",
  "where.cond": "u8",
  "cast.x": "any",
  "cast.y": "any",
  "copy_strided.x": "any",
  "copy_strided.y": "any",
  "index_select.x": "any",
  "index_select.index": "i32",
  "index_select.y": "any",
  "index_add.index": "i32",
  "gather.index": "i32",
  "scatter_add.index": "i32",
  "argreduce.y": "i32",
  "sort.index": "i32",
  "gemm.bias": "f32?",
  "conv2d.bias": "f32?",
  "dwconv2d.bias": "f32?",
  "spike_dwconv2d.x": "u32",
  "spike_dwconv2d.bias": "f32?",
  "spike_dwconv2d_grad_weight.x": "u32",
  "spike_conv2d.x": "u32",
  "spike_conv2d.bias": "f32?",
  "spike_conv2d_table.x": "u32",
  "spike_conv2d_table.bias": "f32?",
  "spike_conv2d_grad_weight.x": "u32",
  "spike_pack.y": "u32",
  "spike_unpack.x": "u32",
  "spike_and.a": "u32",
  "spike_and.b": "u32",
  "spike_and.y": "u32",
  "spike_and_rows.a": "u32",
  "spike_and_rows.mask": "u32",
  "spike_and_rows.y": "u32",
  "spike_count_rows.x": "u32",
  "spike_mask.x": "u32",
  "spike_mask_reduce.x": "u32",
  "spike_stats.x": "u32",
  "spike_steps.x": "u32",
  "spike_steps.y": "u32",
  "spike_levels.x": "u32",
  "spike_levels.y": "u32",
  "spike_matmul.x": "u32",
  "maxpool2d.index": "i32?",
  "maxpool2d_grad.index": "i32",
  "spike_maxpool2d.x": "u32",
  "spike_maxpool2d.y": "u32",
  "spike_maxpool2d_grad.x": "u32",
  "bn_coefficients.gamma": "f32?",
  "bn_coefficients.beta": "f32?",
  "bn_coefficients.runningMean": "f32?",
  "bn_coefficients.runningVar": "f32?",
  "bn_grad_coefficients.gamma": "f32?",
  "bn_grad_coefficients.ggamma": "f32?",
  "bn_grad_coefficients.gbeta": "f32?",
  "layernorm.gamma": "f32?",
  "layernorm.beta": "f32?",
  "layernorm_grad.gamma": "f32?",
  "layernorm_grad.partial": "f32?",
  "groupnorm.gamma": "f32?",
  "groupnorm.beta": "f32?",
  "groupnorm_grad.gamma": "f32?",
  "spike_bernoulli.y": "u32",
  "sgd.buf": "f32?",
  "neuron_forward.scale": "f32?",
  "neuron_forward.shift": "f32?",
  "neuron_forward.rtau": "f32?",
  "neuron_forward.alpha": "f32?",
  "neuron_forward.v0": "f32?",
  "neuron_forward.v": "f32?",
  "neuron_forward.h": "f32?",
  "neuron_forward.spikes": "u32",
  "neuron_backward.scale": "f32?",
  "neuron_backward.shift": "f32?",
  "neuron_backward.rtau": "f32?",
  "neuron_backward.alpha": "f32?",
  "neuron_backward.v0": "f32?",
  "neuron_backward.gv": "f32?",
  "neuron_backward.gv0": "f32?",
  "neuron_backward.gr": "f32?",
  "neuron_backward.galpha": "f32?",
  "neuron_backward.mean": "f32?",
  "neuron_backward.rstd": "f32?",
  "neuron_backward.stats": "f32?",
  "neuron_backward.constants": "f32?",
  "neuron_backward.program": "i32?",
  "neuron_vm_forward.scale": "f32?",
  "neuron_vm_forward.shift": "f32?",
  "neuron_vm_forward.params": "f32?",
  "neuron_vm_forward.s0": "f32?",
  "neuron_vm_forward.s1": "f32?",
  "neuron_vm_forward.constants": "f32?",
  "neuron_vm_forward.spikes": "u32",
  "neuron_vm_forward.program": "i32",
  "neuron_vm_backward.scale": "f32?",
  "neuron_vm_backward.shift": "f32?",
  "neuron_vm_backward.params": "f32?",
  "neuron_vm_backward.s0": "f32?",
  "neuron_vm_backward.gs1": "f32?",
  "neuron_vm_backward.gs0": "f32?",
  "neuron_vm_backward.gparams": "f32?",
  "neuron_vm_backward.mean": "f32?",
  "neuron_vm_backward.rstd": "f32?",
  "neuron_vm_backward.stats": "f32?",
  "neuron_vm_backward.constants": "f32?",
  "neuron_vm_backward.gradConstants": "f32?",
  "neuron_vm_backward.program": "i32",
  "neuron_vm_backward.gradProgram": "i32",
} as const satisfies Partial<Record<PointerName, PointerKind>>;

type ArrayOf = { f32: Float64Array; i32: Int32Array; u8: Uint8Array; u32: Uint32Array; any: TypedArray };
type Pointer<Kind> = Kind extends `${infer E extends keyof ArrayOf}?`
  ? ArrayOf[E] | null
  : Kind extends keyof ArrayOf
    ? ArrayOf[Kind]
    : never;

/** Arguments of kernel K: typed arrays (f32 is float64 here) and numbers. */
export type ReferenceArgs<K extends KernelName> = {
  readonly [A in keyof (typeof KERNELS)[K]]: (typeof KERNELS)[K][A] extends "p"
    ? `${K}.${A & string}` extends keyof typeof POINTERS
      ? Pointer<(typeof POINTERS)[`${K}.${A & string}`]>
      : Float64Array
    : number;
};

/** Functions for some of the kernels. */
export type ReferenceKernels<K extends KernelName> = { readonly [Name in K]: (args: ReferenceArgs<Name>) => void };
