// Philox against the known answers that the Random123 library publishes; streams: independence, positions, distributions.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { philox, philoxBlock, Rng, wordToUniform } from "../../src/runtime/random.ts";

describe("philox 4x32-10", () => {
  it.each([
    [[0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
    [[0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff], "408f276d 41c83b0e a20bc7c6 6d5451fd"],
    [[0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0], "d16cfe09 94fdcceb 5001e420 24126ea1"],
  ] as const)("counter %s, key %s", (counter, key, expected) => {
    const out = new Uint32Array(4);
    philox(counter, key[0], key[1], out);
    expect([...out].map((w) => w.toString(16).padStart(8, "0")).join(" ")).toBe(expected);
  });
});

describe("streams", () => {
  it("draw the words of their blocks in order", () => {
    const stream = new Rng(7).stream("a");
    const block = new Uint32Array(4);
    for (let b = 0; b < 3; b++) {
      philoxBlock(b, stream.key0, stream.key1, block);
      for (const word of block) expect(stream.uniform()).toBe(wordToUniform(word));
    }
  });

  it("have keys of their own for every name and seed, and do not depend on one another", () => {
    const keys = new Set<string>();
    for (const seed of [0, 1, 2, 2 ** 32, 2 ** 53 - 1])
      for (const name of ["", "a", "b", "dropout", "dropout/1", "\u00e9"]) {
        const stream = new Rng(seed).stream(name);
        keys.add(`${stream.key0} ${stream.key1}`);
      }
    expect(keys.size).toBe(30);
    const alone = new Rng(3);
    const busy = new Rng(3);
    busy.stream("other").permutation(100);
    expect(busy.stream("a").next()).toBe(alone.stream("a").next());
    expect(busy.stream("a")).toBe(busy.stream("a"));
  });

  it("go on from a saved state, through JSON", () => {
    fc.assert(
      fc.property(fc.nat(30), fc.nat(9), (draws, more) => {
        const rng = new Rng(11);
        for (let i = 0; i < draws; i++) rng.stream("x").next();
        const state = JSON.parse(JSON.stringify(rng.state()));
        const expected = Array.from({ length: more }, () => rng.stream("x").next());
        rng.stream("late").next();
        const other = new Rng(11);
        for (const g of [rng, other]) {
          g.restore(state);
          expect(Array.from({ length: more }, () => g.stream("x").next())).toEqual(expected);
          expect(g.stream("late").state()).toEqual({ block: 0, word: 0 });
        }
      }),
      { seed: 1, numRuns: 30 },
    );
    expect(() => new Rng(1).restore({ seed: 2, streams: {} })).toThrow(/expected seed 1, found 2/);
    expect(() => new Rng(1).restore({ seed: 1, streams: { x: { block: -1, word: 0 } } })).toThrow(/block -1/);
  });

  it("reserve whole blocks that scalar draws never touch again", () => {
    const stream = new Rng(5).stream("init");
    expect(stream.reserve(3).offset).toBe(0);
    stream.next();
    expect(stream.reserve(2)).toEqual({ key0: stream.key0, key1: stream.key1, offset: 4 });
    expect(stream.state()).toEqual({ block: 6, word: 0 });
    for (let i = 0; i < 4; i++) stream.next();
    expect(stream.reserve(1).offset).toBe(7);
  });

  it("uniformInt is uniform, in range, and refuses what it cannot draw", () => {
    const stream = new Rng(1).stream("ints");
    const counts = new Array<number>(6).fill(0);
    for (let i = 0; i < 6000; i++) counts[stream.uniformInt(6)]!++;
    const chi2 = counts.reduce((sum, c) => sum + (c - 1000) ** 2 / 1000, 0);
    expect(chi2).toBeLessThan(20.5); // 5 degrees of freedom, p = 0.001
    // A plain modulo would make five eighths of the draws low; rejection keeps it at one half.
    let low = 0;
    for (let i = 0; i < 4000; i++) if (stream.uniformInt(3 * 2 ** 30) < 3 * 2 ** 29) low++;
    expect(Math.abs(low - 2000)).toBeLessThan(120);
    expect(stream.uniformInt(1)).toBe(0);
    expect(stream.uniformInt(2 ** 32)).toBeLessThan(2 ** 32);
    for (const n of [0, -1, 1.5, NaN, 2 ** 32 + 1]) expect(() => stream.uniformInt(n)).toThrow(/uniformInt/);
  });

  it("normal has the moments of a standard normal", () => {
    const stream = new Rng(2).stream("noise");
    const n = 20000;
    const xs = Array.from({ length: n }, () => stream.normal());
    const mean = xs.reduce((s, x) => s + x, 0) / n;
    const moment = (k: number) => xs.reduce((s, x) => s + (x - mean) ** k, 0) / n;
    expect(Math.abs(mean)).toBeLessThan(0.03);
    expect(moment(2)).toBeCloseTo(1, 1);
    expect(Math.abs(moment(3))).toBeLessThan(0.1);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.2);
  });

  it("permutation holds every index once, and each place is uniform", () => {
    const stream = new Rng(3).stream("shuffle");
    fc.assert(
      fc.property(fc.nat(50), (n) => {
        expect([...stream.permutation(n)].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
      }),
      { seed: 1, numRuns: 50 },
    );
    const first = new Array<number>(5).fill(0);
    for (let i = 0; i < 5000; i++) first[stream.permutation(5)[0]!]!++;
    expect(first.reduce((sum, c) => sum + (c - 1000) ** 2 / 1000, 0)).toBeLessThan(18.5); // p = 0.001
  });

  it("refuses seeds that are not integers from 0 to 2^53 - 1", () => {
    for (const seed of [-1, 0.5, NaN, 2 ** 53]) expect(() => new Rng(seed)).toThrow(/seed/);
  });
});
