/** `spikeloom convert`, and files of weights wherever a command takes them: PyTorch's own files in, the same outputs out. */
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { formats, npz, safetensors } from "spikeloom";
import { beforeAll, describe, expect, it } from "vitest";
import { archive, dict, int, pickle, storage, str, tensor } from "../../core/test/formats/pickled.ts";
import { loadWeights, withWeights } from "../src/weights.ts";
import { fails, folder, smallMnist, smallRecipe, spikeloom, succeeds } from "./support.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../../core/test/fixtures/pytorch/${name}`, import.meta.url));
const CONFIG = '{"T":2,"inChannels":1,"embedDims":16,"depths":1,"numHeads":2,"mlpRatio":2,"pooling":"1100","imageSize":[28,28]}';
const MODEL = ["--model", "sdt-v1/cifar10-2-256", "--config", CONFIG];

let data: string;
/** A run, and its weights by name. */
let run: string;
let state: Map<string, formats.NdArray>;
const home = folder();
const at = (name: string) => join(home, name);

/** A checkpoint as torch.save writes it, with a state dict under `model` beside an epoch. */
function torchFile(tensors: ReadonlyMap<string, formats.NdArray>, prefix = ""): Uint8Array {
  const types: Partial<Record<formats.DType, string>> = { f32: "Float", i64: "Long", f16: "Half", bf16: "BFloat16" };
  const storages: Record<string, Uint8Array> = {};
  const entries = [...tensors].map(([key, array], i): [number[], number[]] => {
    storages[i] = formats.bytesOfElements(array);
    const { length } = array.data;
    const strides = array.shape.map((_, axis) => array.shape.slice(axis + 1).reduce((a, b) => a * b, 1));
    return [[...str(prefix + key)], [...tensor(storage(types[array.dtype] as string, String(i), length), 0, array.shape, strides)]];
  });
  return archive(
    pickle(
      dict([
        [str("model"), dict(entries)],
        [str("epoch"), int(3)],
      ]),
    ),
    storages,
  );
}

beforeAll(async () => {
  data = smallMnist(64, 40);
  run = join(folder(), "run");
  await succeeds("train", smallRecipe(data), "--out", run);
  state = await safetensors.load(readFileSync(join(run, "model.safetensors")));
  writeFileSync(at("net.pth"), torchFile(state, "module."));
});

describe("convert", () => {
  it("a checkpoint to safetensors: one dictionary of it, said which; values and types as they were", async () => {
    const out = await succeeds("convert", fixture("training.pth"), at("a.safetensors"));
    expect(out).toContain("training.pth: PyTorch, zip, 8 tensors");
    expect(out).toContain('took "model"; there is also model_ema');
    expect(out).toContain(`${at("a.safetensors")}: 8 tensors, ${readFileSync(at("a.safetensors")).length} bytes`);
    const { tensors, metadata } = safetensors.decode(readFileSync(at("a.safetensors")));
    expect(metadata).toEqual({ format: "pt" });
    expect(tensors.get("head.weight")).toEqual({ dtype: "f32", shape: [3, 2], data: Float32Array.of(0, 1, 2, 3, 4, 5) });
    await succeeds("convert", fixture("training.pth"), at("b.npz"), "--key", "model_ema");
    expect((await npz.decode(readFileSync(at("b.npz")))).get("head.weight")?.data).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
  });

  it("to half precision; whole numbers stay; what does not fit is refused", async () => {
    for (const dtype of ["f16", "bf16"]) {
      await succeeds("convert", fixture("types-stream.pt"), at(`${dtype}.safetensors`), "--dtype", dtype);
      const { tensors } = safetensors.decode(readFileSync(at(`${dtype}.safetensors`)));
      for (const key of ["f64", "f32", "f16", "bf16"])
        expect(tensors.get(key)).toEqual({ dtype, shape: [2, 3], data: Float32Array.of(-3, -2, -1, 0, 1, 2) });
      expect(tensors.get("i16")?.dtype).toBe("i16");
    }
    writeFileSync(
      at("large.safetensors"),
      safetensors.encode(new Map([["w", formats.ndArray("f32", [2], Float32Array.of(65519, 65520))]])),
    );
    expect(await fails("convert", at("large.safetensors"), at("x.safetensors"), "--dtype", "f16")).toContain(
      'tensor "w": 65520 does not fit f16',
    );
    writeFileSync(at("huge.safetensors"), safetensors.encode(new Map([["w", formats.ndArray("f32", [1], Float32Array.of(3.4e38))]])));
    expect(await fails("convert", at("huge.safetensors"), at("x.safetensors"), "--dtype", "bf16")).toContain("does not fit bf16");
    expect(existsSync(at("x.safetensors"))).toBe(false);
    writeFileSync(at("infinite.safetensors"), safetensors.encode(new Map([["w", formats.ndArray("f32", [1], Float32Array.of(1 / 0))]])));
    await succeeds("convert", at("infinite.safetensors"), at("y.safetensors"), "--dtype", "f16");
  });

  it("for a model: the output is the model's state dict", async () => {
    const out = await succeeds("convert", at("net.pth"), at("net.safetensors"), ...MODEL);
    expect(out).toContain('took the prefix "module." off every key');
    const { tensors, metadata } = safetensors.decode(readFileSync(at("net.safetensors")));
    expect(Object.fromEntries(tensors)).toEqual(Object.fromEntries(state));
    expect(metadata.model).toBe("sdt-v1/cifar10-2-256");
  });

  it("for a model that it is not of: every key is listed, and nothing is written", async () => {
    const other = new Map([...state].filter(([k]) => k !== "head.bias"));
    other.set("head.weight", formats.ndArray("f32", [2, 2], new Float32Array(4)));
    other.set("neck.weight", formats.ndArray("f32", [1], new Float32Array(1)));
    other.set("patch_embed.proj_bn.gamma", other.get("patch_embed.proj_bn.weight") as formats.NdArray);
    other.delete("patch_embed.proj_bn.weight");
    writeFileSync(at("other.pth"), torchFile(other));
    const { code, out, err } = await spikeloom("convert", at("other.pth"), at("none.safetensors"), ...MODEL);
    expect(code).toBe(1);
    expect(out).toMatch(/missing +head\.bias +the model's \[10\]/);
    expect(out).toMatch(/left over +neck\.weight +the file's \[1\]/);
    expect(out).toMatch(/other shape +head\.weight +the model's \[10, 16\], the file's \[2, 2\]/);
    expect(out).toMatch(/renamed +patch_embed\.proj_bn\.weight +from patch_embed\.proj_bn\.gamma: an older name/);
    expect(err).toContain("1 keys are missing, 1 left over, 1 of another shape. Nothing was written.");
    expect(existsSync(at("none.safetensors"))).toBe(false);
  });

  it("wrong input", async () => {
    expect(await fails("convert", at("net.pth"), at("x.pt"))).toContain("expected an output that ends in .safetensors or .npz");
    expect(await fails("convert", at("nothing.pth"), at("x.npz"))).toContain("there is no such file or folder");
    expect(await fails("convert", home, at("x.npz"))).toContain("it is a folder, not a file");
    expect(await fails("convert", at("net.pth"), at("x.npz"), "--key", "mode")).toContain('did you mean "model"?');
    expect(await fails("convert", at("net.pth"), at("x.npz"), "--dtype", "bf16")).toContain("numpy has no bf16");
    expect(await fails("convert", at("net.pth"), at("x.npz"), "--config", "{}")).toContain("--config is a model's");
    expect(await fails("convert", at("net.pth"), at("x.npz"), "--model", "sdt-v1/cifar")).toContain("unknown model");
    writeFileSync(at("cut.pth"), readFileSync(at("net.pth")).subarray(0, 3000));
    expect(await fails("convert", at("cut.pth"), at("x.npz"))).toContain(`${at("cut.pth")}: expected a zip archive`);
    // Damage in the values, found when the output is half written.
    const damaged = readFileSync(at("net.pth"));
    damaged[Math.floor(damaged.length / 2)]! ^= 1;
    writeFileSync(at("damaged.pth"), damaged);
    expect(await fails("convert", at("damaged.pth"), at("x.safetensors"))).toContain("CRC-32");
    expect(existsSync(at("x.safetensors"))).toBe(false);
  });
});

describe("weights of any format", () => {
  it("eval, measure and predict take a file where they take a run's own", async () => {
    const evaluate = async (...more: string[]) => {
      const { run: _, seconds: __, ...result } = JSON.parse(await succeeds("eval", run, "--json", ...more));
      return result;
    };
    const own = await evaluate();
    expect(await evaluate("--weights", at("net.pth"))).toEqual(own);
    await succeeds("convert", at("net.pth"), at("net.npz"));
    copyFileSync(at("net.npz"), at("net.bin"));
    expect(await evaluate("--weights", at("net.bin"))).toEqual(own);
    expect(await evaluate("--weights", at("net.pth"), "--key", "model")).toEqual(own);
    expect(await evaluate("--weights", join(run, "last.safetensors"))).toEqual(own);
    const measured = await succeeds("measure", run, "--images", "4", "--json", "--weights", at("net.pth"));
    expect(measured).toBe(await succeeds("measure", run, "--images", "4", "--json"));
    expect(await fails("eval", run, "--key", "model")).toContain("--key is for a file of weights");
    expect(await fails("eval", run, "--weights", "finl")).toContain("cannot read weights finl");
    expect(await fails("eval", run, "--weights", fixture("module.pt"))).toContain("does not fit the model");
  });

  it("the same function loads what fits, for a training that begins with it", async () => {
    const { model } = await import("../src/trained.ts").then(({ openModel }) => openModel({ run }));
    const head = new Map(state).set("head.weight", formats.ndArray("f32", [3, 16], new Float32Array(48)));
    writeFileSync(at("head.pth"), torchFile(head));
    await expect(loadWeights(model, {}, at("head.pth"))).rejects.toThrow("1 of another shape: head.weight");
    const { notes } = await loadWeights(model, {}, at("head.pth"), { partial: true });
    expect(notes.at(-1)).toContain("1 of another shape: head.weight (the model's [10, 16], the file's [3, 16])");
  });

  it("a file that becomes shorter while it is read", async () => {
    copyFileSync(at("net.pth"), at("shrinks.pth"));
    const reading = withWeights(at("shrinks.pth"), undefined, async ({ tensors }) => {
      writeFileSync(at("shrinks.pth"), "");
      return (tensors.get("head.weight") as formats.StoredTensor).read();
    });
    await expect(reading).rejects.toThrow("It became shorter while it was read.");
  });
});
