/** Layers without parameters: activations, dropout, shape. */
import { kindOf } from "../runtime/check.ts";
import { dropout } from "../tensor/ops/dropout.ts";
import { gelu, relu, sigmoid, silu, tanh } from "../tensor/ops/elementwise.ts";
import { flatten } from "../tensor/ops/layout.ts";
import { wrong } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

export class ReLU extends Module {
  forward(x: Tensor): Tensor {
    return relu(x);
  }
}

/** x/2 (1 + erf(x / sqrt 2)), exact. */
export class GELU extends Module {
  forward(x: Tensor): Tensor {
    return gelu(x);
  }
}

/** x sigmoid(x) */
export class SiLU extends Module {
  forward(x: Tensor): Tensor {
    return silu(x);
  }
}

export class Sigmoid extends Module {
  forward(x: Tensor): Tensor {
    return sigmoid(x);
  }
}

export class Tanh extends Module {
  forward(x: Tensor): Tensor {
    return tanh(x);
  }
}

export class Identity extends Module {
  forward<T>(x: T): T {
    return x;
  }
}

/** In training sets each element to zero with probability p and divides the others by 1 - p. */
export class Dropout extends Module {
  readonly p: number;

  constructor(p = 0.5) {
    super();
    if (!(p >= 0 && p <= 1)) wrong("Dropout", "p", "in [0, 1]", kindOf(p));
    this.p = p;
  }

  forward(x: Tensor): Tensor {
    return dropout(x, this.p, { training: this.training });
  }
}

/** Joins the axes from `start` on, in PyTorch's order (C, H, W). */
export class Flatten extends Module {
  readonly start: number;

  constructor(start = 1) {
    super();
    if (!Number.isInteger(start)) wrong("Flatten", "start", "an integer", kindOf(start));
    this.start = start;
  }

  forward(x: Tensor): Tensor {
    return flatten(x, this.start);
  }
}
