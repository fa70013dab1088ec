/**
 * CIFAR-10 and CIFAR-100 in their "binary version" (Krizhevsky 2009; the data sets' page describes it): records of one label byte, or
 * a coarse and a fine one, and 3072 bytes of a 32 x 32 image: its red, green and blue planes.
 */
import { DAMAGED, malformed } from "../formats/array.ts";
import { ArrayDataset } from "./dataset.ts";

const SIDE = 32;
const PLANE = SIDE * SIDE;

/** Which data set the files are of, and for CIFAR-100 which of its two labels is the class. */
export type CifarKind = "cifar10" | "cifar100-fine" | "cifar100-coarse";

/** Label bytes of a record, which of them is the class, and how many classes there are. */
const KINDS: Readonly<Record<CifarKind, { labels: number; label: number; classes: number }>> = {
  cifar10: { labels: 1, label: 0, classes: 10 },
  "cifar100-fine": { labels: 2, label: 1, classes: 100 },
  "cifar100-coarse": { labels: 2, label: 0, classes: 20 },
};

/**
 * The images of one or more files behind one another, channels-last.
 * @throws FormatError when a file is empty, not whole records, or has a label that is no class
 */
export function datasetFromCifar(
  kind: CifarKind,
  files: readonly { readonly name: string; readonly bytes: Uint8Array }[],
  classNames?: readonly string[],
): ArrayDataset {
  const { labels: labelBytes, label, classes } = KINDS[kind];
  const record = labelBytes + 3 * PLANE;
  for (const { name, bytes } of files)
    if (bytes.length === 0 || bytes.length % record !== 0)
      throw malformed(name, undefined, `whole records of ${record} bytes, as ${kind} has`, `${bytes.length} bytes in all`, DAMAGED);
  const count = files.reduce((sum, { bytes }) => sum + bytes.length / record, 0);
  const images = new Uint8Array(count * 3 * PLANE);
  const labels = new Int32Array(count);
  let image = 0;
  for (const { name, bytes } of files)
    for (let start = 0; start < bytes.length; start += record, image++) {
      const found = bytes[start + label]!;
      if (found >= classes) throw malformed(name, start + label, `a label from 0 to ${classes - 1}`, `${found}`, DAMAGED);
      labels[image] = found;
      for (let c = 0; c < 3; c++) {
        const plane = start + labelBytes + c * PLANE;
        const to = image * 3 * PLANE + c;
        for (let p = 0; p < PLANE; p++) images[to + 3 * p] = bytes[plane + p]!;
      }
    }
  return new ArrayDataset({ images, shape: [count, SIDE, SIDE, 3], labels, classes, classNames, name: kind });
}
