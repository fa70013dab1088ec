/** A prediction as one PNG without words: the image, where its blocks attend, and a grid of spike maps, a row a layer, a column a step. */
import type { Prediction } from "../prediction.ts";
import { heatMap, type Pixels, png, scaled } from "./image.ts";
import { attentionMap, pixelsOf } from "./parts.ts";

const GAP = 6;
const MARGIN = 16;
const IMAGE = 224;
const CELL = 48;

/** Bytes of a PNG file. */
export function predictionPng({ image, attention, layers, timeSteps }: Prediction): Uint8Array {
  const left = [
    fit(pixelsOf(image), IMAGE),
    ...attention.map((a) => fit(attentionMap(a.after, a, Math.max(...a.before, ...a.after), image), IMAGE)),
  ];
  const rows = layers.flatMap(({ maps }) => {
    if (!maps) return [];
    const max = Math.max(...maps.steps.map((map) => Math.max(...map)));
    return [maps.steps.map((map) => fit(heatMap(map, maps.width, maps.height, max), CELL))];
  });
  const tallest = (row: readonly Pixels[]) => Math.max(...row.map((p) => p.height));
  const sum = (sizes: readonly number[]) => sizes.reduce((a, b) => a + b + GAP, -GAP);
  const columns = rows.length ? timeSteps * (CELL + GAP) - GAP + MARGIN : 0;
  const width = IMAGE + columns + 2 * MARGIN;
  const height = Math.max(sum(left.map((p) => p.height)), sum(rows.map(tallest))) + 2 * MARGIN;
  const canvas = new Uint8Array(width * height * 3).fill(255);
  const draw = ({ width: w, height: h, rgb }: Pixels, x: number, y: number) => {
    for (let line = 0; line < h; line++) canvas.set(rgb.subarray(3 * line * w, 3 * (line + 1) * w), 3 * ((y + line) * width + x));
  };
  let y = MARGIN;
  for (const picture of left) {
    draw(picture, MARGIN, y);
    y += picture.height + GAP;
  }
  y = MARGIN;
  for (const row of rows) {
    row.forEach((map, t) => draw(map, MARGIN + IMAGE + MARGIN + t * (CELL + GAP), y));
    y += tallest(row) + GAP;
  }
  return png(canvas, width, height, 3);
}

/** Its longer side that long. */
function fit(picture: Pixels, side: number): Pixels {
  const longer = Math.max(picture.width, picture.height);
  return scaled(
    picture,
    Math.max(1, Math.round((picture.width * side) / longer)),
    Math.max(1, Math.round((picture.height * side) / longer)),
  );
}
