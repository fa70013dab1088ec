/** Reference kernels: steps of the optimisers. */
import type { ReferenceArgs } from "./args.ts";

export const optim = {
  /** Loshchilov and Hutter 2019, "Decoupled weight decay regularization". */
  adamw(args: ReferenceArgs<"adamw">): void {
    const { p, g, m, v, n, lr, beta1, beta2, eps, weightDecay, bias1, bias2, gradScale } = args;
    for (let i = 0; i < n; i++) {
      const gradient = g[i]! * gradScale;
      m[i] = beta1 * m[i]! + (1 - beta1) * gradient;
      v[i] = beta2 * v[i]! + (1 - beta2) * gradient * gradient;
      p[i] = p[i]! * (1 - lr * weightDecay) - (lr * (m[i]! / bias1)) / (Math.sqrt(v[i]! / bias2) + eps);
    }
  },

  sgd({ p, g, buf, n, lr, momentum, dampening, weightDecay, nesterov, first, gradScale }: ReferenceArgs<"sgd">): void {
    for (let i = 0; i < n; i++) {
      const gradient = g[i]! * gradScale + weightDecay * p[i]!;
      let velocity = gradient;
      if (buf) {
        if (!first) velocity = momentum * buf[i]! + (1 - dampening) * gradient;
        buf[i] = velocity;
      }
      p[i]! -= lr * (nesterov ? gradient + momentum * velocity : velocity);
    }
  },
};
