/**
 * Randomness: one counter-based generator, Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
 * and named streams of a run's seed. A stream is a key and a position: adding a consumer never changes the draws of another, and a
 * resumed run goes on where it stopped. Scalar draws and the bulk kernels (`random_uniform`, ...) read the same sequence.
 */
import { SpikeloomError } from "./error.ts";
import { cos, log } from "./math.ts";

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
/** Weyl increments of the key: the golden ratio and sqrt(3) - 1 in 32 bits. */
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** High 32 bits of the product of two u32. */
function multiplyHigh(a: number, b: number): number {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const middle = ah * bl + ((al * bl) >>> 16);
  return ah * bh + Math.floor((middle + al * bh) / 65536);
}

/** Ten rounds of Philox 4x32: `counter` (4 words) under the key to `out` (4 words). */
export function philox(counter: ArrayLike<number>, key0: number, key1: number, out: Uint32Array): void {
  let [c0, c1, c2, c3] = [counter[0]!, counter[1]!, counter[2]!, counter[3]!];
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(c0, MULTIPLIER_0);
    const high1 = multiplyHigh(c2, MULTIPLIER_1);
    const low0 = Math.imul(c0, MULTIPLIER_0) >>> 0;
    const low1 = Math.imul(c2, MULTIPLIER_1) >>> 0;
    c0 = (high1 ^ c1 ^ key0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ key1) >>> 0;
    c3 = low0;
    key0 = (key0 + WEYL_0) >>> 0;
    key1 = (key1 + WEYL_1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** The four words of block number `block` (below 2^53) of the sequence under a key. */
export function philoxBlock(block: number, key0: number, key1: number, out: Uint32Array): void {
  philox([block >>> 0, Math.floor(block / 2 ** 32), 0, 0], key0, key1, out);
}

/** A word as a number in [0, 1): its upper 24 bits, which a float32 holds exactly. */
export function wordToUniform(word: number): number {
  return (word >>> 8) / 2 ** 24;
}

/** What a stream needs to go on: the block it reads and the number of its words (0..4) already used. */
export interface StreamState {
  readonly block: number;
  readonly word: number;
}

/** What a bulk kernel is given: the key and the first of the blocks set aside for it. */
export interface Reservation {
  readonly key0: number;
  readonly key1: number;
  readonly offset: number;
}

/** One consumer's sequence. Made by `Rng.stream`. */
export class Stream {
  readonly key0: number;
  readonly key1: number;
  #block = 0;
  #word = 0;
  readonly #words = new Uint32Array(4);
  /** The block that `#words` holds. */
  #loaded = -1;

  constructor(key0: number, key1: number) {
    this.key0 = key0;
    this.key1 = key1;
  }

  /** The next u32 of the sequence. */
  next(): number {
    if (this.#word === 4) {
      this.#block++;
      this.#word = 0;
    }
    if (this.#loaded !== this.#block) {
      philoxBlock(this.#block, this.key0, this.key1, this.#words);
      this.#loaded = this.#block;
    }
    return this.#words[this.#word++]!;
  }

  /** Uniform in [0, 1), a multiple of 2^-24: what `random_uniform` with lo 0 and hi 1 would write here. */
  uniform(): number {
    return wordToUniform(this.next());
  }

  /** Uniform integer in [0, n), 1 <= n <= 2^32. Words above the last whole multiple of n are drawn again, so there is no modulo bias. */
  uniformInt(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) {
      throw new SpikeloomError(`uniformInt: expected an integer from 1 to 2^32, found ${n}`);
    }
    const limit = 2 ** 32 - (2 ** 32 % n);
    let word = this.next();
    while (word >= limit) word = this.next();
    return word % n;
  }

  /** Standard normal by Box and Muller; uses two words. */
  normal(): number {
    const radius = Math.sqrt(-2 * log((this.next() + 0.5) / 2 ** 32));
    return radius * cos((2 * Math.PI * this.next()) / 2 ** 32);
  }

  /** 0..n-1 in random order (Fisher and Yates). */
  permutation(n: number): Int32Array {
    const order = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.uniformInt(i + 1);
      const moved = order[i]!;
      order[i] = order[j]!;
      order[j] = moved;
    }
    return order;
  }

  /** Set `blocks` whole blocks (of four words) aside for a bulk kernel; a block already begun is left behind. */
  reserve(blocks: number): Reservation {
    const offset = this.#block + (this.#word > 0 ? 1 : 0);
    this.#block = offset + blocks;
    this.#word = 0;
    return { key0: this.key0, key1: this.key1, offset };
  }

  /** Another reader of the same sequence, standing at `block`; this one stays where it is. */
  at(block: number): Stream {
    const stream = new Stream(this.key0, this.key1);
    stream.restore({ block, word: 0 });
    return stream;
  }

  state(): StreamState {
    return { block: this.#block, word: this.#word };
  }

  restore(state: StreamState): void {
    const { block, word } = state;
    if (!Number.isSafeInteger(block) || block < 0 || !(word === 0 || word === 1 || word === 2 || word === 3 || word === 4)) {
      throw new SpikeloomError(`random stream: expected a state with block >= 0 and word 0..4, found block ${block}, word ${word}`);
    }
    this.#block = block;
    this.#word = word;
  }
}

/** State of a whole generator, plain JSON. */
export interface RngState {
  readonly seed: number;
  readonly streams: Readonly<Record<string, StreamState>>;
}

/** The streams of one seed (an integer from 0 to 2^53 - 1). */
export class Rng {
  #seed: number;
  readonly #streams = new Map<string, Stream>();

  constructor(seed: number) {
    this.#seed = checkSeed(seed);
  }

  get seed(): number {
    return this.#seed;
  }

  /**
   * The stream of that name: the same object at every call. Its key is the first two words of Philox with the seed's two words
   * (low, high) as key and the counter (h, h >> 32, 1, 0), h being the 64-bit FNV-1a hash of the name in UTF-8.
   */
  stream(name: string): Stream {
    let stream = this.#streams.get(name);
    if (!stream) {
      const [key0, key1] = deriveKey(this.#seed, name);
      stream = new Stream(key0, key1);
      this.#streams.set(name, stream);
    }
    return stream;
  }

  /** Positions of all streams used so far. */
  state(): RngState {
    return { seed: this.#seed, streams: Object.fromEntries([...this.#streams].map(([name, stream]) => [name, stream.state()])) };
  }

  /**
   * Go on from a saved state. Streams that it does not name start afresh. The seed must be this generator's own, since streams in
   * use keep their keys.
   */
  restore(state: RngState): void {
    if (state.seed !== this.#seed) {
      throw new SpikeloomError(`random state: expected seed ${this.#seed}, found ${state.seed}; make a generator with that seed first`);
    }
    for (const stream of this.#streams.values()) stream.restore({ block: 0, word: 0 });
    for (const [name, position] of Object.entries(state.streams)) this.stream(name).restore(position);
  }
}

function checkSeed(seed: number): number {
  if (!Number.isSafeInteger(seed) || seed < 0) throw new SpikeloomError(`seed: expected an integer from 0 to 2^53 - 1, found ${seed}`);
  return seed;
}

function deriveKey(seed: number, name: string): [number, number] {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(name)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  const out = new Uint32Array(4);
  // The third counter word keeps key derivation apart from every draw, whose third word is 0.
  philox([Number(hash & 0xffffffffn), Number(hash >> 32n), 1, 0], seed >>> 0, Math.floor(seed / 2 ** 32), out);
  return [out[0]!, out[1]!];
}
