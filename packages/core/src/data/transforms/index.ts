/** Changes to samples and batches, named as in torchvision and timm. */
export { type ColorJitterOptions, colorJitter } from "./color-jitter.ts";
export { centerCrop, type Padding, pad, randomCrop, randomShift } from "./crop.ts";
export { randomHorizontalFlip, randomVerticalFlip } from "./flip.ts";
export { grayscale } from "./grayscale.ts";
export type { Fill, Size } from "./image.ts";
export { type MixupOptions, mixup } from "./mixup.ts";
export { normalize } from "./normalize.ts";
export { type RandAugmentOptions, randAugment } from "./rand-augment.ts";
export { type RandomErasingOptions, randomErasing } from "./random-erasing.ts";
export { type RandomResizedCropOptions, randomResizedCrop } from "./random-resized-crop.ts";
export { type Interpolation, resize } from "./resize.ts";
