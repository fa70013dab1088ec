// The page: runs the scenario itself, or in a worker, with the files that its server has; or only starts the engine.
import { engineInfo, init, tensor } from "spikeloom";
import { scenario } from "./scenario.js";

const bytes = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
const files = async () => ({ images: await bytes("/images"), labels: await bytes("/labels"), weights: await bytes("/weights") });

globalThis.inPage = async (options) => {
  const { file, ...result } = await scenario({ ...(await files()), ...options });
  return { ...result, isolated: crossOriginIsolated };
};

globalThis.inWorker = async (options) => {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const result = await new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
    worker.onerror = (event) => reject(new Error(event.message || "the worker did not start"));
    files().then((all) => worker.postMessage({ ...all, ...options }), reject);
  });
  worker.terminate();
  return result;
};

/** Start the engine: what it says of itself or of its failure, and a sum (1 + 2 + 3) by the engine that is then in use. */
globalThis.start = async (options) => {
  const said = await init(options).catch(({ name, message }) => ({ name, message }));
  let sum;
  try {
    sum = await tensor([1, 2, 3]).sum().item();
  } catch ({ message }) {
    sum = message;
  }
  return { ...said, sum };
};

/** Start the engine twice at a time: one of the two is in use then, and says how many threads it has. */
globalThis.startTwice = async (options) => {
  await Promise.all([init(options), init(options)]);
  return { threads: engineInfo().threads, sum: await tensor([1, 2, 3]).sum().item() };
};

document.body.dataset.ready = "yes";
