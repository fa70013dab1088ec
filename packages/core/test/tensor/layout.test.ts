// Layout operations against plain index arithmetic, on floats, integers and spikes; gradients by differences; wrong arguments.
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { Affine } from "../../src/tensor/lazy.ts";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import * as l from "../../src/tensor/ops/layout.ts";
import { keep } from "../../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../../src/tensor/shape.ts";
import { backward } from "../../src/tensor/tape.ts";
import { full, Tensor, tensor } from "../../src/tensor/tensor.ts";
import {
  acrossDevices,
  type Case,
  compiledDevices,
  draw,
  drawSpikes,
  floats,
  gradcheck,
  integers,
  ints,
  numbers,
  RUNS,
  shapes,
  spikes,
  start,
} from "../gradcheck.ts";

beforeAll(() => start("reference"));

/** Index along each axis of element i. */
function indexOf(i: number, shape: Shape): number[] {
  const index: number[] = [];
  let rest = i;
  for (let k = shape.length - 1; k >= 0; k--) {
    index[k] = rest % (shape[k] as number);
    rest = Math.floor(rest / (shape[k] as number));
  }
  return index;
}

function flatOf(index: readonly number[], shape: Shape): number {
  return shape.reduce((k, d, i) => k * d + (index[i] as number), 0);
}

/** y of `shape` with y[index] = values[source(index)]. */
function build(shape: Shape, source: (index: number[]) => number): number[] {
  return Array.from({ length: sizeOf(shape) }, (_, i) => source(indexOf(i, shape)));
}

/**
 * Check `f` on floats, integers, bytes and spikes (one and three planes) of `shape` against a list of source positions, that the
 * dtype stays, and, on floats, the gradient.
 */
function checkMove(shape: Shape, f: (x: Tensor) => Tensor, outShape: Shape, source: (index: number[]) => number): void {
  const from = build(outShape, source);
  const check = (x: Tensor) => {
    const values = x.dataSync();
    const y = f(x);
    expect(y.shape).toEqual(outShape);
    expect([...y.dataSync()]).toEqual(from.map((k) => (k < 0 ? 0 : values[k])));
    return y;
  };
  expect(check(draw(shape, 1)).dtype).toBe("f32");
  expect(check(integers(shape, 2, 1000)).dtype).toBe("i32");
  expect(check(tensor(Uint8Array.from(numbers(sizeOf(shape), 3, 0, 256)), shape)).dtype).toBe("u8");
  if (shape.length)
    for (const format of [
      { planes: 1, scale: 1 },
      { planes: 3, scale: 0.5 },
    ]) {
      const y = check(drawSpikes(shape, 4, format));
      expect(y.spikes).toEqual(y.rank ? format : null);
    }
  gradcheck(f, [draw(shape, 5)]);
}

/** As `shapes`, with a last axis that may pass a word. */
const rows = fc.tuple(shapes(0, 3), fc.constantFrom(1, 3, 32, 45)).map(([lead, c]) => [...lead, c]);
const FEW = { ...RUNS, numRuns: 6 };

describe("reshape", () => {
  it("keeps the order of elements", () => {
    fc.assert(
      fc.property(rows, fc.nat(3), (shape, how) => {
        const n = sizeOf(shape);
        const to = how === 0 ? [n] : how === 1 ? [1, ...shape] : how === 2 ? [...shape].reverse() : [...shape, 1];
        checkMove(
          shape,
          (x) => l.reshape(x, to),
          to,
          (index) => flatOf(index, to),
        );
      }),
      FEW,
    );
    expect(l.reshape(draw([2, 6], 1), [3, -1]).shape).toEqual([3, 4]);
    expect(l.squeeze(draw([1, 2, 1], 1)).shape).toEqual([2]);
    expect(l.squeeze(draw([1, 2, 1], 1), -1).shape).toEqual([1, 2]);
    expect(l.unsqueeze(draw([2], 1), -1).shape).toEqual([2, 1]);
    expect(l.reshape(draw([1], 1), []).shape).toEqual([]);
  });

  it("shares memory, of spikes too where whole words move", () => {
    const x = draw([2, 6], 1);
    expect(l.reshape(x, [12]).storage).toBe(x.storage);
    const s = drawSpikes([2, 3, 64], 1);
    expect(l.reshape(s, [6, 64]).storage).toBe(s.storage);
    expect(l.reshape(s, [6, 2, 32]).storage).toBe(s.storage);
    expect(l.reshape(s, [6, 2, 32]).dataSync()).toEqual(s.dataSync());
    resetDenseViews();
    const odd = l.reshape(s, [6, 4, 16]);
    expect(denseViews().get("reshape")).toBe(1);
    expect(odd.dataSync()).toEqual(s.dataSync());
  });

  it("does not make a pending value that keeps its channels", () => {
    const [values, scale, shift] = [draw([4, 3], 1), draw([3], 2), draw([3], 3)];
    const pending = new Tensor(
      [4, 3],
      "f32",
      null,
      null,
      new Affine([4, 3], {
        x: keep(values.alias()),
        scale: keep(scale.alias()),
        shift: keep(shift.alias()),
        mean: keep(full([3], 0)),
        rstd: keep(full([3], 1)),
        plus: null,
      }),
    );
    const y = l.reshape(pending, [2, 2, 3]);
    expect(y.affine?.parts.x.shape).toEqual([2, 2, 3]);
    const expected = values.mul(scale).add(shift).dataSync();
    expect(y.dataSync()).toEqual(expected);
    expect(l.reshape(pending, [12]).dataSync()).toEqual(expected);
  });

  it("refuses shapes of another size", () => {
    expect(() => l.reshape(draw([2, 3], 1), [4])).toThrow(
      "reshape: the shape must be of 6 elements, as [2, 3] (with -1 at most once), found [4]",
    );
    expect(() => l.reshape(draw([2, 3], 1), [-1, -1])).toThrow(/with -1 at most once/);
    expect(() => l.reshape(draw([2, 3], 1), [4, -1])).toThrow(/of 6 elements/);
    expect(() => l.squeeze(draw([2, 3], 1), 0)).toThrow("squeeze: axis 0 of [2, 3] must be of size 1, found 2");
  });
});

describe("moves", () => {
  it("permute", () => {
    fc.assert(
      fc.property(
        rows.chain((shape) =>
          fc.tuple(
            fc.constant(shape),
            fc.shuffledSubarray(
              shape.map((_, i) => i),
              { minLength: shape.length },
            ),
          ),
        ),
        ([shape, axes]) => {
          const to = axes.map((a) => shape[a] as number);
          checkMove(
            shape,
            (x) => l.permute(x, axes),
            to,
            (index) => {
              const source: number[] = [];
              axes.forEach((a, i) => {
                source[a] = index[i] as number;
              });
              return flatOf(source, shape);
            },
          );
        },
      ),
      RUNS,
    );
    expect(() => l.permute(draw([2, 3], 1), [0, 0])).toThrow("permute: axes must be every axis of [2, 3] once, found [0, 0]");
    expect(() => l.permute(draw([2, 3], 1), [0, 2])).toThrow("permute: axis must be an integer in [-2, 2), found 2");
  });

  it("transpose exchanges the last two axes, or any two", () => {
    checkMove(
      [2, 3, 4],
      (x) => l.transpose(x),
      [2, 4, 3],
      ([a, b, c]) => flatOf([a as number, c as number, b as number], [2, 3, 4]),
    );
    checkMove(
      [2, 3, 4],
      (x) => l.transpose(x, 0, -1),
      [4, 3, 2],
      ([a, b, c]) => flatOf([c as number, b as number, a as number], [2, 3, 4]),
    );
  });

  it("leading axes of spikes move as words", () => {
    resetDenseViews();
    const s = drawSpikes([2, 3, 45], 1, { planes: 2, scale: 1 });
    l.permute(s, [1, 0, 2]);
    l.slice(s, 1, [0, 2]);
    l.concat([s, s], 1);
    l.stack([s, s]);
    l.split(s, 1, 1);
    l.repeat(s, 4);
    l.flip(s, 0);
    l.pad(s, [
      [1, 0],
      [0, 2],
      [0, 0],
    ]);
    expect([...denseViews()]).toEqual([]);
  });

  it("flip", () => {
    fc.assert(
      fc.property(rows, fc.nat(3), (shape, pick) => {
        const axis = pick % shape.length;
        checkMove(
          shape,
          (x) => l.flip(x, axis),
          shape,
          (index) => flatOf(index.with(axis, (shape[axis] as number) - 1 - (index[axis] as number)), shape),
        );
      }),
      FEW,
    );
  });

  it("flatten walks in PyTorch's order: channels first", () => {
    const order = (shape: Shape, start: number) => {
      // Positions of an array in PyTorch's layout, by filling a channels-last one with what PyTorch's flat index would be.
      const channelsTo = Math.max(start, shape.length - 3);
      const torch = [...shape.slice(0, channelsTo), shape[shape.length - 1] as number, ...shape.slice(channelsTo, -1)];
      return build(torch, (index) => {
        const lead = index.slice(0, channelsTo);
        return flatOf([...lead, ...index.slice(channelsTo + 1), index[channelsTo] as number], shape);
      });
    };
    const flat: [number[], number, number[]][] = [
      [[2, 3, 4, 5], 1, [2, 60]],
      [[2, 2, 3, 4, 5], 2, [2, 2, 60]],
      [[2, 7, 45], 1, [2, 315]],
      [[2, 45], 1, [2, 45]],
      [[3, 2, 2, 33], 0, [396]],
    ];
    for (const [shape, start, to] of flat) {
      const from = order(shape, start);
      checkMove(
        shape,
        (x) => l.flatten(x, start),
        to,
        (index) => from[flatOf(index, to)] as number,
      );
    }
    expect(l.flatten(tensor(3)).shape).toEqual([1]);
  });

  it("slice: ranges, steps, single positions, negative positions", () => {
    const shape = [5, 4, 45];
    const at = (...index: number[]) => flatOf(index, shape);
    checkMove(
      shape,
      (x) => l.slice(x, [1, 4]),
      [3, 4, 45],
      ([a, b, c]) => at((a as number) + 1, b as number, c as number),
    );
    checkMove(
      shape,
      (x) => l.slice(x, null, -1),
      [5, 45],
      ([a, c]) => at(a as number, 3, c as number),
    );
    checkMove(
      shape,
      (x) => l.slice(x, [0, null, 2], 1, [3, -2]),
      [3, 40],
      ([a, c]) => at(2 * (a as number), 1, (c as number) + 3),
    );
    checkMove(
      shape,
      (x) => l.slice(x, 1, 2, 3),
      [],
      () => at(1, 2, 3),
    );
    checkMove(
      shape,
      (x) => l.narrow(x, 1, 2, 2),
      [5, 2, 45],
      ([a, b, c]) => at(a as number, (b as number) + 2, c as number),
    );
    expect(l.slice(draw([3], 1), [2, 1]).shape).toEqual([0]);
    expect(l.slice(draw([3], 1), [-9, 9]).shape).toEqual([3]);
    expect(() => l.slice(draw([3], 1), 3)).toThrow("slice: the index of axis 0 must be an integer in [-3, 3), found 3");
    expect(() => l.slice(draw([3], 1), [0, 2, -1])).toThrow(/step of axis 0 must be at least 1 \(flip reverses\)/);
    expect(() => l.slice(draw([3], 1), [0.5, 2])).toThrow(/range of axis 0 must be of integers/);
    expect(() => l.slice(draw([3], 1), 0, 0)).toThrow(/slice: ranges must be at most 1/);
    expect(() => l.narrow(draw([3], 1), 0, 2, 2)).toThrow("narrow: start and length must be within axis 0 of size 3, found 2 and 2");
  });

  it("expand and repeat", () => {
    checkMove(
      [3, 1, 45],
      (x) => l.expand(x, [2, -1, 4, -1]),
      [2, 3, 4, 45],
      ([, a, , c]) => flatOf([a as number, 0, c as number], [3, 1, 45]),
    );
    checkMove(
      [3, 1],
      (x) => l.expand(x, [3, 33]),
      [3, 33],
      ([a]) => a as number,
    );
    checkMove(
      [],
      (x) => l.expand(x, [2, 2]),
      [2, 2],
      () => 0,
    );
    checkMove(
      [3, 45],
      (x) => l.repeat(x, 4),
      [4, 3, 45],
      ([, a, c]) => flatOf([a as number, c as number], [3, 45]),
    );
    expect(() => l.expand(draw([3], 1), [2])).toThrow("expand: the second argument must be broadcastable with [3], found [2]");
    expect(() => l.expand(draw([3, 1], 1), [3])).toThrow("expand: the shape must be one that [3, 1] broadcasts to, found [3]");
    expect(() => l.repeat(draw([3], 1), 0)).toThrow("repeat: steps must be an integer of at least 1, found 0");
  });

  it("pad", () => {
    checkMove(
      [2, 45],
      (x) =>
        l.pad(x, [
          [1, 2],
          [0, 0],
        ]),
      [5, 45],
      ([a, c]) => {
        const row = (a as number) - 1;
        return row < 0 || row > 1 ? -1 : row * 45 + (c as number);
      },
    );
    checkMove(
      [2, 3],
      (x) =>
        l.pad(x, [
          [0, 0],
          [2, 1],
        ]),
      [2, 6],
      ([a, c]) => {
        const column = (c as number) - 2;
        return column < 0 || column > 2 ? -1 : (a as number) * 3 + column;
      },
    );
    const filled = l.pad(drawSpikes([3], 1), [[1, 0]], -1);
    expect(filled.dtype).toBe("f32");
    expect(filled.dataSync()[0]).toBe(-1);
    expect(() => l.pad(draw([2], 1), [])).toThrow("pad: widths must be one pair for each of the 1 axes of [2], found 0 pairs");
    expect(() => l.pad(draw([2], 1), [[-1, 0]])).toThrow("pad: every width must be an integer of at least 0, found -1");
  });
});

describe("joining and cutting", () => {
  it("concat and split are inverse, on every dtype and axis", () => {
    fc.assert(
      fc.property(rows, fc.nat(3), fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 3 }), (shape, pick, sizes) => {
        const axis = pick % shape.length;
        const full = shape.with(
          axis,
          sizes.reduce((n, s) => n + s, 0),
        );
        for (const x of [
          draw(full, 1),
          integers(full, 2, 9),
          ...(full.at(-1) ? [drawSpikes(full, 3), drawSpikes(full, 4, { planes: 2, scale: 2 })] : []),
        ]) {
          const parts = l.split(x, sizes, axis);
          expect(parts.map((p) => p.shape[axis])).toEqual(sizes);
          if (x.dtype === "spikes" && sizes.includes(0)) continue;
          const whole = l.concat(parts, axis);
          expect(whole.dtype).toBe(x.dtype);
          expect([...whole.dataSync()]).toEqual([...x.dataSync()]);
        }
      }),
      RUNS,
    );
  });

  it("gradients", () => {
    gradcheck((a, b, c) => l.concat([a, b, a, c], 1), [draw([2, 3, 2], 1), draw([2, 1, 2], 2), draw([2, 2, 2], 3)]);
    gradcheck((a, b) => l.stack([a, b], 1), [draw([2, 3], 1), draw([2, 3], 2)]);
    gradcheck((a) => l.split(a, [1, 3, 1], 1)[1] as Tensor, [draw([2, 5], 1)]);
    gradcheck(
      (a) => {
        const [x, , z] = l.split(a, 2) as [Tensor, Tensor, Tensor];
        return x.slice([0, 1]).mul(z);
      },
      [draw([5, 2], 1)],
    );
    gradcheck((a) => (l.chunk(a, 2, 1)[0] as Tensor).mul(l.chunk(a, 2, 1)[1] as Tensor), [draw([2, 4], 1)]);
    gradcheck((a) => (l.unbind(a, 1)[2] as Tensor).square(), [draw([2, 3, 2], 1)]);
  });

  it("words of whole channels join along the channel axis", () => {
    resetDenseViews();
    const [a, b] = [drawSpikes([3, 32], 1), drawSpikes([3, 64], 2)];
    const y = l.concat([a, b], -1);
    expect([...denseViews()]).toEqual([]);
    expect([...y.dataSync()]).toEqual([...l.concat([a.toDense(), b.toDense()], -1).dataSync()]);
  });

  it("spikes of different formats, or with floats, join as floats; the gradient of a spike part is dense", () => {
    const [a, b] = [drawSpikes([2, 5], 1), drawSpikes([2, 5], 2, { planes: 2, scale: 1 })];
    expect(l.concat([a, b]).dtype).toBe("f32");
    a.requiresGrad = true;
    const y = l.concat([a, draw([2, 5], 3)], 1);
    expect(y.dtype).toBe("f32");
    backward(y, { gradient: draw([2, 10], 4) });
    expect(a.grad?.dtype).toBe("f32");
    expect([...(a.grad as Tensor).dataSync()]).toEqual([...draw([2, 10], 4).slice(null, [0, 5]).dataSync()]);
  });

  it("wrong arguments", () => {
    expect(() => l.concat([])).toThrow("concat: tensors must be at least one tensor, found none");
    expect(() => l.concat([draw([2, 3], 1), draw([2, 4], 1)])).toThrow(
      "concat: tensor 1 must be of shape [2, 3] except for axis 0, found [2, 4]",
    );
    expect(() => l.concat([draw([2], 1), integers([2], 1, 2)])).toThrow("concat: tensor 1 must be of dtype f32, found i32");
    expect(() => l.stack([draw([2], 1), draw([3], 1)])).toThrow("stack: tensor 1 must be of shape [2], found [3]");
    expect(() => l.split(draw([5], 1), [2, 2])).toThrow("split: sizes must be integers that sum to 5, the size of axis 0, found [2, 2]");
    expect(() => l.chunk(draw([5], 1), 0)).toThrow("chunk: parts must be an integer of at least 1, found 0");
  });
});

it("gradients of spikes are those of their dense values", () => {
  const ops: ((x: Tensor) => Tensor)[] = [
    (x) => l.permute(x, [1, 0, 2]),
    (x) => l.permute(x, [2, 0, 1]),
    (x) => l.flatten(x, 1),
    (x) => l.slice(x, 0, [1, 3], [2, 40, 3]),
    (x) => l.repeat(x, 3),
    (x) =>
      l.pad(x, [
        [1, 0],
        [0, 1],
        [3, 3],
      ]),
    (x) => l.reshape(x, [-1, 9]),
  ];
  for (const f of ops) {
    const s = drawSpikes([2, 3, 45], 1);
    const x = s.toDense();
    s.requiresGrad = x.requiresGrad = true;
    const y = f(s);
    const g = draw(y.shape, 2);
    backward(y, { gradient: g });
    backward(f(x), { gradient: g });
    expect(s.grad?.dtype).toBe("f32");
    expect((s.grad as Tensor).dataSync()).toEqual((x.grad as Tensor).dataSync());
  }
});

const cases: Record<string, Case> = {
  permute: { inputs: [floats([3, 4, 5, 6], 1)], run: (x) => l.permute(x, [2, 0, 3, 1]) },
  "permute spikes": { inputs: [spikes([3, 4, 45], 1)], run: (x) => l.permute(x, [1, 0, 2]) },
  "permute spike channels": { inputs: [spikes([3, 4, 45], 1)], run: (x) => l.permute(x, [2, 0, 1]) },
  "permute large": { inputs: [floats([70, 30, 40], 1)], run: (x) => l.permute(x, [1, 2, 0]) },
  "flatten spikes": { inputs: [spikes([2, 4, 4, 33], 1, { planes: 2, scale: 0.5 })], run: (x) => l.flatten(x, 1) },
  flip: { inputs: [floats([3, 7, 5], 1)], run: (x) => l.flip(x, [0, 2]) },
  slice: { inputs: [floats([9, 8, 7], 1)], run: (x) => l.slice(x, [1, null, 3], 2, [-4, -1]) },
  "slice integers": { inputs: [ints([9, 8], 1, 100)], run: (x) => l.slice(x, [1, null, 3], [2, 7, 2]) },
  "slice bytes": { inputs: [ints([9, 8], 1, 100)], run: (x) => l.slice(x.to("u8"), [1, null, 3], [2, 7, 2]) },
  expand: { inputs: [floats([3, 1, 5], 1)], run: (x) => l.expand(x, [4, 3, 6, 5]) },
  "repeat spikes": { inputs: [spikes([6, 70], 1)], run: (x) => l.repeat(x, 4) },
  pad: {
    inputs: [floats([4, 5], 1)],
    run: (x) =>
      l.pad(
        x,
        [
          [1, 2],
          [3, 0],
        ],
        0.5,
      ),
  },
  "pad bytes": {
    inputs: [ints([4, 5], 1, 9)],
    run: (x) =>
      l.pad(
        x.to("u8"),
        [
          [1, 2],
          [3, 0],
        ],
        7,
      ),
  },
  concat: { inputs: [floats([4, 5], 1), floats([4, 3], 2)], run: (a, b) => l.concat([a, b, a], 1) },
  "concat spikes": { inputs: [spikes([4, 64], 1), spikes([4, 32], 2)], run: (a, b) => l.concat([a, b, a], 1) },
  "stack spikes": { inputs: [spikes([4, 33], 1), spikes([4, 33], 2)], run: (a, b) => l.stack([a, b], -1) },
  split: { inputs: [floats([4, 9], 1)], run: (x) => l.split(x, [2, 3, 4], 1)[1] as Tensor },
};

it.each(compiledDevices())("%s agrees with the reference", (name) => acrossDevices(name, cases));
