// The page: runs the scenario itself, or in a worker, with the files that its server has.
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

document.body.dataset.ready = "yes";
