// What the page, its worker and Node do alike: train a few steps on real digits, then classify with weights that came as a file.
import { data, init, memoryInfo, models, optim, safetensors, scope, train } from "spikeloom";

const CONFIG = {
  T: 4,
  inChannels: 1,
  numClasses: 10,
  embedDims: 64,
  depths: 1,
  numHeads: 4,
  mlpRatio: 2,
  pooling: "1010",
  imageSize: [28, 28],
};

/** FNV-1a of bytes: two runs are compared by it. */
function digest(bytes) {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16);
}

/**
 * @param {{ images: Uint8Array, labels: Uint8Array, weights?: Uint8Array, threads?: number, epochs?: number, steps?: number }} job IDX
 * files, weights to classify with, and after how many steps to stop
 */
export async function scenario({ images, labels, weights, threads, epochs = 1, steps = 8 }) {
  const engine = await init({ device: "wasm", seed: 11, ...(threads ? { threads } : {}) });
  const digits = data.datasetFromIdx(images, labels, { images: "images", labels: "labels" });
  const loader = new data.Loader(digits, {
    batchSize: 16,
    shuffle: true,
    transforms: [data.randomShift(2), data.normalize({ mean: [0.1307], std: [0.3081] })],
  });
  const model = models.createModel("sdt-v1", CONFIG);
  const schedule = { name: "cosine", lr: 0.005, epochs };
  const optimizer = new optim.AdamW(optim.weightDecayGroups(model, 0.01), { lr: 0.005 });
  const trainer = new train.Trainer({ model, loader, epochs, optimizer, schedule });
  const losses = [];
  const used = [];
  for await (const event of trainer.run()) {
    if (event.type !== "step") continue;
    losses.push(event.loss);
    used.push(memoryInfo().used);
    if (losses.length === steps) break;
  }
  const trained = await safetensors.save(model.stateDict());

  if (weights) model.loadStateDict(await safetensors.load(weights));
  model.eval();
  const { x, y } = await loader.batchOf(Array.from({ length: 20 }, (_, i) => i));
  const logits = scope(() => model.forward(x));
  const values = Array.from(await logits.data());
  for (const t of [logits, x, y]) t.dispose();
  return {
    device: engine.device,
    threads: engine.threads,
    losses,
    // A step leaves nothing behind: what is in use between steps stays the same from the second on.
    growth: used.at(-1) - used[1],
    weights: digest(trained),
    file: trained,
    logits: values,
  };
}
