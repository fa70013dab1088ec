// An independent oracle of one neuron: the recurrence on dual numbers (a value and its derivatives for every input), where a spike's
// derivative is the surrogate's. Forward mode, so it shares nothing with the kernels' backward.

/** A value and its gradient. */
export class Dual {
  readonly v: number;
  readonly d: readonly number[];
  constructor(v: number, d: readonly number[] = []) {
    this.v = v;
    this.d = d;
  }
  private join(b: Dual | number, v: number, pa: number, pb: number): Dual {
    const other = typeof b === "number" ? [] : b.d;
    const n = Math.max(this.d.length, other.length);
    return new Dual(
      v,
      Array.from({ length: n }, (_, i) => pa * (this.d[i] ?? 0) + pb * (other[i] ?? 0)),
    );
  }
  add(b: Dual | number): Dual {
    return this.join(b, this.v + (typeof b === "number" ? b : b.v), 1, 1);
  }
  sub(b: Dual | number): Dual {
    return this.join(b, this.v - (typeof b === "number" ? b : b.v), 1, -1);
  }
  mul(b: Dual | number): Dual {
    const bv = typeof b === "number" ? b : b.v;
    return this.join(b, this.v * bv, bv, this.v);
  }
  /** A function's value, with its derivative. */
  map(v: number, slope: number): Dual {
    return new Dual(
      v,
      this.d.map((x) => x * slope),
    );
  }
  detach(): Dual {
    return new Dual(this.v);
  }
}

export const variable = (v: number, i: number): Dual =>
  new Dual(
    v,
    Array.from({ length: i + 1 }, (_, j) => (j === i ? 1 : 0)),
  );

export interface Rule {
  charge: "integrate" | "leakInput" | "leak" | "stateless";
  order: "fireThenReset" | "delayedReset" | "fireFirst";
  reset: "hard" | "soft" | "none";
  fire: (h: number) => number;
  /** Derivative of what is emitted, at membrane h. */
  slope: (h: number) => number;
  vThreshold: number;
  vReset: number;
  vRest: number;
  detach: boolean;
}

/** What is emitted at each step, and the last state. */
export function simulate(rule: Rule, x: readonly Dual[], rate: Dual, start: Dual): { emitted: Dual[]; state: Dual } {
  let v = start;
  const emit = (h: Dual): Dual => h.map(rule.fire(h.v), rule.slope(h.v));
  const reset = (h: Dual, s: Dual): Dual => {
    const spike = rule.detach ? s.detach() : s;
    if (rule.reset === "soft") return h.sub(spike.mul(rule.vThreshold));
    if (rule.reset === "none") return h;
    // (1 - S) H + S vReset, with S one where anything was emitted.
    const fired = spike.map(s.v > 0 ? 1 : 0, 1);
    return h.mul(fired.mul(-1).add(1)).add(fired.mul(rule.vReset));
  };
  const charge = (from: Dual, z: Dual): Dual => {
    if (rule.charge === "integrate") return from.add(z);
    if (rule.charge === "leakInput") return from.add(z.sub(from.sub(rule.vRest)).mul(rate));
    if (rule.charge === "leak") return from.sub(from.sub(rule.vRest).mul(rate)).add(z);
    return z;
  };
  const emitted = x.map((z) => {
    if (rule.order === "fireThenReset") {
      const h = charge(v, z);
      const s = emit(h);
      v = rule.charge === "stateless" ? new Dual(0) : reset(h, s);
      return s;
    }
    const old = emit(v);
    const h = rule.reset === "hard" ? charge(reset(v, old), z) : charge(v, z).add(reset(v, old).sub(v));
    v = h;
    return rule.order === "fireFirst" ? old : emit(h);
  });
  return { emitted, state: v };
}
