/** Data sets that a recipe may name. */

import { cifar10, cifar100 } from "./cifar.ts";
import { cifar10Dvs } from "./cifar10-dvs.ts";
import { dvs128Gesture } from "./dvs128-gesture.ts";
import type { DatasetEntry } from "./entry.ts";
import { imageFolder } from "./image-folder.ts";
import { fashionMnist, kmnist, mnist } from "./mnist.ts";
import { nMnist } from "./n-mnist.ts";
import { saccadeFashionMnist, saccadeMnist } from "./saccades.ts";

export type { DatasetEntry } from "./entry.ts";

export const datasets: Readonly<Record<string, DatasetEntry>> = {
  mnist,
  "fashion-mnist": fashionMnist,
  kmnist,
  cifar10,
  cifar100,
  "image-folder": imageFolder,
  "cifar10-dvs": cifar10Dvs,
  "dvs128-gesture": dvs128Gesture,
  "n-mnist": nMnist,
  "saccade-mnist": saccadeMnist,
  "saccade-fashion-mnist": saccadeFashionMnist,
};
