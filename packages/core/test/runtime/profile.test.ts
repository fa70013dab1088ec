// The kernel profile: it counts what ran, names shapes, and leaves the device as it was.
import { beforeAll, describe, expect, it } from "vitest";
import { init, measure, nn, noGrad, rand, scope, snn, zeros } from "../../src/index.ts";
import { KERNELS } from "../../src/runtime/kernel-table.ts";

beforeAll(async () => {
  await init({ device: "reference" });
});

const product = () =>
  scope(() =>
    zeros([3, 4])
      .matmul(zeros([4, 5]))
      .add(1)
      .dataSync(),
  );

describe("measure.profileKernels", () => {
  it("counts calls by kernel and shape and hands on the result", () => {
    const { result, kernels, ms } = measure.profileKernels(() => [product(), product()]);
    expect(result.map((values) => [...values])).toEqual([Array(15).fill(1), Array(15).fill(1)]);
    const gemm = kernels.find((k) => k.kernel === "gemm");
    expect(gemm).toMatchObject({ calls: 2, shape: "batch 1, n 5, m 3, k 4" });
    expect(kernels.filter((k) => k.kernel === "fill").map((k) => [k.shape, k.calls])).toContainEqual(["n 20", 2]);
    const parts = kernels.reduce((sum, k) => sum + k.share, 0);
    expect(parts).toBeGreaterThan(0);
    expect(parts).toBeLessThanOrEqual(1);
    expect(kernels.map((k) => k.ms)).toEqual(kernels.map((k) => k.ms).sort((a, b) => b - a));
    expect(ms).toBeGreaterThan(0);
  });

  it("names the function of element-wise kernels and the window of convolutions", () => {
    const { kernels } = measure.profileKernels(() =>
      scope(() => {
        nn.conv2d(zeros([2, 6, 6, 3]), zeros([3, 3, 3, 8]), null, { stride: 2 });
        zeros([7]).exp();
      }),
    );
    expect(kernels.find((k) => k.kernel === "conv2d")?.shape).toBe("2x6x6x3 -> 2x2x8, 3x3");
    expect(kernels.find((k) => k.kernel === "unary.exp")?.shape).toBe("n 7");
  });

  it("can be nested, and stops when the work fails or waits", () => {
    const outer = measure.profileKernels(() => measure.profileKernels(product).kernels);
    expect(outer.kernels.map((k) => k.kernel).sort()).toEqual(outer.result.map((k) => k.kernel).sort());

    let calls = 0;
    const failing = () => {
      product();
      calls++;
      throw new Error("stop here");
    };
    const { kernels } = measure.profileKernels(() => {
      expect(() => measure.profileKernels(failing)).toThrow("stop here");
    });
    expect(calls).toBe(1);
    expect(kernels.find((k) => k.kernel === "gemm")?.calls).toBe(1);
    expect(() => measure.profileKernels(async () => {})).toThrow(/must be synchronous/);
  });
});

interface Bar {
  name: string;
  cat: string;
  ph: string;
  ts: number;
  dur: number;
  pid: number;
  tid: number;
  args: { shape: string; bytes: number; spikes?: number; implementation?: string; kernels?: number };
}

/** Neurons, then a convolution of their spikes and its gradients. */
function layer(): { values: number[]; spikes: number } {
  return scope(() => {
    const x = rand([2, 2, 16, 16, 32]);
    const w = zeros([3, 3, 32, 32]).add(0.1);
    w.requiresGrad = true;
    const s = new snn.LIF().forward(x.mul(2.4)); // spikes too few for tables
    const y = nn.conv2d(s.reshape([4, 16, 16, 32]), w, null, { padding: 1 });
    y.square().mean().backward();
    return { values: noGrad(() => [...(y.dataSync() as Float32Array), ...(w.grad?.dataSync() ?? [])]), spikes: snn.spikeStats(s).sum };
  });
}

describe("measure.traceKernels", () => {
  const trace = async (threads: number) => {
    await init({ device: "wasm", threads, seed: 1 });
    const { result, recorder } = measure.traceKernels(layer);
    return { result, recorder, json: JSON.parse(recorder.trace({ isa: "simd128" })) as { traceEvents: Bar[]; otherData: unknown } };
  };

  it("is a trace whose bars are named after kernels, in order and within their stretch, with bytes and spikes", async () => {
    const { result, recorder, json } = await trace(1);
    expect(json.otherData).toEqual({ isa: "simd128" });
    const bars = json.traceEvents.filter((e) => e.ph === "X");
    expect(json.traceEvents.filter((e) => e.ph !== "X").map((e) => e.ph)).toEqual(["M", "M"]);
    const [work, ...calls] = bars as [Bar, ...Bar[]];
    expect(work).toMatchObject({ name: "work", cat: "step", args: { kernels: calls.length } });
    let at = work.ts;
    for (const { name, cat, ts, dur, pid, tid, args } of calls) {
      expect(Object.keys(KERNELS)).toContain(name.split(".")[0]);
      expect({ cat, pid, tid }).toEqual({ cat: "kernel", pid: work.pid, tid: work.tid });
      expect(ts).toBeGreaterThanOrEqual(at - 0.002);
      expect(dur).toBeGreaterThanOrEqual(0);
      expect(args.bytes).toBeGreaterThan(0);
      at = ts + dur;
    }
    expect(at).toBeLessThanOrEqual(work.ts + work.dur + 0.002);
    const conv = calls.find((c) => c.name === "spike_conv2d");
    expect(conv?.args).toEqual({
      shape: "4x16x16x32 -> 16x16x32, 3x3",
      implementation: "spikeProduct=event",
      bytes: 4 * (4 * 256 + 9 * 32 * 32 + 4 * 256 * 32),
      spikes: result.spikes,
    });
    expect(calls.find((c) => c.name === "spike_conv2d_grad_weight")?.args.implementation).toBe("spikeProductGradWeight=event");
    expect(calls.find((c) => c.name === "neuron_forward")?.args.spikes).toBe(result.spikes);
    const { kernels, ms } = recorder.summary();
    expect(kernels.reduce((sum, k) => sum + k.calls, 0)).toBe(calls.length);
    expect(kernels.find((k) => k.kernel === "spike_conv2d")).toMatchObject({ calls: 1, bytes: conv?.args.bytes });
    expect(ms).toBeCloseTo(work.dur / 1000, 3);
  });

  it("differs between numbers of threads in times only, and changes no result", async () => {
    const one = await trace(1);
    const three = await trace(3);
    const timeless = (events: Bar[]) => events.map(({ ts, dur, ...rest }) => rest);
    expect(timeless(three.json.traceEvents)).toEqual(timeless(one.json.traceEvents));
    await init({ device: "wasm", threads: 1, seed: 1 });
    expect(layer()).toEqual(one.result);
  });

  it("names a dense product by what chose it, not what prepares it", async () => {
    await init({ device: "wasm", threads: 1, seed: 1, implementations: { spikeProduct: "dense", spikeProductGradWeight: "dense" } });
    const { recorder } = measure.traceKernels(layer);
    const chosen = recorder.spans[0]?.calls.filter((c) => c.implementation).map((c) => `${c.kernel} ${c.implementation}`);
    expect(chosen).toEqual(["conv2d spikeProduct=dense", "conv2d_grad_weight spikeProductGradWeight=dense"]);
  });
});

describe("measure.KernelRecorder", () => {
  it("records stretches that may wait, forgets those without a name, and leaves the device alone in between", async () => {
    await init({ device: "reference" });
    const recorder = new measure.KernelRecorder();
    recorder.stop("nothing began");
    recorder.start();
    expect(() => recorder.start()).toThrow(/twice/);
    product();
    await Promise.resolve();
    product();
    recorder.stop("first");
    product();
    recorder.start();
    product();
    recorder.stop();
    recorder.start();
    recorder.stop("empty");
    expect(recorder.spans.map((s) => [s.name, s.calls.filter((c) => c.kernel === "gemm").length])).toEqual([
      ["first", 2],
      ["empty", 0],
    ]);
    expect(() => new measure.KernelRecorder({ spikes: true } as never)).toThrow(/countSpikes/);
    expect(() => measure.traceKernels(3 as never)).toThrow(/work must be a function, found 3/);
  });
});
