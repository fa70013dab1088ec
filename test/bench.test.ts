/** The benchmark's pure parts: agreement of two sides, firing rule, medians, limits, curves and their crossings, the input files. Nothing is timed. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { init, Tensor } from "spikeloom";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CASES, floorOf, oneOf, type Spec } from "../bench/cases.ts";
import { Inputs, writeInputs } from "../bench/inputs.ts";
import { checkOptions, HELP, IGNORED, OPTIONS } from "../bench/options.ts";
import {
  alike,
  bestSetting,
  type Column,
  checkOf,
  difference,
  type Figures,
  figures,
  markdown,
  median,
  type Report,
  ratio,
} from "../bench/report.ts";
import { crossings, exponent, plot, tick, ticks } from "../bench/svg.ts";
import { inside, type Limits, limit, neuronForward, productForward, productGradInput } from "../bench/work.ts";
import { workloads } from "../bench/workloads.ts";
import { VARIABLES } from "../packages/node/src/variables.ts";

const machine: Limits = {
  isa: "test",
  threads: 1,
  flops: 100,
  adds: 50,
  bandwidth: [
    { mib: 1, read: 100, write: 50 },
    { mib: 64, read: 10, write: 5 },
  ],
};

const figuresOf = (ms: number, rate?: number): Figures => ({
  ms,
  min: ms,
  samples: [[ms]],
  extra: { peak_rss_mb: 100, ...(rate === undefined ? {} : { firing_rate: rate, params: 5, batch: 2 }) },
  check: { rms: 1, samples: [1] },
});

describe("agreement", () => {
  it("chooses the same places of a result in either axis order", () => {
    const [n, c, h] = [3, 5, 7];
    const official = Float32Array.from({ length: n * c * h }, (_, i) => Math.sin(i));
    // [n, c, h] -> [n, h, c]
    const mine = new Float32Array(official.length);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < c; j++) for (let k = 0; k < h; k++) mine[(i * h + k) * c + j] = official[(i * c + j) * h + k] as number;
    const theirs = checkOf(official, [n, c, h]);
    expect(difference(checkOf(mine, [n, h, c], [0, 2, 1]), theirs)).toBeLessThan(1e-15);
    expect(difference(checkOf(mine, [n, h, c]), theirs)).toBeGreaterThan(0.1);
  });

  it("counts rates within 10 %", () => {
    expect(alike(0.074, 0.068)).toBe(true);
    expect(alike(0.074, 0.065)).toBe(false);
    expect(alike(0, 0)).toBe(true);
  });
});

describe("report", () => {
  const column: Column = { name: "avx512 2t", device: "native", isa: "avx512", threads: 2 };

  it("takes the median of the rounds' medians and the fastest run", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    const row = (ms: number[], rss: number) => ({ name: "w", ms, extra: { peak_rss_mb: rss }, check: { rms: 1, samples: [] } });
    const found = figures([row([5, 1, 3], 10), row([9, 8, 7], 30), row([4, 4, 4], 20)]);
    expect([found.ms, found.min, found.extra.peak_rss_mb]).toEqual([4, 1, 30]);
  });

  it("holds a ratio back where the sides do not fire alike, or had other threads", () => {
    const result = (a: number, b: number, threads: number) => ({
      name: "train-sdt-2-256",
      ours: { "avx512 2t": figuresOf(10, a) },
      peers: { [`pytorch ${threads}`]: figuresOf(30, b) },
      work: [],
    });
    expect(ratio(result(0.07, 0.071, 2), column)).toBe(3);
    expect(ratio(result(0.07, 0.09, 2), column)).toBeUndefined();
    expect(ratio(result(0.07, 0.07, 1), column)).toBeUndefined();
  });

  it("takes the peer's fastest setting and names it", () => {
    const best = bestSetting(
      new Map([
        ["eager", figuresOf(3)],
        ["channels_last", figuresOf(2)],
      ]),
    );
    expect([best.setting, best.ms, best.settings]).toEqual(["channels_last", 2, { channels_last: 2, eager: 3 }]);
  });

  it("writes every table, marks what is below its aim, and copes without a peer", () => {
    const report = (peers: Record<string, Figures>): Report => ({
      date: "2026-01-02",
      command: "npm run bench",
      machine: { cpu: "CPU", cores: 2, memoryGiB: 8, platform: "linux x64", isas: ["avx512"], loadBefore: [0, 0, 0], loadAfter: [1, 1, 1] },
      versions: { node: "20", peer: null },
      columns: [column],
      limits: { "avx512 2t": machine },
      rounds: 1,
      repeat: 1,
      shared: false,
      notes: ["a note"],
      results: [{ name: "train-sdt-2-256", ours: { "avx512 2t": figuresOf(10, 0.07) }, peers, work: [neuronForward(1e6)] }],
    });
    const text = markdown(report({ "pytorch 2": { ...figuresOf(20, 0.07), setting: "compile" } }));
    expect(text).toContain("10.0 (2.00x !)");
    expect(text).toContain("20.0 compile");
    expect(text).toMatch(/\d+ % memory/);
    expect(text).toContain("100 (1/1.0)");
    // One process ran everything: there is no peak of a model alone, and no column for it.
    const quick = markdown({ ...report({ "pytorch 2": figuresOf(20, 0.07) }), shared: true });
    expect(quick).not.toContain("peak RSS");
    const [head, rule, row] = quick.split("\n").slice(quick.split("\n").findIndex((line) => line.startsWith("| model")));
    expect([head, rule, row].map((line) => line?.split("|").length)).toEqual([9, 9, 9]);
    expect(text).toContain("a note");
    expect(markdown(report({}))).not.toContain("x !");
  });

  it("knows its aims and its names", () => {
    expect(floorOf("conv3x3-64-d0.15-forward", "native")).toBe(4);
    expect(floorOf("lif-forward-backward", "wasm")).toBe(2);
    expect(floorOf("conv3x3-64-d0.3-forward", "native")).toBeUndefined();
    expect(() => oneOf("--only", "conv3x", Object.keys(CASES))).toThrow(/did you mean "conv3x3"/);
  });
});

describe("options", () => {
  it("that would do nothing are refused, with those that apply", () => {
    for (const fine of [
      {},
      { isa: "avx2", only: ["train-sdt"], rounds: "1", peer: "none", save: true },
      { sweep: "density", device: "wasm", threads: "1", repeat: "3", quick: true, save: true, out: "a" },
      { profile: "train-sdt", device: "native", threads: "2", repeat: "3" },
      { device: "native,wasm", isa: "avx2" },
    ])
      expect(() => checkOptions(fine)).not.toThrow();
    expect(() => checkOptions({ sweep: "density", isa: "avx2", only: ["x"], rounds: "2", peer: "none" })).toThrow(
      "--sweep takes --device, --threads, --repeat, --quick, --save, --out; found also --isa, --only, --rounds, --peer, which would do nothing: leave them out",
    );
    expect(() => checkOptions({ profile: "train-sdt", save: true, settings: "eager" })).toThrow(
      /^--profile takes --device, --threads, --repeat; found also --save, --settings, /,
    );
    expect(() => checkOptions({ profile: "train-sdt", sweep: "density" })).toThrow("found also --sweep");
    expect(() => checkOptions({ sweep: "density", threads: "1,2" })).toThrow(
      "--sweep runs with one number of threads, found --threads 1,2",
    );
    expect(() => checkOptions({ isa: "avx2", device: "wasm" })).toThrow("--isa chooses instruction sets of the native device");
    expect(() => checkOptions({ settings: "eager", peer: "none" })).toThrow("--settings are the peer's");
  });

  it("are all in the help; the variables that force something are all ignored, and the README names them", () => {
    for (const name of Object.keys(OPTIONS)) if (name !== "help") expect(HELP).toMatch(new RegExp(`^ {2}--${name} `, "m"));
    const forcing = Object.keys(VARIABLES).filter((name) => !/_(NATIVE|DEBUG)$/.test(name));
    expect([...IGNORED].sort()).toEqual(forcing.sort());
    const readme = readFileSync(new URL("../bench/README.md", import.meta.url), "utf8");
    for (const name of IGNORED) expect(readme).toContain(name);
  });
});

describe("limits", () => {
  it("counts the window positions inside an image", () => {
    expect(inside(8, 1)).toBe(1);
    // 3 positions in the middle, 2 at either end: 22 of 24 along an axis.
    expect(inside(8, 3)).toBeCloseTo((22 / 24) ** 2, 12);
  });

  it("lets the slower of moving and computing bind a pass, and adds passes", () => {
    const product = { inputs: 1000, outputs: 1000, weights: 1000, pairs: 1e9, density: 0.1 };
    expect(limit([productForward(product)], machine)).toEqual({ ms: 2, binding: "additions" });
    const both = limit([productForward(product), productGradInput(product)], machine);
    expect(both).toEqual({ ms: 22, binding: "multiply-adds" });
    // 40 MB read at 10 GB/s, 1.25 MB written at 5.
    const neuron = limit([neuronForward(1e7)], machine);
    expect(neuron.binding).toBe("memory");
    expect(neuron.ms).toBeCloseTo(4.25, 9);
  });
});

describe("plots", () => {
  it("finds where curves cross on logarithmic axes, and no more", () => {
    const rising = { label: "a", x: [1, 10, 100], y: [1, 10, 100] };
    const flat = { label: "b", x: [1, 10, 100], y: [30, 30, 30] };
    const [point, ...others] = crossings(rising, flat);
    expect(others).toEqual([]);
    expect(point?.x).toBeCloseTo(30, 9);
    expect(point?.y).toBeCloseTo(30, 9);
    expect(crossings(flat, { ...flat, y: [1, 2, 3] })).toEqual([]);
    expect(crossings(flat, flat)).toEqual([]);
    // A point on the other curve is one crossing, not two.
    expect(crossings(rising, { ...flat, y: [10, 10, 10] })).toHaveLength(1);
  });

  it("gives the exponent of a power", () => {
    const x = [1, 2, 4, 8];
    expect(exponent({ label: "", x, y: x.map((v) => 3 * v ** 1.5) })).toBeCloseTo(1.5, 12);
  });

  it("draws every series and mark, and escapes words", () => {
    const series = [
      { label: "a < b", x: [0.1, 1, 100], y: [1, 2, 3] },
      { label: "chosen", x: [0.1, 100], y: [2, 2], broken: true },
    ];
    const svg = plot("title", [{ title: "one & two", x: "x", y: "ms", series, marks: [{ x: 1, y: 2, text: "1 %" }] }], 1);
    expect(svg.match(/<polyline/g)).toHaveLength(2);
    expect(svg).toContain("a &#60; b");
    expect(svg).toContain("one &#38; two");
    expect(svg).toContain("1 %");
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
    expect(ticks(0.9, 12)).toEqual([1, 2, 5, 10]);
    expect([tick(0.1), tick(5), tick(2000)]).toEqual(["0.1", "5", "2k"]);
  });
});

describe("workloads", () => {
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "spikeloom-bench-test-"));
    await init({ device: "wasm", threads: 1, seed: 3 });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const small: Spec[] = [
    { kind: "conv", name: "conv", images: 2, ci: 8, co: 8, size: 4, kernel: 3, groups: 1, density: 0.2 },
    { kind: "conv", name: "depthwise", images: 2, ci: 8, co: 8, size: 8, kernel: 7, groups: 8, density: 0.2 },
    { kind: "linear", name: "linear", tokens: 6, ci: 8, co: 4, density: 0.3 },
    { kind: "lif", name: "lif", steps: 3, batch: 2, channels: 8, size: 4 },
    { kind: "lif-layer", name: "layer", steps: 5, batch: 2, features: 8, density: null },
    { kind: "lif-layer", name: "layer of spikes", steps: 5, batch: 2, features: 8, density: 0.4 },
    { kind: "train", name: "train", model: "sdt-v1/cifar10-2-256", batch: 1 },
  ];

  it.each(small)("$name: what is written is read and runs", (spec) => {
    const path = join(folder, `${spec.name}.safetensors`);
    writeInputs(spec, path);
    const inputs = new Inputs(path);
    expect(inputs.spec).toEqual(spec);
    expect(inputs.take("x")).toBeInstanceOf(Tensor);
    let count = 0;
    for (const { run, check, work, name, extra } of workloads(new Inputs(path))) {
      count++;
      expect(name.startsWith(spec.name)).toBe(true);
      expect(check.samples.every(Number.isFinite)).toBe(true);
      expect(check.rms).toBeGreaterThan(0);
      expect(limit(work, machine).ms).toBeGreaterThan(0);
      if (extra.firing_rate !== undefined) expect(extra.firing_rate).toBeGreaterThan(0);
      run();
      run();
    }
    expect(count).toBe({ conv: 3, linear: 3, lif: 2, "lif-layer": 1, train: 1, infer: 1 }[spec.kind]);
  });
});
