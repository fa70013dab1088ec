/**
 * The spike masked auto-encoder of Spike-driven Transformer V3 (official file MAE_SDT.py): the large network learns to rebuild hidden
 * patches of an image; its weights are then the start of a classifier (fine-tune.ts).
 *
 * Only seen patches pass through the convolutional stages (masking.ts); the transformer blocks see all tokens, hidden ones as zeros. A small
 * vision transformer (without spikes) decodes.
 */
import { normal_, truncNormal_, uninitialised, zeros_ } from "../../nn/init.ts";
import { Linear } from "../../nn/linear.ts";
import { Module, type Parameter, StateBuffer } from "../../nn/module.ts";
import { BatchNorm1d, LayerNorm } from "../../nn/norm.ts";
import { sinCosPositions } from "../../nn/positions.ts";
import { add, affine, div, gelu, mul, sqrt, square, sub, where } from "../../tensor/ops/elementwise.ts";
import { permute, repeat, reshape, slice, transpose } from "../../tensor/ops/layout.ts";
import { matmul } from "../../tensor/ops/matmul.ts";
import { uniform } from "../../tensor/ops/random.ts";
import { mean, sum, variance } from "../../tensor/ops/reduce.ts";
import { softmax } from "../../tensor/ops/softmax.ts";
import { scope } from "../../tensor/scope.ts";
import { sameShape, show, wrong } from "../../tensor/shape.ts";
import { noGrad } from "../../tensor/tape.ts";
import { Tensor, tensor } from "../../tensor/tensor.ts";
import { heads, joined } from "./blocks.ts";
import { LargeEncoder } from "./large.ts";
import { type MaeConfig, patchOf } from "./large-configs.ts";
import { reorderTokens, SeenPatches } from "./masking.ts";

/** Images [B, H, W, C] -> patches [B, N, patch^2 C], row by row; in a patch rows, columns, colours. H and W are multiples of `patch`. */
export function patchify(images: Tensor, patch: number): Tensor {
  const [b, h, w, c] = images.shape as [number, number, number, number];
  if (images.rank !== 4 || h % patch || w % patch)
    wrong("patchify", "images", `of shape [B, H, W, C] with H and W multiples of ${patch}`, show(images.shape));
  const cut = reshape(images, [b, h / patch, patch, w / patch, patch, c]);
  return reshape(permute(cut, [0, 1, 3, 2, 4, 5]), [b, (h * w) / patch ** 2, patch * patch * c]);
}

/** Patches as `patchify` makes them -> images [B, H, W, C] of `size` [H, W]. */
export function unpatchify(patches: Tensor, patch: number, size: readonly [number, number]): Tensor {
  const [b, n, values] = patches.shape as [number, number, number];
  const [h, w] = size;
  if (patches.rank !== 3 || n * patch * patch !== h * w || h % patch || values % (patch * patch))
    wrong("unpatchify", "patches", `of shape [B, N, ${patch * patch} C] that make up ${h} x ${w}`, show(patches.shape));
  const c = values / patch ** 2;
  const cut = reshape(patches, [b, h / patch, w / patch, patch, patch, c]);
  return reshape(permute(cut, [0, 1, 3, 2, 4, 5]), [b, h, w, c]);
}

/**
 * Squared error of predicted patches [B, N, P] against those of the images, each target patch less its mean and over the root of its
 * unbiased variance + 1e-6; the mean over a patch's values, then over hidden patches.
 * @param seen u8 or bool [B, N], 1 where a patch was seen
 */
export function reconstructionLoss(predicted: Tensor, images: Tensor, seen: Tensor, patch: number): Tensor {
  return scope(() => {
    const { target, hidden } = noGrad(() => {
      const patches = patchify(images, patch);
      const spread = sqrt(affine(variance(patches, -1, { keepDims: true }), 1, 1e-6));
      return { target: div(sub(patches, mean(patches, -1, true)), spread), hidden: where(seen, 0, 1) };
    });
    if (!sameShape(predicted.shape, target.shape))
      wrong("reconstructionLoss", "predicted", `of shape ${show(target.shape)}`, show(predicted.shape));
    const errors = mean(square(sub(predicted, target)), -1);
    return div(sum(mul(errors, hidden)), affine(sum(hidden), 1, 1e-8));
  });
}

/** Linear layer as the decoder starts it. */
function linear(inputs: number, outputs: number, bias = true): Linear {
  const layer = new Linear(inputs, outputs, { bias });
  truncNormal_(layer.weight, { std: 0.02, a: -2, b: 2 });
  if (layer.bias) zeros_(layer.bias);
  return layer;
}

/** Softmax attention of a vision transformer. */
export class DecoderAttention extends Module {
  qkv: Linear;
  proj: Linear;
  private readonly heads: number;

  constructor(dim: number, count: number) {
    super();
    this.heads = count;
    this.qkv = linear(dim, 3 * dim, false);
    this.proj = linear(dim, dim);
  }

  forward(x: Tensor): Tensor {
    const [b, n, c] = x.shape as [number, number, number];
    const all = reshape(this.qkv.forward(x), [b, n, 3, c]);
    const [q, k, v] = [0, 1, 2].map((i) => heads(slice(all, null, null, i), this.heads)) as [Tensor, Tensor, Tensor];
    const weights = softmax(affine(matmul(q, k, { transposeB: true }), 1 / Math.sqrt(c / this.heads)));
    return this.proj.forward(joined(matmul(weights, v)));
  }
}

export class DecoderMLP extends Module {
  fc1: Linear;
  fc2: Linear;

  constructor(dim: number) {
    super();
    this.fc1 = linear(dim, 4 * dim);
    this.fc2 = linear(4 * dim, dim);
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(gelu(this.fc1.forward(x)));
  }
}

const layerNorm = (dim: number) => new LayerNorm(dim, { eps: 1e-6 });

/** Block of a vision transformer (Dosovitskiy et al. 2021), the norms in front. */
export class DecoderBlock extends Module {
  norm1: LayerNorm;
  attn: DecoderAttention;
  norm2: LayerNorm;
  mlp: DecoderMLP;

  constructor(dim: number, count: number) {
    super();
    this.norm1 = layerNorm(dim);
    this.attn = new DecoderAttention(dim, count);
    this.norm2 = layerNorm(dim);
    this.mlp = new DecoderMLP(dim);
  }

  override recomputable(): Module[] {
    return [this];
  }

  forward(x: Tensor): Tensor {
    const y = add(x, this.attn.forward(this.norm1.forward(x)));
    return add(y, this.mlp.forward(this.norm2.forward(y)));
  }
}

/** One pass through the auto-encoder. */
export interface Reconstruction {
  /** 0-d, see `reconstructionLoss`. */
  loss: Tensor;
  /** Predicted patches [B, N, patch^2 C], normalised as the loss has them (`unpatchify` makes a picture of them). */
  predicted: Tensor;
  /** What the encoder gives for every token, [B, N, C]. */
  latent: Tensor;
  /** u8 [B, N]: 1 where a patch is seen. */
  seen: Tensor;
  /** i32 [B, N]: at which place the order of the noise has each patch. */
  restore: Tensor;
}

export class SpikeMaskedAutoencoder extends LargeEncoder {
  /** Positions of the encoder [1, C, N]: in the official files, never added. */
  pos_embed: StateBuffer;
  mask_token: Parameter;
  decoder_pos_embed: StateBuffer;
  norm: BatchNorm1d;
  decoder_embed: Linear;
  decoder_blocks: DecoderBlock[];
  decoder_norm: LayerNorm;
  decoder_pred: Linear;
  readonly config: MaeConfig;
  /** Rows of patches, and patches in a row. */
  private readonly grid: readonly [number, number];

  constructor(config: MaeConfig) {
    super(config);
    this.config = config;
    const { decoderDim: dim, decoderDepth, decoderHeads, embedDims, imageSize, inChannels } = config;
    const patch = patchOf(config);
    const width = embedDims[2];
    this.grid = [imageSize[0] / patch, imageSize[1] / patch];
    const positions = (channels: number) => sinCosPositions(channels, ...this.grid);
    this.pos_embed = new StateBuffer(scope(() => reshape(transpose(positions(width)), [1, width, -1])));
    this.mask_token = uninitialised([1, 1, dim]);
    this.decoder_pos_embed = new StateBuffer(scope(() => reshape(positions(dim), [1, -1, dim])));
    this.norm = new BatchNorm1d(width);
    this.decoder_embed = linear(width, dim);
    this.decoder_blocks = Array.from({ length: decoderDepth }, () => new DecoderBlock(dim, decoderHeads));
    this.decoder_norm = layerNorm(dim);
    this.decoder_pred = linear(dim, patch * patch * inChannels);
    normal_(this.mask_token, { std: 0.02 });
  }

  /** Images [B, H, W, C] -> predicted patches, see `Reconstruction`; what is hidden is drawn anew. */
  forward(images: Tensor): Tensor {
    return this.reconstruct(images).predicted;
  }

  /** What pre-training makes small: the loss of a batch of images, 0-d. */
  loss(images: Tensor): Tensor {
    return scope(() => this.reconstruct(images).loss);
  }

  /**
   * Hide patches of images [B, H, W, C] and rebuild them.
   * @param noise f32 [B, N]: the patches of the smallest values are seen. Default: drawn from the stream `mask`
   * @throws SpikeloomError for images of another size than the configuration's
   */
  reconstruct(images: Tensor, noise?: Tensor): Reconstruction {
    const { imageSize, inChannels, maskRatio, T } = this.config;
    const batch = images.shape[0] as number;
    const expected = [batch, ...imageSize, inChannels];
    if (!sameShape(images.shape, expected))
      wrong(
        "SpikeMaskedAutoencoder",
        "the input",
        `images [B, ${expected.slice(1).join(", ")}] (imageSize of the model)`,
        show(images.shape),
      );
    return scope(() => {
      const n = this.grid[0] * this.grid[1];
      const order = noGrad(() => orderOf(noise ?? uniform([batch, n], { stream: "mask" }), [batch, n]));
      const restore = new Int32Array(batch * n);
      // Numbers of the tokens in all the batch, and the inverse.
      order.forEach((token, place) => {
        restore[token] = place;
      });
      const kept = Math.floor(n * (1 - maskRatio));
      const values = Uint8Array.from(restore, (place) => (place % n < kept ? 1 : 0));
      const patches = new SeenPatches(values, [batch, ...this.grid]);
      const seen = tensor(values, [batch, n]);
      const tokens = mean(this.encode(repeat(patches.mask(images), T), patches), 0);
      const latent = this.norm.forward(tokens);
      const predicted = this.decode(latent, seen, restore, order);
      return {
        loss: reconstructionLoss(predicted, images, seen, patchOf(this.config)),
        ...{ predicted, latent, seen },
        restore: tensor(
          restore.map((place) => place % n),
          [batch, n],
        ),
      };
    });
  }

  private decode(latent: Tensor, seen: Tensor, restore: Int32Array, order: Int32Array): Tensor {
    const { tokenOrder, decoderDim } = this.config;
    let x = this.decoder_embed.forward(latent);
    // The encoder's tokens stand in the order of the image already. The official code takes them for the seen ones alone and brings them
    // to the image's order once more, which mixes them up, and appends no mask token; its published weights come of that.
    if (tokenOrder === "official") x = reorderTokens(x, tensor(restore), tensor(order));
    if (tokenOrder === "mask-token") x = where(reshape(seen, [...seen.shape, 1]), x, reshape(this.mask_token, [decoderDim]));
    x = add(x, this.decoder_pos_embed);
    for (const block of this.decoder_blocks) x = block.forward(x);
    return this.decoder_pred.forward(this.decoder_norm.forward(x));
  }
}

/** For each sample its tokens by rising noise, as numbers in all the batch: i32 [B N]. */
function orderOf(noise: Tensor, shape: readonly [number, number]): Int32Array {
  if (!(noise instanceof Tensor) || !sameShape(noise.shape, shape))
    wrong(
      "SpikeMaskedAutoencoder",
      "the noise",
      `a tensor of shape ${show(shape)}`,
      noise instanceof Tensor ? show(noise.shape) : typeof noise,
    );
  const values = noise.dataSync();
  const [batch, n] = shape;
  const order = new Int32Array(batch * n);
  for (let b = 0; b < batch; b++) {
    const own = Array.from({ length: n }, (_, i) => b * n + i);
    order.set(
      own.sort((i, j) => (values[i] as number) - (values[j] as number)),
      b * n,
    );
  }
  return order;
}
