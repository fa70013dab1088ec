/**
 * The LIF layer task in jax-js on its WebAssembly backend. It has no custom gradients: the surrogate is a soft spike whose value is replaced
 * by the hard one. Arrays are owned: `.ref` keeps one for another use.
 */
import { type LayerTask, load, runLayer } from "./layer.ts";

const { module: jax, version } = await load("@jax-js/jax");
await jax.init("wasm");
jax.defaultDevice("wasm");
const { numpy: np, lax, nn } = jax;

// biome-ignore lint/suspicious/noExplicitAny: another library's arrays
type Any = any;

await runLayer("jax-js", version, ({ spec: { steps, batch, features }, x, gy, weight, bias }: LayerTask) => {
  const array = (data: Float32Array, shape: number[]) => np.array(data, { shape, dtype: np.float32 });
  const input = array(x, [steps * batch, features]);
  const gradient = array(gy, [steps, batch, features]);
  const w = array(weight, [features, features]);
  const b = array(bias, [features]);

  const spikes = (weights: Any, biases: Any, inputs: Any) => {
    const current = np.matmul(inputs, weights.transpose()).add(biases).reshape([steps, batch, features]);
    let v = np.zeros([batch, features]);
    const out: Any[] = [];
    for (let t = 0; t < steps; t++) {
      const h = v.add(current.ref.slice(t)).mul(0.5);
      const silent = lax.stopGradient(np.where(h.ref.less(1), 1, 0).astype(np.float32));
      const soft = nn.sigmoid(h.ref.sub(1).mul(4));
      const hard = silent.ref.neg().add(1);
      out.push(hard.add(soft.ref).sub(lax.stopGradient(soft)));
      v = h.mul(silent);
    }
    v.dispose();
    current.dispose();
    return np.stack(out);
  };
  const loss = (parameters: Any, inputs: Any, gradients: Any) => spikes(parameters.w, parameters.b, inputs).mul(gradients).sum();
  const gradients = jax.jit(jax.grad(loss));
  const once = () => gradients({ w: w.ref, b: b.ref }, input.ref, gradient.ref);
  return {
    run: () => {
      const g = once();
      g.w.dataSync();
      g.b.dataSync();
    },
    result: () => {
      const rate = spikes(w.ref, b.ref, input.ref).mean().dataSync()[0] as number;
      const g = once();
      g.b.dispose();
      return { rate, gradient: g.w.dataSync() as Float32Array };
    },
  };
});
