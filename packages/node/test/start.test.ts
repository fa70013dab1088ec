/** Where a training starts: other weights, a teacher, few labels; pre-training without labels; and that such runs go on bit for bit. */
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { data, safetensors } from "spikeloom";
import { beforeAll, describe, expect, it } from "vitest";
import { limited } from "../src/samples.ts";
import { child, fails, folder, log, smallMnist, smallRecipe, spikeloom, succeeds } from "./support.ts";

let mnist: string;
let recipe: string;
/** A run of the small recipe that is done. */
let done: string;

beforeAll(async () => {
  mnist = smallMnist();
  recipe = smallRecipe(mnist);
  done = join(folder(), "done");
  await succeeds("train", recipe, "--out", done);
});

const decoded = (...path: string[]) => safetensors.decode(readFileSync(join(...path)), "file");
const set = (...pairs: string[]) => pairs.flatMap((pair) => ["--set", pair]);

describe("train.init", () => {
  it("starts from a run's weights, with other time steps", async () => {
    const out = join(folder(), "run");
    // No step moves a weight by more than this rate allows: what it ends with is what it began with.
    const said = await spikeloom(
      "train",
      recipe,
      "--out",
      out,
      ...set(`train.init.run=${done}`, "model.config.T=3", "train.optimizer.lr=1e-12"),
    );
    expect(said.code, said.err).toBe(0);
    expect(said.err).toContain(`starts from ${join(done, "model.safetensors")}`);
    const [from, to] = [decoded(done, "model.safetensors").tensors, decoded(out, "model.safetensors").tensors];
    for (const [key, { data: values }] of from)
      if (!/running|tracked/.test(key)) (values as Float32Array).forEach((v, i) => expect(to.get(key)?.data[i], key).toBeCloseTo(v, 6));
  });

  it("takes a file, leaves what does not fit as it is, and says so", async () => {
    const out = join(folder(), "run");
    const file = join(done, "best.safetensors");
    const said = await spikeloom("train", recipe, "--out", out, ...set(`train.init.weights=${file}`, "model.config.mlpRatio=3"));
    expect(said.code, said.err).toBe(0);
    expect(said.err).toMatch(/of another shape: .*block\.0\.mlp\.fc1_conv\.weight/);
  });

  it("is not asked for again by a run that goes on", async () => {
    const [from, out] = [folder(), join(folder(), "run")];
    for (const file of ["model.safetensors", "recipe.yml"]) copyFileSync(join(done, file), join(from, file));
    await succeeds("train", recipe, "--out", out, ...set(`train.init.run=${from}`));
    rmSync(from, { recursive: true });
    await succeeds("train", "--resume", out, ...set("train.epochs=2"));
    expect(log(out).filter((e) => e.type === "epoch").length).toBe(2);
  });

  it("says what is wrong with it, before anything is trained", async () => {
    const out = join(folder(), "run");
    const empty = folder();
    const of = (...pairs: string[]) => fails("train", recipe, "--out", out, ...set(...pairs));
    expect(await of(`train.init.run=${empty}`)).toContain(`train.init.run: ${empty} holds no model.safetensors: it is no run's folder`);
    copyFileSync(join(done, "last.safetensors"), join(empty, "last.safetensors"));
    expect(await of(`train.init.run=${empty}`)).toContain("let that run come to its end first");
    expect(await of(`train.init.weights=${join(empty, "none.pth")}`)).toContain("cannot read weights");
    writeFileSync(join(empty, "broken.safetensors"), "not weights");
    expect(await of(`train.init.weights=${join(empty, "broken.safetensors")}`)).toContain("expected a file of weights");
    expect(existsSync(out)).toBe(false);
  });
});

describe("train.teacher", () => {
  const STUDENT = ["train.epochs=2", "model.config.embedDims=8"];

  it("is the run's model; a student that is stopped goes on bit for bit, and only with that teacher", async () => {
    const teacher = folder();
    for (const file of ["model.safetensors", "recipe.yml"]) copyFileSync(join(done, file), join(teacher, file));
    const options = set(...STUDENT, `train.teacher={ run: ${teacher}, kind: soft, tau: 2, alpha: 0.7 }`);
    const whole = join(folder(), "whole");
    const said = await spikeloom("train", recipe, "--out", whole, ...options);
    expect(said.code, said.err).toBe(0);
    expect(said.err).toContain(`learns from sdt-v1/cifar10-2-256 of ${join(teacher, "model.safetensors")}`);
    const out = join(folder(), "run");
    let sent = false;
    const stopped = await child(["train", recipe, "--out", out, "--json", ...options], (line, run) => {
      if (!sent && JSON.parse(line).step === 5) sent = run.kill("SIGINT");
    });
    expect(stopped.code, stopped.err).toBe(130);

    const weights = readFileSync(join(teacher, "model.safetensors"));
    const { tensors, metadata } = decoded(teacher, "model.safetensors");
    const head = tensors.get("head.bias") as NonNullable<ReturnType<typeof tensors.get>>;
    (head.data as Float32Array)[0] = 3;
    writeFileSync(join(teacher, "model.safetensors"), safetensors.encode(tensors, metadata));
    expect(await fails("train", "--resume", out)).toMatch(
      /the run's teacher had weights of the checksum \w{8}, .* has \w{8}\. Put its weights back/,
    );
    expect(await fails("train", "--resume", out, "--set", "train.teacher=")).toContain("the run was made with a teacher, this has none");
    writeFileSync(join(teacher, "model.safetensors"), weights);

    await succeeds("train", "--resume", out);
    expect(readFileSync(join(out, "model.safetensors")).equals(readFileSync(join(whole, "model.safetensors")))).toBe(true);
    expect(log(out)).toEqual(log(whole));
    // What was trained needs no teacher any more.
    rmSync(teacher, { recursive: true });
    await succeeds("eval", out);
  });

  it("changes what is learnt", async () => {
    const [alone, taught] = [join(folder(), "alone"), join(folder(), "taught")];
    await succeeds("train", recipe, "--out", alone, ...set(...STUDENT));
    await succeeds("train", recipe, "--out", taught, ...set(...STUDENT, `train.teacher.run=${done}`));
    expect(log(taught)[3]?.loss).not.toBe(log(alone)[3]?.loss);
  });

  it("of weights needs their model; what does not fit is told", async () => {
    const out = join(folder(), "run");
    const of = (teacher: string, ...more: string[]) => fails("train", recipe, "--out", out, ...set(`train.teacher=${teacher}`, ...more));
    const file = join(done, "model.safetensors");
    expect(await of(`{ weights: ${file}, model: sdt-v7 }`)).toContain('train.teacher.model: unknown system "sdt-v7", did you mean');
    expect(await of(`{ weights: ${file}, model: sdt-v1, config: { depths: 0 } }`)).toContain("train.teacher.config.depths: sdt-v1 config");
    expect(await of(`{ weights: ${file}, model: caformer/tiny }`)).toContain("does not fit the model");
    const channels =
      "{ T: 2, inChannels: 1, numClasses: 10, embedDims: 16, depths: 1, numHeads: 2, mlpRatio: 2, pooling: '1100', imageSize: [28, 28] }";
    await succeeds(
      "train",
      recipe,
      "--out",
      out,
      ...set(`train.teacher={ weights: ${file}, model: sdt-v1/cifar10-2-256, config: ${channels} }`),
    );
    expect(
      await fails(
        "train",
        recipe,
        "--out",
        `${out}2`,
        ...set(
          "model.name=sdt-v2/15M",
          "model.config={ inChannels: 1, numClasses: 10, embedDims: [8, 8, 8, 8], depths: [1, 1], numHeads: 2, kd: true, imageSize: [28, 28] }",
        ),
      ),
    ).toContain("has a head for distillation, which learns from a teacher only, and there is none. Give a teacher (train.teacher)");
  });
});

describe("train.layerDecay", () => {
  it("moves the first layers less than the head, and is refused where the model does not know its layers", async () => {
    const moved = async (...pairs: string[]) => {
      const out = join(folder(), "run");
      await succeeds(
        "train",
        recipe,
        "--out",
        out,
        ...set(`train.init.run=${done}`, "train.schedule.name=constant", "train.optimizer.weightDecay=0", ...pairs),
      );
      const [from, to] = [decoded(done, "model.safetensors").tensors, decoded(out, "model.safetensors").tensors];
      const change = (key: string) => {
        const [a, b] = [from.get(key)?.data as Float32Array, to.get(key)?.data as Float32Array];
        return Math.sqrt(a.reduce((n, v, i) => n + (v - (b[i] as number)) ** 2, 0) / a.length);
      };
      return { stem: change("patch_embed.proj_conv.weight"), head: change("head.weight") };
    };
    const [plain, decayed] = [await moved(), await moved("train.layerDecay=0.1")];
    // Adam's steps are of the size of the rate: a hundredth in the stem, which is two layers below the head.
    expect(decayed.stem / plain.stem).toBeLessThan(0.05);
    expect(decayed.head / plain.head).toBeGreaterThan(0.5);
    const out = join(folder(), "run");
    expect(await fails("train", recipe, "--out", out, ...set("model={ name: caformer/tiny }", "train.layerDecay=0.5"))).toContain(
      "train.layerDecay: caformer/tiny does not say how deep its parameters lie",
    );
  });
});

describe("train.objective", () => {
  const MAE = [
    "model.name=sdt-v3/mae-tiny",
    "model.config={ embedDims: [4, 4, 8], depths: 1, numHeads: 2, decoderDim: 8, decoderDepth: 1, decoderHeads: 2 }",
  ];

  it("trains without labels: tests are of its loss, there is no accuracy, and a classifier starts from it", async () => {
    const out = join(folder(), "mae");
    const printed = await succeeds(
      "train",
      recipe,
      "--out",
      out,
      ...set(...MAE, "train.objective=masked-reconstruction", "train.epochs=2"),
    );
    expect(printed).toMatch(/^test loss \d\.\d{4} {2}\(100 images; masked-reconstruction\)$/m);
    expect(printed).not.toContain("accuracy");
    const epochs = log(out).filter((e) => e.type === "epoch");
    expect(epochs.map((e) => [e.accuracy, e.testAccuracy])).toEqual([
      [null, null],
      [null, null],
    ]);
    const summary = JSON.parse(readFileSync(join(out, "summary.json"), "utf8"));
    expect([summary.testAccuracy, typeof summary.testLoss, summary.testImages]).toEqual([null, "number", 100]);
    expect(existsSync(join(out, "best.safetensors"))).toBe(true);
    expect(readFileSync(join(out, "report.html"), "utf8")).not.toContain("NaN");
    expect(await succeeds("eval", out)).toMatch(/: loss \d\.\d{4} \(masked-reconstruction\) on 100 test images/);
    expect(await succeeds("runs", join(out, ".."))).toContain("mae");
    expect(await fails("predict", out, join(out, "report.html"))).toContain("names no classes: it was trained for masked-reconstruction");
    await succeeds("measure", out);

    const tuned = join(folder(), "tuned");
    const said = await spikeloom(
      ...["train", recipe, "--out", tuned],
      ...set(
        "model.name=sdt-v3/large-tiny",
        "model.config={ embedDims: [4, 4, 8], depths: 1, numHeads: 2 }",
        `train.init.run=${out}`,
        "train.layerDecay=0.75",
      ),
    );
    expect(said.code, said.err).toBe(0);
    expect(said.err).toMatch(/4 missing: block3\.0\.layer_scale1, block3\.0\.layer_scale2, head\.weight, head\.bias/);
    expect(said.err).toMatch(/25 left over: .*decoder_blocks\.0\.attn/);
  });

  it("goes on bit for bit", async () => {
    const options = set(...MAE, "train.objective=masked-reconstruction", "train.epochs=2");
    const [whole, out] = [join(folder(), "whole"), join(folder(), "run")];
    await succeeds("train", recipe, "--out", whole, ...options);
    let sent = false;
    const stopped = await child(["train", recipe, "--out", out, "--json", ...options], (line, run) => {
      if (!sent && JSON.parse(line).step === 5) sent = run.kill("SIGINT");
    });
    expect(stopped.code, stopped.err).toBe(130);
    await succeeds("train", "--resume", out);
    expect(readFileSync(join(out, "model.safetensors")).equals(readFileSync(join(whole, "model.safetensors")))).toBe(true);
    expect(log(out)).toEqual(log(whole));
  });

  it("must be one that the model can be trained for", async () => {
    const out = join(folder(), "run");
    const of = (...pairs: string[]) => fails("train", recipe, "--out", out, ...set(...pairs));
    expect(await of(...MAE)).toContain(
      "sdt-v3/mae-tiny names no classes. Say what it is trained for (train.objective: masked-reconstruction)",
    );
    expect(await of(...MAE, "train.objective=masked")).toContain("cannot be trained for masked. sdt-v3 has masked-reconstruction");
    expect(await of("train.objective=masked-reconstruction")).toContain("sdt-v1 is trained for classification alone: leave it out");
  });
});

describe("data.perClass", () => {
  it("takes the first images of each class", async () => {
    const labels = [0, 1, 1, 2, 1, 0, 0, 2];
    const images = new data.ArrayDataset({
      images: new Uint8Array(8).map((_, i) => i),
      shape: [8, 1, 1, 1],
      labels: Int32Array.from(labels),
    });
    const { train } = limited({ data: { perClass: 2 } } as Parameters<typeof limited>[0], { train: images, test: images });
    expect([...(train.labels as Int32Array)]).toEqual([0, 1, 1, 2, 0, 2]);
    expect(Array.from({ length: train.length }, (_, i) => (train.get(i) as data.Sample).data[0])).toEqual([0, 1, 2, 3, 5, 7]);
    expect(() => data.firstOfEach({ length: 1, classes: 2, get: () => images.get(0) }, 3)).toThrow("does not tell its samples' classes");
    const out = join(folder(), "run");
    await succeeds("train", recipe, "--out", out, ...set("data.perClass=3", "train.batchSize=10"));
    expect(
      log(out)
        .filter((e) => e.type === "step")
        .map((e) => e.images),
    ).toEqual([10, 10, 10]);
  });
});
