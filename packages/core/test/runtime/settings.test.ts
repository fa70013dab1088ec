/** What `init` is told, by options and by the environment: a wrong value is named by where it came from, and changes nothing. */
import { existsSync } from "node:fs";
import { afterEach, describe, expect, it, vi } from "vitest";
import { data, engineInfo, type InitOptions, init, nn, optim, type Tensor, train } from "../../src/index.ts";
import { ADDON } from "../gradcheck.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});

const fails = async (options: InitOptions = {}): Promise<string> => {
  try {
    await init({ device: "reference", ...options });
  } catch (error) {
    expect((error as Error).name).toBe("SpikeloomError");
    return (error as Error).message;
  }
  throw new Error("init took it");
};

describe("variables of the environment", () => {
  it.each([
    ["SPIKELOOM_DEVICE", "foo", /^SPIKELOOM_DEVICE: unknown device "foo".*one of reference, wasm, native, auto/],
    ["SPIKELOOM_DEVICE", "wsam", /^SPIKELOOM_DEVICE: unknown device "wsam", did you mean "wasm"\?/],
    ["SPIKELOOM_THREADS", "abc", /^SPIKELOOM_THREADS: threads must be an integer from 1 to 256, got abc$/],
    ["SPIKELOOM_THREADS", "0", /^SPIKELOOM_THREADS: .*got 0$/],
    ["SPIKELOOM_THREADS", "1.5", /^SPIKELOOM_THREADS: .*got 1.5$/],
    ["SPIKELOOM_THREADS", " ", /^SPIKELOOM_THREADS: /],
    ["SPIKELOOM_ISA", "foo", /^SPIKELOOM_ISA: unknown instruction set "foo" \(one of .*avx512, avx2/],
    ["SPIKELOOM_IMPLEMENTATIONS", "spikeProduct", /^SPIKELOOM_IMPLEMENTATIONS: expected operation=name, found "spikeProduct"$/],
    ["SPIKELOOM_IMPLEMENTATIONS", "spikeProdct=dense", /^SPIKELOOM_IMPLEMENTATIONS: there is no operation.*did you mean "spikeProduct"/],
    ["SPIKELOOM_IMPLEMENTATIONS", "spikeProduct=dens", /^SPIKELOOM_IMPLEMENTATIONS: .*did you mean "dense"/],
    [
      "SPIKELOOM_MATMUL_PRECISION",
      "hihg",
      /^SPIKELOOM_MATMUL_PRECISION: matmulPrecision must be one of highest, high, medium.*did you mean "high"/,
    ],
  ])("%s=%s is refused by its name", async (name, value, message) => {
    await init({ device: "reference", seed: 5 });
    vi.stubEnv(name, value);
    expect(await fails()).toMatch(message);
    expect(engineInfo()).toMatchObject({ device: "reference", seed: 5 });
  });

  it("SPIKELOOM_WASM must be a file of these very kernels, and so must init's bytes", async () => {
    vi.stubEnv("SPIKELOOM_WASM", "no-such.wasm");
    expect(await fails({ device: "wasm" })).toMatch(/^SPIKELOOM_WASM: cannot read no-such.wasm: .*ENOENT/);
    vi.stubEnv("SPIKELOOM_WASM", "package.json");
    expect(await fails({ device: "wasm" })).toMatch(/^SPIKELOOM_WASM: the WebAssembly kernels .* are no module.*relaxed/);
    vi.stubEnv("SPIKELOOM_WASM", "");
    expect(await fails({ device: "wasm", wasm: "relaxed.wasm" as never })).toMatch(
      /^init: wasm must be the bytes of a binary, got "relaxed.wasm"/,
    );
    expect(await fails({ device: "wasm", wasm: Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0) })).toMatch(/no build of them/);
  });

  it.skipIf(!existsSync(ADDON))("SPIKELOOM_ISA must be one that the addon has", async () => {
    vi.stubEnv("SPIKELOOM_ISA", "foo");
    expect(await fails({ device: "native", native: ADDON })).toMatch(
      /^SPIKELOOM_ISA: this CPU or addon has no instruction set "foo"; it has .*baseline/,
    );
    vi.stubEnv("SPIKELOOM_ISA", "");
    expect(await fails({ device: "native", native: ADDON, isa: "foo" })).toMatch(/^init: this CPU or addon/);
  });

  it("that are empty are none; spaces around a value are no part of it", async () => {
    for (const name of ["DEVICE", "THREADS", "ISA", "WASM", "IMPLEMENTATIONS", "MATMUL_PRECISION"]) vi.stubEnv(`SPIKELOOM_${name}`, "");
    expect(await init({ device: "wasm", threads: 1 })).toMatchObject({ device: "wasm", threads: 1 });
    vi.stubEnv("SPIKELOOM_DEVICE", " reference ");
    expect((await init({ device: "wasm", threads: 1 })).device).toBe("reference");
  });
});

describe("options", () => {
  it("are refused by their names", async () => {
    expect(await fails({ device: "foo" as "wasm" })).toMatch(/^init: unknown device "foo"/);
    expect(await fails({ threads: 0 })).toMatch(/^init: .*got 0/);
    expect(await fails({ isa: "foo" })).toMatch(/^init: unknown instruction set "foo"/);
    expect(await fails({ implementations: "spikeProduct" as never })).toMatch(/^init: implementations must be/);
    expect(await fails({ implementations: { spikeProduct: "x" as "dense" } })).toMatch(/^init: spikeProduct has no/);
    expect(await fails({ matmulPrecision: "low" as "high" })).toMatch(
      /^init: matmulPrecision must be one of highest, high, medium, found "low"/,
    );
    expect(await fails({ matmulPrecision: 3 as never })).toMatch(/found 3/);
  });
});

describe("matmulPrecision", () => {
  it("is the highest unless asked otherwise; the variable comes first", async () => {
    expect((await init({ device: "reference" })).matmulPrecision).toBe("highest");
    expect((await init({ device: "reference", matmulPrecision: "medium" })).matmulPrecision).toBe("medium");
    vi.stubEnv("SPIKELOOM_MATMUL_PRECISION", "high");
    expect((await init({ device: "reference", matmulPrecision: "medium" })).matmulPrecision).toBe("high");
    vi.unstubAllEnvs();
    expect((await init({ device: "reference" })).matmulPrecision).toBe("highest");
  });

  it("is remembered by checkpoints", async () => {
    class Net extends nn.Module {
      fc = new nn.Linear(4, 2);
      forward(x: Tensor): Tensor {
        return this.fc.forward(nn.flatten(x, 1));
      }
    }
    const trainer = async (matmulPrecision: InitOptions["matmulPrecision"]) => {
      await init({ device: "wasm", threads: 1, matmulPrecision });
      const net = new Net();
      const set = new data.ArrayDataset({ images: new Float32Array(16).fill(0.5), shape: [4, 2, 2, 1], labels: Int32Array.of(0, 1, 0, 1) });
      const loader = new data.Loader(set, { batchSize: 4 });
      const optimizer = new optim.AdamW(net.parameters());
      return new train.Trainer({ model: net, loader, optimizer, schedule: { name: "constant", lr: 1e-3, epochs: 1 }, epochs: 1 });
    };
    const saved = (await trainer("high")).checkpoint();
    expect((await trainer("high")).restore(saved)).toBeUndefined();
    expect((await trainer("highest")).restore(saved)).toMatch(/matmulPrecision high, this has highest/);
  });
});
