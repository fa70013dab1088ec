/** The command line: what reaches the commands, help, and how errors are told. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FormatError, SpikeloomError } from "spikeloom";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type CommandLoaders, main } from "../src/program.ts";
import { unknownVariable, VARIABLES } from "../src/variables.ts";

const NAMES = ["train", "eval", "measure", "models", "check", "run", "info", "native"] as const;

async function spikeloom(args: string[], body: () => Promise<unknown> = async () => undefined) {
  const calls: [string, unknown][] = [];
  let out = "";
  let err = "";
  const commands = Object.fromEntries(
    NAMES.map((name) => [
      name,
      async () => ({
        run: (options: unknown) => {
          calls.push([name, options]);
          return body();
        },
      }),
    ]),
  ) as unknown as CommandLoaders;
  const code = await main(args, { commands, out: (text) => (out += text), err: (text) => (err += text) });
  return { code, out, err, calls };
}

afterEach(() => vi.unstubAllEnvs());

describe("options", () => {
  it.each([
    [
      "train r.yml --set a.b=1 --set c=x=y --out dir --device wasm --threads 2 --seed 0 --save-every 30s --json",
      "train",
      { recipe: "r.yml", set: ["a.b=1", "c=x=y"], out: "dir", device: "wasm", threads: 2, seed: 0, saveEvery: "30s", json: true },
    ],
    ["train --resume runs/a", "train", { recipe: undefined, resume: "runs/a" }],
    ["eval runs/a --mode spikes", "eval", { run: "runs/a", mode: "spikes" }],
    [
      "check sdt-v1/cifar10-2-256 --size 64x48 --mode integer --strict",
      "check",
      { model: "sdt-v1/cifar10-2-256", size: [64, 48], mode: "integer", strict: true },
    ],
    ["eval runs/a --set data.dir=x", "eval", { run: "runs/a", set: ["data.dir=x"] }],
    ["measure runs/a --images 100 --first-layer once", "measure", { run: "runs/a", images: 100, firstLayer: "once" }],
    [
      "measure runs/a --preset sdt:qkvRate=input --preset memory --csv -",
      "measure",
      { run: "runs/a", preset: ["sdt:qkvRate=input", "memory"], csv: "-" },
    ],
    ["models", "models", { name: undefined }],
    ["models sdt-v1/mnist --json", "models", { name: "sdt-v1/mnist", json: true }],
    [
      'run --model sdt-v1 --config {"T":4} --weights w.npz --input x.npy --output y.npz --taps --device reference',
      "run",
      { model: "sdt-v1", config: { T: 4 }, weights: "w.npz", input: "x.npy", output: "y.npz", taps: true, device: "reference" },
    ],
    ["info --threads 1", "info", { threads: 1 }],
    ["native build --output a.node", "native", { output: "a.node" }],
  ])("%s", async (line, command, options) => {
    expect(await spikeloom(line.split(" "))).toMatchObject({ code: 0, err: "", calls: [[command, options]] });
  });

  it.each([
    ["train r.yml --threads two", "option '--threads <n>' argument 'two' is invalid. Expected a whole number from 1 to 256."],
    ["train r.yml --threads 0", "Expected a whole number from 1 to 256."],
    ["train r.yml --seed -1", "Expected a whole number >= 0."],
    ["train r.yml --seed 1.5", "Expected a whole number >= 0."],
    ["train r.yml --device gpu", "Allowed choices are auto, native, wasm, reference."],
    ["train r.yml --save-every soon", "Expected minutes, or a time such as 30s, 5m or 1h."],
    ["train r.yml --resum x", "unknown option '--resum'\n(Did you mean --resume?)"],
    ["trian r.yml", "unknown command 'trian'\n(Did you mean train?)"],
    ["native biuld", "unknown command 'biuld'\n(Did you mean build?)"],
    ["eval", "missing required argument 'run'"],
    ["eval runs/a --mode integers", "Allowed choices are integer, spikes."],
    ["check a/b --size 64", "Expected height and width in pixels, such as 224x224."],
    ["models a b", "too many arguments"],
    ["run --model m --weights w --input x", "required option '--output <file>' not specified"],
    ["run --model m --config [1] --weights w --input x --output y", 'Expected a JSON object such as {"T": 4}.'],
    ["run --model m --config {T:4} --weights w --input x --output y", "It is not JSON"],
  ])("refuses %s", async (line, message) => {
    const { code, err, out, calls } = await spikeloom(line.split(" "));
    expect({ code, out, calls }).toEqual({ code: 1, out: "", calls: [] });
    expect(err).toMatch(/^error: /);
    expect(err).toContain(message);
  });
});

describe("help", () => {
  it("of each command has its options and an example that is right", async () => {
    for (const command of ["train", "eval", "measure", "models", "check", "run", "info", "native build"]) {
      const { code, out } = await spikeloom([...command.split(" "), "--help"]);
      expect(code).toBe(0);
      const examples = [...out.matchAll(/^ {2}\$ (?:CXX=\S+ )?spikeloom (.*?)(?: > .*)?$/gm)].map((m) => m[1] as string);
      expect(examples.length, command).toBeGreaterThan(0);
      for (const example of examples) {
        const words = [...example.matchAll(/'([^']*)'|(\S+)/g)].map((m) => m[1] ?? (m[2] as string));
        expect(await spikeloom(words), example).toMatchObject({ code: 0, err: "", calls: [[command.split(" ")[0], {}]] });
      }
    }
  });

  it("lists every command, and the version is the package's", async () => {
    const { code, out } = await spikeloom(["--help"]);
    expect(code).toBe(0);
    for (const name of NAMES) expect(out).toMatch(new RegExp(`^ {2}${name}\\b`, "m"));
    for (const variable of Object.keys(VARIABLES)) expect(out).toMatch(new RegExp(`^ {2}${variable} {2}`, "m"));
    expect((await spikeloom(["--version"])).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe("variables", () => {
  const root = fileURLToPath(new URL("../../..", import.meta.url));
  const sources = (folder: string): string[] =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => readFileSync(join(root, folder, name), "utf8"));

  it("are all those that the sources and the build read, and both READMEs name each", () => {
    const read = [...sources("packages/core/src/runtime"), ...sources("packages/node/src"), ...sources("scripts")];
    const named = new Set(read.flatMap((text) => text.match(/\bSPIKELOOM_[A-Z_]*[A-Z]\b/g) ?? []));
    expect([...named].sort()).toEqual(Object.keys(VARIABLES).sort());
    for (const file of ["README.md", "packages/node/README.md"]) {
      const text = readFileSync(join(root, file), "utf8");
      for (const name of named) expect(text, file).toContain(`| \`${name}\``);
    }
  });

  it("that are misspelt are told, with the one that was meant", () => {
    expect(unknownVariable("SPIKELOOM_THREADS")).toBeUndefined();
    expect(unknownVariable("SPIKELOOM_THREADZ")).toBe("unknown, did you mean SPIKELOOM_THREADS?");
    expect(unknownVariable("SPIKELOOM_QUX")).toBe("unknown");
  });
});

describe("errors and exit codes", () => {
  const failing = (error: unknown) =>
    spikeloom(["models"], async () => {
      throw error;
    });

  it("passes a command's exit code on", async () => {
    expect((await spikeloom(["train", "--resume", "x"], async () => 130)).code).toBe(130);
  });

  it("tells a user's mistake in its own words, without a stack", async () => {
    expect(await failing(new SpikeloomError("r.yml: no such key"))).toMatchObject({ code: 1, err: "error: r.yml: no such key\n", out: "" });
    expect((await failing(new FormatError("x.npz: damaged"))).err).toBe("error: x.npz: damaged\n");
  });

  it("asks to report any other error, with a stack only by SPIKELOOM_DEBUG", async () => {
    vi.stubEnv("SPIKELOOM_DEBUG", "");
    const quiet = await failing(new TypeError("x is undefined"));
    expect(quiet.code).toBe(1);
    expect(quiet.err).toBe(
      "error: TypeError: x is undefined\nThis is a mistake in spikeloom, not in what you did. Please report it, with what the same command prints when SPIKELOOM_DEBUG=1 is set.\n",
    );
    for (const off of ["0", "false", "off"]) {
      vi.stubEnv("SPIKELOOM_DEBUG", off);
      expect((await failing(new SpikeloomError("y"))).err).toBe("error: y\n");
    }
    vi.stubEnv("SPIKELOOM_DEBUG", "1");
    expect((await failing(new TypeError("x"))).err).toMatch(/Please report it\.\nTypeError: x\n {4}at /);
    expect((await failing(new SpikeloomError("y"))).err).toMatch(/^error: y\nSpikeloomError: y\n {4}at /);
  });
});
