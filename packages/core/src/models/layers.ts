/** How deep the parameters of a network of blocks lie: what its rates decay by in fine-tuning (layer decay). */

/**
 * Everything before the blocks is layer 0, each block a layer more, the heads the last.
 * @param stages prefixes of lists of blocks, such as `block3`, with how many there are, in order
 * @param within other modules by prefix, with the stage whose first block they lead to
 */
export function blockLayers(
  stages: readonly (readonly [prefix: string, blocks: number])[],
  within: Readonly<Record<string, string>> = {},
): { count: number; of(key: string): number } {
  const first = new Map<string, number>();
  let count = 1;
  for (const [prefix, blocks] of stages) {
    first.set(prefix, count);
    count += blocks;
  }
  return {
    count,
    of(key) {
      const [prefix = "", index] = key.split(".");
      if (prefix.startsWith("head")) return count;
      const from = first.get(within[prefix] ?? prefix);
      return from === undefined ? 0 : from + (prefix in within ? 0 : Number(index));
    },
  };
}
