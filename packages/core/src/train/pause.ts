/** Letting the host breathe between steps: signals, timers, a page's repaint. */

const immediate = (globalThis as { setImmediate?: (fn: () => void) => unknown }).setImmediate;
let last = 0;

/** Give the event loop a turn, at most every 15 ms. */
export async function pause(): Promise<void> {
  const now = performance.now();
  if (now - last < 15) return;
  await new Promise<void>((resolve) => (immediate ? immediate(resolve) : setTimeout(resolve, 0)));
  last = performance.now();
}
