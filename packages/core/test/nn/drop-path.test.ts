// Stochastic depth by its statistics, and the positions of sines and cosines by their formula.
import { beforeAll, describe, expect, it } from "vitest";
import { DropPath } from "../../src/nn/drop-path.ts";
import { sinCosPositions } from "../../src/nn/positions.ts";
import { init, randomness } from "../../src/runtime/engine.ts";
import { scope } from "../../src/tensor/scope.ts";
import { ones } from "../../src/tensor/tensor.ts";
import { draw, gradcheck } from "../gradcheck.ts";

beforeAll(() => init({ device: "reference", seed: 4 }));

describe("DropPath", () => {
  it("keeps or drops a whole index of its axis, and divides what it keeps", () => {
    scope(() => {
      const layer = new DropPath(0.25, { axis: 1 });
      const y = layer.forward(ones([2, 400, 3])).dataSync();
      let kept = 0;
      for (let b = 0; b < 400; b++) {
        const own = [0, 1].flatMap((t) => [...y.slice((t * 400 + b) * 3, (t * 400 + b + 1) * 3)]);
        expect(new Set(own).size).toBe(1);
        if (own[0] !== 0) {
          expect(own[0]).toBeCloseTo(4 / 3, 12);
          kept++;
        }
      }
      expect(kept / 400).toBeGreaterThan(0.68);
      expect(kept / 400).toBeLessThan(0.82);
    });
  });

  it("draws along the first axis unless told otherwise, from a stream of its own", () => {
    scope(() => {
      const before = randomness().state().streams;
      const y = new DropPath(0.5).forward(ones([64, 2, 2])).dataSync();
      const rows = Array.from({ length: 64 }, (_, i) => [...y.slice(4 * i, 4 * i + 4)]);
      for (const row of rows) expect(new Set(row).size).toBe(1);
      expect(new Set(rows.map((r) => r[0]))).toEqual(new Set([0, 2]));
      const { dropPath: _, ...others } = randomness().state().streams;
      const { dropPath: __, ...othersBefore } = before;
      expect(others).toEqual(othersBefore);
    });
  });

  it("gives its input back in eval mode and at rate 0, and refuses rates that keep nothing", () => {
    const x = ones([2, 2]);
    expect(new DropPath(0.9).eval().forward(x)).toBe(x);
    expect(new DropPath(0).forward(x)).toBe(x);
    expect(() => new DropPath(1)).toThrow("DropPath: p must be in [0, 1), found 1");
  });

  it("has the gradient of what it does", () => gradcheck((x) => new DropPath(0.5).forward(x), [draw([6, 2, 3], 1)]));
});

it("positions tell the column in the first half, the row in the second", () => {
  scope(() => {
    const [dim, height, width] = [8, 2, 3];
    const table = sinCosPositions(dim, height, width).dataSync();
    for (let row = 0; row < height; row++)
      for (let column = 0; column < width; column++)
        for (const [half, p] of [column, row].entries())
          for (let j = 0; j < dim / 4; j++) {
            const angle = p / 10000 ** (j / (dim / 4));
            const at = (row * width + column) * dim + (half * dim) / 2 + j;
            expect(table[at]).toBeCloseTo(Math.sin(angle), 12);
            expect(table[at + dim / 4]).toBeCloseTo(Math.cos(angle), 12);
          }
    expect(() => sinCosPositions(6, 2)).toThrow("sinCosPositions: dim must be a positive multiple of 4, found 6");
  });
});
