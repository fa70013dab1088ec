/** What the peers in JavaScript share: the command line, the numbers of the LIF layer task, and the lines that they answer in. */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { formats, safetensors } from "spikeloom";
import type { LayerSpec } from "../cases.ts";
import { checkOf } from "../report.ts";
import { timed } from "../timed.ts";

/** Linear(features, features) and a LIF over all steps: x, gy [steps, batch, features], weight [out, in] as PyTorch has it, bias [out]. */
export interface LayerTask {
  spec: LayerSpec;
  x: Float32Array;
  gy: Float32Array;
  weight: Float32Array;
  bias: Float32Array;
}

/** A library's way to do it. */
export interface Layer {
  /** Forward, and the gradients of weight and bias, once; frees what it makes. */
  run(): void;
  /** Mean of the spikes, and the gradient of the weight in PyTorch's order. */
  result(): { rate: number; gradient: ArrayLike<number> };
}

/** Runs the task of each file on a library and prints what it gave. */
export async function runLayer(library: string, version: string, make: (task: LayerTask) => Layer | Promise<Layer>): Promise<void> {
  const options = { repeat: { type: "string" }, seconds: { type: "string" } } as const;
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  console.log(JSON.stringify({ library, version }));
  for (const file of positionals) {
    const { tensors, metadata } = safetensors.decode(readFileSync(file));
    const spec = JSON.parse(metadata.spec as string) as LayerSpec;
    const take = (name: string) => formats.toFloat32(tensors.get(name) as formats.NdArray);
    const layer = await make({ spec, x: take("x"), gy: take("gy"), weight: take("weight"), bias: take("bias") });
    const { rate, gradient } = layer.result();
    const ms = timed(() => layer.run(), Number(values.repeat), Number(values.seconds));
    const extra = { firing_rate: rate, peak_rss_mb: process.resourceUsage().maxRSS / 1024 };
    console.log(JSON.stringify({ name: spec.name, ms, extra, check: checkOf(gradient, [spec.features, spec.features]) }));
  }
  process.exit(0);
}

/** A package of this folder, and its version. Not in the types of this project: it is there only where somebody wants the comparison. */
// biome-ignore lint/suspicious/noExplicitAny: another library's interface
export async function load(name: string): Promise<{ module: any; version: string }> {
  try {
    const { version } = JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), "utf8")) as {
      version: string;
    };
    return { module: await import(name), version };
  } catch (error) {
    throw new Error(`${name} is not installed (${(error as Error).message.split("\n")[0]}): npm ci --prefix bench/peers`);
  }
}
