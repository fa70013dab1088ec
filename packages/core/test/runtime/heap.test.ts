// The heap against a model that only remembers what is taken: no overlap, no loss, freed neighbours join.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Heap } from "../../src/runtime/heap.ts";

const ALIGN = 64;
const rounded = (bytes: number) => Math.max(ALIGN, Math.ceil(bytes / ALIGN) * ALIGN);

interface Taken {
  slab: number;
  offset: number;
  size: number;
}

/** Slabs with gaps before their first address, as devices add them. */
function heapOf(slabs: readonly { offset: number; bytes: number }[]): Heap {
  const heap = new Heap();
  slabs.forEach(({ offset, bytes }, slab) => heap.add(slab, offset, bytes));
  return heap;
}

const take = (heap: Heap, bytes: number): Taken | null => {
  const place = heap.take(bytes);
  return place && { slab: place.slab, offset: place.offset, size: rounded(bytes) };
};

const slab = fc.record({
  offset: fc.integer({ min: 0, max: 8 }).map((n) => n * ALIGN),
  bytes: fc.integer({ min: 1, max: 200 }).map((n) => n * ALIGN),
});
// Takes of some bytes (0 too), gives of the k-th piece held.
const action = fc.oneof(
  { weight: 3, arbitrary: fc.record({ take: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 6000 })) }) },
  { weight: 2, arbitrary: fc.record({ give: fc.nat(1000) }) },
);

describe("random takes and gives", () => {
  it("never overlap, stay in their slab, are aligned; counts are right; all joins in the end", () => {
    fc.assert(
      fc.property(fc.array(slab, { minLength: 1, maxLength: 3 }), fc.array(action, { maxLength: 120 }), (slabs, actions) => {
        const heap = heapOf(slabs);
        const held: Taken[] = [];
        let used = 0;
        let peak = 0;
        for (const a of actions) {
          if ("take" in a) {
            const piece = take(heap, a.take);
            if (!piece) continue;
            const { offset, bytes } = slabs[piece.slab] as { offset: number; bytes: number };
            expect(piece.offset % ALIGN).toBe(0);
            expect(piece.offset).toBeGreaterThanOrEqual(offset);
            expect(piece.offset + piece.size).toBeLessThanOrEqual(offset + bytes);
            for (const other of held)
              if (other.slab === piece.slab)
                expect(piece.offset + piece.size <= other.offset || other.offset + other.size <= piece.offset).toBe(true);
            held.push(piece);
            used += piece.size;
            peak = Math.max(peak, used);
          } else if (held.length) {
            const [piece] = held.splice(a.give % held.length, 1) as [Taken];
            heap.give(piece.slab, piece.offset);
            used -= piece.size;
          }
          expect({ used: heap.used, peak: heap.peak }).toEqual({ used, peak });
        }
        for (const { slab: s, offset } of held) heap.give(s, offset);
        expect(heap.used).toBe(0);
        expect(heap.reserved).toBeGreaterThanOrEqual(peak);
        // Every slab is one free block again.
        const whole = [...slabs].sort((a, b) => b.bytes - a.bytes).map(({ bytes }) => take(heap, bytes));
        expect(heap.reserved).toBe(slabs.reduce((n, s) => n + s.bytes, 0));
        expect(whole.map((p) => p?.size)).toEqual([...slabs].map((s) => s.bytes).sort((a, b) => b - a));
        expect(heap.take(1)).toBeNull();
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  it("find room wherever one free block is large enough", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 3, maxLength: 12 }), fc.nat(), (sizes, chosen) => {
        // Walls of one unit keep the freed pieces apart.
        const total = sizes.reduce((n, s) => n + rounded(s) + ALIGN, 0);
        const heap = heapOf([{ offset: 0, bytes: total }]);
        const pieces = sizes.map((s) => {
          const piece = take(heap, s) as Taken;
          heap.take(1);
          return piece;
        });
        const free = pieces.filter((_, i) => (i + chosen) % 2 === 0);
        for (const { slab: s, offset } of free) heap.give(s, offset);
        const largest = Math.max(...free.map((p) => p.size));
        expect(heap.take(largest + 1)).toBeNull();
        expect(take(heap, largest)?.size).toBe(largest);
      }),
      { seed: 1, numRuns: 200 },
    );
  });
});

describe("slabs", () => {
  it("grow: what is added behind a slab joins its free end", () => {
    const heap = heapOf([{ offset: 128, bytes: 640 }]);
    const first = heap.take(320) as { offset: number };
    expect(heap.take(640)).toBeNull();
    heap.add(0, 768, 320);
    expect(heap.reserved).toBe(320);
    const second = heap.take(640) as { offset: number };
    expect(heap.reserved).toBe(960);
    expect([first.offset, second.offset]).toEqual([128, 448]);
    heap.give(0, 448);
    heap.give(0, 128);
    expect(heap.take(960)).toMatchObject({ slab: 0, offset: 128 });
  });

  it("never join each other", () => {
    const heap = heapOf([
      { offset: 0, bytes: 128 },
      { offset: 128, bytes: 128 },
    ]);
    expect(heap.take(256)).toBeNull();
    expect([heap.take(128)?.slab, heap.take(128)?.slab].sort()).toEqual([0, 1]);
  });

  it("the same takes after the same gives are the same places: a step's memory is stable", () => {
    const heap = heapOf([{ offset: 0, bytes: 1 << 16 }]);
    const sizes = [100, 5000, 64, 777, 12000, 300, 300];
    const step = () => {
      const pieces = sizes.map((s) => take(heap, s) as Taken);
      // Freed in another order than taken.
      for (const i of [3, 0, 6, 1, 5, 2, 4]) heap.give(pieces[i]?.slab as number, pieces[i]?.offset as number);
      return pieces.map((p) => p.offset);
    };
    const first = step();
    expect(step()).toEqual(first);
    expect(heap.peak).toBe(sizes.reduce((n, s) => n + rounded(s), 0));
  });

  it("the smallest block that fits is taken, of equal ones the first: the end of a slab stays untouched", () => {
    const heap = heapOf([{ offset: 0, bytes: 1 << 16 }]);
    const [a, , b, , c] = [640, 64, 704, 64, 640, 64].map((s) => take(heap, s) as Taken) as [Taken, Taken, Taken, Taken, Taken];
    const { reserved } = heap;
    for (const { slab: s, offset } of [b, c, a]) heap.give(s, offset);
    expect([640, 640, 640].map((s) => heap.take(s)?.offset)).toEqual([a.offset, c.offset, b.offset]);
    expect(heap.reserved).toBe(reserved);
  });

  it("giving twice, or what was never taken, is a mistake in the engine", () => {
    const heap = heapOf([{ offset: 0, bytes: 256 }]);
    const { offset } = heap.take(64) as { offset: number };
    heap.give(0, offset);
    expect(() => heap.give(0, offset)).toThrow("internal: freeing unknown memory 0:0");
    expect(() => heap.give(1, 0)).toThrow("internal: freeing unknown memory 1:0");
  });
});
