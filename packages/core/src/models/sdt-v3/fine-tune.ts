/** From pre-training to a classifier: the weights that both have. */
import type { Module, StateEntry } from "../../nn/module.ts";
import { SpikeloomError } from "../../runtime/error.ts";
import { sameShape, show } from "../../tensor/shape.ts";

/** What became of the keys. */
export interface FineTuneStart {
  loaded: string[];
  /** Keys of the classifier that pre-training does not have: they stay as they were made. */
  missing: string[];
  /** Keys of pre-training that the classifier does not have. */
  unused: string[];
}

/**
 * Start a classifier (`ESpikeFormerLarge`) from the weights of a pre-trained `SpikeMaskedAutoencoder` of the same sizes, by name. Of the published
 * 83M model 1212 keys are shared; layer scales and heads are missing, decoder and positions are unused.
 * @param pretrained by key, in PyTorch's axis order: `stateDict()` of the auto-encoder, or what a file holds
 * @throws SpikeloomError where nothing is shared, and where a shared key has another shape; the classifier is as before then
 */
export function startFromPretraining(
  classifier: Module,
  pretrained: ReadonlyMap<string, Pick<StateEntry, "shape"> & { data: ArrayLike<number> | ArrayLike<bigint> }>,
): FineTuneStart {
  const own = classifier.stateShapes();
  const loaded = [...own.keys()].filter((key) => pretrained.has(key));
  if (!loaded.length)
    throw new SpikeloomError("startFromPretraining: the weights share no key with the classifier: they are of another model");
  const other = loaded.filter((key) => !sameShape(own.get(key) as readonly number[], pretrained.get(key)?.shape ?? []));
  if (other.length) {
    const [key = ""] = other;
    const first = pretrained.get("downsample1_2.encode_conv.weight")?.shape[0];
    const hint = other.some((k) => k.startsWith("downsample1_2."))
      ? `. Its first width is ${first}: build the classifier with that in embedDims (the published 171M is pre-trained with 192 and fine-tuned with 196)`
      : "";
    throw new SpikeloomError(
      `startFromPretraining: ${other.length} tensors have another shape, such as "${key}": expected ${show(own.get(key) ?? [])}, found ${show(
        pretrained.get(key)?.shape ?? [],
      )}${hint}`,
    );
  }
  const { missing } = classifier.loadStateDict(new Map(loaded.map((key) => [key, pretrained.get(key) as StateEntry])), {
    strict: false,
  });
  return { loaded, missing, unused: [...pretrained.keys()].filter((key) => !own.has(key)) };
}
