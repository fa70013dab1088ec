/** The LIF layer task in TensorFlow.js on its WebAssembly backend, one thread. The surrogate gradient is a custom gradient. */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { type LayerTask, load, runLayer } from "./layer.ts";

const { module: tf, version } = await load("@tensorflow/tfjs-core");
// The core leaves the gradients of its operations out; they are modules that only a bundler, or the loader of this process, can read.
createRequire(import.meta.url)("@tensorflow/tfjs-core/dist/register_all_gradients");
const { module: wasm } = await load("@tensorflow/tfjs-backend-wasm");
wasm.setWasmPaths(fileURLToPath(new URL("node_modules/@tensorflow/tfjs-backend-wasm/dist/", import.meta.url)));
wasm.setThreadsCount(1);
await tf.setBackend("wasm");
await tf.ready();

// biome-ignore lint/suspicious/noExplicitAny: another library's tensors
type Any = any;

/** Fires at h >= 1; backward: 4 s (1 - s), s = sigmoid(4 (h - 1)). */
const fire = tf.customGrad((h: Any, save: (saved: Any[]) => void) => {
  save([h]);
  const gradFunc = (dy: Any, [saved]: Any[]) => {
    const s = tf.sigmoid(tf.mul(tf.sub(saved, 1), 4));
    return tf.mul(dy, tf.mul(tf.mul(s, tf.sub(1, s)), 4));
  };
  return { value: tf.cast(tf.greaterEqual(h, 1), "float32"), gradFunc };
});

/** The membrane where it did not fire, else 0; the reset is detached. */
const reset = tf.customGrad((h: Any, save: (saved: Any[]) => void) => {
  const silent = tf.cast(tf.less(h, 1), "float32");
  save([silent]);
  return { value: tf.mul(h, silent), gradFunc: (dy: Any, [saved]: Any[]) => tf.mul(dy, saved) };
});

await runLayer("tfjs", version, ({ spec: { steps, batch, features }, x, gy, weight, bias }: LayerTask) => {
  const input = tf.tensor2d(x, [steps * batch, features]);
  const gradient = tf.tensor3d(gy, [steps, batch, features]);
  const w = tf.tensor2d(weight, [features, features]);
  const b = tf.tensor1d(bias);
  const spikes = (weights: Any, biases: Any) => {
    const current = tf.reshape(tf.add(tf.matMul(input, weights, false, true), biases), [steps, batch, features]);
    let v = tf.zeros([batch, features]);
    const out = tf.unstack(current).map((i: Any) => {
      const h = tf.mul(tf.add(v, i), 0.5);
      v = reset(h);
      return fire(h);
    });
    return tf.stack(out);
  };
  const gradients = tf.grads((weights: Any, biases: Any) => tf.sum(tf.mul(spikes(weights, biases), gradient)));
  return {
    // dataSync on both, since the backend may put work off until somebody reads.
    run: () => tf.tidy(() => gradients([w, b]).map((g: Any) => g.dataSync().length)),
    result: () =>
      tf.tidy(() => ({
        rate: tf.mean(spikes(w, b)).dataSync()[0] as number,
        gradient: gradients([w, b])[0].dataSync() as Float32Array,
      })),
  };
});
