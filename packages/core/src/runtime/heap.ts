/**
 * The heap of a compiled device: first splits, then joins free blocks inside slabs of device memory.
 *
 * Best fit: of the free blocks that are large enough the smallest, and of equal ones that of the lowest address. Free blocks hang in bins by
 * size and neighbours are linked by address, so that few blocks are looked at and freed neighbours join at once. The end of a slab, to
 * which nobody may have written yet, is taken only where nothing else fits: the system backs little more than what is used at one time. Addresses
 * are plain numbers; nothing is kept inside the memory itself. Training allocates the same sizes in every step, so that after the first
 * steps no more memory is touched.
 */

const ALIGN = 64;

interface Block {
  /** Offset in the slab, and size, in bytes. */
  offset: number;
  size: number;
  free: boolean;
  slab: number;
  before: Block | null;
  after: Block | null;
  /** Links inside the bin of free blocks. */
  up: Block | null;
  down: Block | null;
}

/** Four bins for each power of two. */
function binOf(size: number): number {
  const units = size / ALIGN;
  const log = units < 2 ** 32 ? 31 - Math.clz32(units) : Math.floor(Math.log2(units));
  const quarter = Math.floor((units / 2 ** log - 1) * 4);
  return log * 4 + Math.min(3, quarter);
}

export class Heap {
  private readonly bins: (Block | null)[] = [];
  private readonly live = new Map<number, Block>();
  private readonly lastOf: Block[] = [];
  /** By slab: the end of what was ever taken. */
  private readonly tops: number[] = [];
  used = 0;
  peak = 0;
  /** Bytes up to the end of what was ever taken of each slab. */
  reserved = 0;

  /** Add `bytes` of memory as slab `slab` (its addresses begin at `offset`), or lengthen that slab. */
  add(slab: number, offset: number, bytes: number): void {
    this.tops[slab] ??= offset;
    const last = this.lastOf[slab];
    const block: Block = { offset, size: bytes, free: false, slab, before: last ?? null, after: null, up: null, down: null };
    if (last) last.after = block;
    this.lastOf[slab] = block;
    this.release(block);
  }

  /** Take `bytes`; returns the slab and offset, or null when no free block is large enough. */
  take(bytes: number): { slab: number; offset: number } | null {
    const size = Math.max(ALIGN, Math.ceil(bytes / ALIGN) * ALIGN);
    const block = this.find(size);
    if (!block) return null;
    this.unlink(block);
    if (block.size > size) {
      const rest: Block = { ...block, offset: block.offset + size, size: block.size - size, before: block, up: null, down: null };
      if (block.after) block.after.before = rest;
      else this.lastOf[block.slab] = rest;
      block.after = rest;
      block.size = size;
      this.link(rest);
    }
    block.free = false;
    const more = block.offset + block.size - (this.tops[block.slab] as number);
    if (more > 0) {
      this.reserved += more;
      this.tops[block.slab] = block.offset + block.size;
    }
    this.live.set(key(block.slab, block.offset), block);
    this.used += size;
    if (this.used > this.peak) this.peak = this.used;
    return block;
  }

  /** Give a block back. */
  give(slab: number, offset: number): void {
    const block = this.live.get(key(slab, offset));
    if (!block) throw new Error(`internal: freeing unknown memory ${slab}:${offset}`);
    this.live.delete(key(slab, offset));
    this.used -= block.size;
    this.release(block);
  }

  private find(size: number): Block | null {
    // Blocks of the first bin may be a little too small; any block of a later bin fits, and is larger than all before.
    for (let bin = binOf(size); bin < this.bins.length; bin++) {
      let best: Block | null = null;
      for (let block = this.bins[bin] ?? null; block; block = block.down)
        if (block.size >= size && block.after && (!best || comesFirst(block, best))) best = block;
      if (best) return best;
    }
    return this.lastOf.find((block) => block.free && block.size >= size) ?? null;
  }

  private release(block: Block): void {
    let joined = block;
    const { before, after } = block;
    if (before?.free) {
      this.unlink(before);
      before.size += joined.size;
      before.after = joined.after;
      if (joined.after) joined.after.before = before;
      else this.lastOf[joined.slab] = before;
      joined = before;
    }
    if (after?.free) {
      this.unlink(after);
      joined.size += after.size;
      joined.after = after.after;
      if (after.after) after.after.before = joined;
      else this.lastOf[joined.slab] = joined;
    }
    this.link(joined);
  }

  private link(block: Block): void {
    const bin = binOf(block.size);
    while (this.bins.length <= bin) this.bins.push(null);
    const head = this.bins[bin] ?? null;
    block.free = true;
    block.up = null;
    block.down = head;
    if (head) head.up = block;
    this.bins[bin] = block;
  }

  private unlink(block: Block): void {
    if (block.up) block.up.down = block.down;
    else this.bins[binOf(block.size)] = block.down;
    if (block.down) block.down.up = block.up;
    block.up = block.down = null;
    block.free = false;
  }
}

function comesFirst(a: Block, b: Block): boolean {
  return a.size !== b.size ? a.size < b.size : a.slab !== b.slab ? a.slab < b.slab : a.offset < b.offset;
}

function key(slab: number, offset: number): number {
  return slab * 2 ** 40 + offset;
}
