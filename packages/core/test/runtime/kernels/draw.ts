// Random arguments for kernel tests: shapes from fast-check (so that a failure shrinks and replays), values from a Philox stream.
import fc from "fast-check";
import { Rng, type Stream } from "../../../src/runtime/random.ts";
import { setSpike, words } from "../../../src/runtime/reference/spikes.ts";
import { windowTaps } from "../../../src/runtime/reference/window.ts";

/** Channel counts around the widths of words and vectors. */
const CHANNELS = [1, 3, 4, 8, 16, 31, 32, 33, 45, 64, 65, 96, 100];
/** Channel counts beyond any block that a kernel keeps in registers, on its stack or in its scratch memory. */
const WIDE_CHANNELS = [333, 1000, 1537];

export type Six<Prefix extends string> = Record<`${Prefix}${0 | 1 | 2 | 3 | 4 | 5}`, number>;

export class Draw {
  readonly #values: Stream;
  readonly #generate: fc.GeneratorValue;
  /** Few pixels and rows with many channels, instead of many shapes with few. */
  readonly wide: boolean;

  constructor(generate: fc.GeneratorValue, wide = false) {
    this.#generate = generate;
    this.wide = wide;
    this.#values = new Rng(generate(fc.nat)).stream("values");
  }

  int(min: number, max: number): number {
    return this.#generate(fc.integer, { min, max });
  }

  bool(): boolean {
    return this.#generate(fc.boolean);
  }

  flag(): 0 | 1 {
    return this.bool() ? 1 : 0;
  }

  pick<T>(...values: readonly T[]): T {
    return values[this.int(0, values.length - 1)]!;
  }

  channels(max = 100): number {
    return this.wide ? this.pick(...WIDE_CHANNELS) : this.pick(...CHANNELS.filter((c) => c <= max));
  }

  /** A real that float32 holds exactly, from a short list. */
  real(...values: readonly number[]): number {
    return Math.fround(this.pick(...values));
  }

  /** n uniform values in [lo, hi] that float32 holds exactly. */
  floats(n: number, lo = -2, hi = 2): Float64Array {
    return Float64Array.from({ length: n }, () => Math.fround(lo + (hi - lo) * this.#values.uniform()));
  }

  /** As `floats`, with some entries replaced by the given ones (edge values of a function). */
  floatsWith(n: number, lo: number, hi: number, special: readonly number[]): Float64Array {
    return this.floats(n, lo, hi).map((x) => (this.#values.uniform() < 0.2 ? special[this.#values.uniformInt(special.length)]! : x));
  }

  /** n integers in [lo, hi] as floats: ties and equalities happen. */
  whole(n: number, lo: number, hi: number): Float64Array {
    return Float64Array.from({ length: n }, () => lo + this.#values.uniformInt(hi - lo + 1));
  }

  ints(n: number, lo: number, hi: number): Int32Array {
    return Int32Array.from({ length: n }, () => lo + this.#values.uniformInt(hi - lo + 1));
  }

  bytes(n: number, lo = 0, hi = 255): Uint8Array {
    return Uint8Array.from({ length: n }, () => lo + this.#values.uniformInt(hi - lo + 1));
  }

  u32(n: number): Uint32Array {
    return Uint32Array.from({ length: n }, () => this.#values.next());
  }

  /** n elements of any value of element type number `type` (f32, i32, u8, u32). */
  elements(type: number, n: number): Float64Array | Int32Array | Uint8Array | Uint32Array {
    if (type === 0) return this.floats(n);
    if (type === 1) return this.ints(n, -(2 ** 31), 2 ** 31 - 1);
    return type === 2 ? this.bytes(n) : this.u32(n);
  }

  /** Spike rows [rows, planes, words(c)] of random density; bits past the last channel are zero. */
  spikes(rows: number, planes: number, c: number): Uint32Array {
    const density = this.pick(0, 0.1, 0.3, 0.7, 1);
    const x = new Uint32Array(rows * planes * words(c));
    for (let r = 0; r < rows; r++)
      for (let i = 0; i < c; i++)
        if (this.#values.uniform() < density) setSpike(x, r, planes, c, i, 1 + this.#values.uniformInt(2 ** planes - 1));
    return x;
  }

  /** Six dimensions of random rank, at most `limit` elements together. */
  dims(limit = 3000): Six<"d"> {
    const sizes = [1, 1, 1, 1, 1, 1];
    let rest = limit;
    for (let axis = 5; axis > 5 - this.int(1, 6) && rest > 1; axis--) {
      sizes[axis] = Math.min(rest, this.pick(1, 2, 3, 4, 5, 8, 17, 33, 100));
      rest = Math.floor(rest / sizes[axis]!);
    }
    return { d0: sizes[0]!, d1: sizes[1]!, d2: sizes[2]!, d3: sizes[3]!, d4: sizes[4]!, d5: sizes[5]! };
  }

  /**
   * A layout of these dimensions in a buffer of `length` elements: axes in a random order, with gaps; some axes broadcast (stride 0) or
   * reversed (negative stride, first element at `offset`) where allowed.
   */
  layout<Prefix extends string>(
    prefix: Prefix,
    dims: Six<"d">,
    allow: { broadcast?: boolean; reverse?: boolean } = {},
  ): { strides: Six<Prefix>; offset: number; length: number } {
    const sizes = Object.values(dims);
    const plain = this.bool();
    const order = plain ? [0, 1, 2, 3, 4, 5] : [...this.#values.permutation(6)];
    const strides = [0, 0, 0, 0, 0, 0];
    let offset = allow.reverse ? this.int(0, 5) : 0;
    let length = 1;
    for (const axis of order.reverse()) {
      const size = sizes[axis]!;
      if (allow.broadcast && this.int(0, 3) === 0) continue;
      const reversed = allow.reverse === true && this.int(0, 3) === 0;
      strides[axis] = reversed ? -length : length;
      if (reversed) offset += (size - 1) * length;
      length *= size + (plain ? 0 : this.int(0, 2));
    }
    const named = Object.fromEntries(strides.map((stride, axis) => [`${prefix}${axis}`, stride])) as Six<Prefix>;
    return { strides: named, offset, length: length + (allow.reverse ? 5 : 0) };
  }

  /**
   * WINDOW arguments with at most `limit` multiply-adds. `covered`: every window has a tap inside the image (pooling needs it);
   * `sameChannels`: ci = co.
   */
  window(options: { limit?: number; covered?: boolean; sameChannels?: boolean; dilation?: boolean; minPad?: number } = {}) {
    const { limit = 300_000, covered = false, sameChannels = false, dilation = false, minPad = 0 } = options;
    const ih = dilation ? this.pick(1, 1, 2, 3) : 1;
    const iw = dilation ? this.pick(1, 1, 2) : 1;
    const n = this.wide ? 1 : this.int(1, 3);
    const along = (inner: number) => {
      const size = this.int(1, this.wide ? 2 : 9);
      const k = this.pick(1, 2, 3, 3, this.wide ? 3 : 5);
      const stride = this.pick(1, 1, 2, 3);
      let dilate = this.pick(1, 1, 2);
      let pad = this.int(minPad, covered ? Math.floor(k / 2) : 2);
      const full = (size - 1) * inner + 1;
      let out = Math.floor((full + 2 * pad - dilate * (k - 1) - 1) / stride) + 1;
      if (out < 1) {
        pad = covered ? 0 : (k - 1) * dilate;
        dilate = covered ? 1 : dilate;
        out = Math.max(1, Math.floor((full + 2 * pad - dilate * (k - 1) - 1) / stride) + 1);
      }
      return { size, k, stride, dilate, pad, out };
    };
    const y = along(ih);
    const x = along(iw);
    const g = {
      n,
      h: y.size,
      w: x.size,
      oh: y.out,
      ow: x.out,
      kh: y.k,
      kw: x.k,
      sh: y.stride,
      sw: x.stride,
      ph: y.pad,
      pw: x.pad,
      dh: y.dilate,
      dw: x.dilate,
    };
    if (covered)
      for (let oy = 0; oy < g.oh; oy++)
        for (let ox = 0; ox < g.ow; ox++) if (windowTaps(g, oy, ox).length === 0) return this.#onePixel(n, sameChannels);
    const positions = n * g.oh * g.ow * g.kh * g.kw;
    const ci = this.channels(Math.max(1, limit / positions));
    const co = sameChannels ? ci : this.wide ? this.pick(17, 130) : this.channels(Math.max(1, limit / positions / ci));
    return { ...g, ci, co, ih, iw };
  }

  #onePixel(n: number, sameChannels: boolean) {
    const ci = this.channels();
    const co = sameChannels ? ci : this.channels();
    return { n, h: 1, w: 1, oh: 1, ow: 1, kh: 1, kw: 1, sh: 1, sw: 1, ph: 0, pw: 0, dh: 1, dw: 1, ci, co, ih: 1, iw: 1 };
  }
}

/** A float output before the call: NaN, so that an element left unwritten, or read, is seen. */
export function unwritten(n: number): Float64Array {
  return new Float64Array(n).fill(NaN);
}
