/** How a run is timed in Node, the same for Spikeloom and for the peers in JavaScript. */

/** A WebAssembly function is compiled again, optimised, once it has run a little: the warm-up lasts until that is over. */
const WARM_MS = 500;

/** Milliseconds of each of at most `repeat` runs; once `seconds` are over, three are enough. */
export function timed(run: () => void, repeat: number, seconds: number): number[] {
  const warm = performance.now();
  for (let i = 0; i < 2 || performance.now() - warm < WARM_MS; i++) run();
  const times: number[] = [];
  const begin = performance.now();
  while (times.length < repeat && (times.length < 3 || performance.now() - begin < 1000 * seconds)) {
    const start = performance.now();
    run();
    times.push(performance.now() - start);
  }
  return times;
}
