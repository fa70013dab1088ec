// The same in a worker: what a page does that must stay responsive.
import { scenario } from "./scenario.js";

self.onmessage = async ({ data }) => {
  try {
    const { file, ...result } = await scenario(data);
    postMessage({ ...result, isolated: crossOriginIsolated });
  } catch (error) {
    postMessage({ error: String(error) });
  }
};
