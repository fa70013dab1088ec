/** Stochastic depth: a residual branch left out at random. */
import { checkOptions, kindOf } from "../runtime/check.ts";
import { affine, lt, where } from "../tensor/ops/elementwise.ts";
import { uniform } from "../tensor/ops/random.ts";
import { axisOf, show, wrong } from "../tensor/shape.ts";
import { expectTensor, type Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/**
 * In training sets a residual branch to zero with probability p and divides it by 1 - p elsewhere (Huang et al. 2016, "Deep networks with
 * stochastic depth"), by one draw for each index of `axis`; from the stream `dropPath`. timm's draws along the first axis (default), which
 * is the samples of [B, ...] but the time steps of [T, B, ...].
 */
export class DropPath extends Module {
  readonly p: number;
  readonly axis: number;

  constructor(p: number, options: { axis?: number | undefined } = {}) {
    super();
    checkOptions("DropPath", options, ["axis"]);
    const { axis = 0 } = options;
    if (!(typeof p === "number" && p >= 0 && p < 1)) wrong("DropPath", "p", "in [0, 1)", kindOf(p));
    if (!Number.isInteger(axis)) wrong("DropPath", "axis", "an integer", kindOf(axis));
    this.p = p;
    this.axis = axis;
  }

  forward(x: Tensor): Tensor {
    expectTensor("DropPath", "x", x);
    if (!this.training || this.p === 0) return x;
    if (x.rank < 1) wrong("DropPath", "x", "of rank 1 or more", show(x.shape));
    const axis = axisOf("DropPath", this.axis, x.rank);
    const draws = uniform(
      x.shape.map((n, i) => (i === axis ? n : 1)),
      { stream: "dropPath" },
    );
    return where(lt(draws, 1 - this.p), affine(x, 1 / (1 - this.p)), 0);
  }
}
