/** Voxel grids of events: time as a few layers, each event shared between the two that are nearest to it. */
import { SpikeloomError } from "../../runtime/error.ts";
import type { Events, SensorSize } from "./events.ts";
import type { Frames } from "./frames.ts";

/** 1 GiB. */
const MAX_VALUES = 2 ** 28;

export interface VoxelOptions extends SensorSize {
  /** B: layers of time. */
  readonly bins: number;
}

/**
 * A recording as [bins, height, width, 1] (Zhu et al. 2019, "Unsupervised event-based learning of optical flow, depth, and egomotion"): with its
 * time scaled to t* from 0 to B - 1, an event adds (+1 brighter, -1 darker) max(0, 1 - |b - t*|) to layer b at its pixel.
 * @throws SpikeloomError for an event outside the sensor, times that fall, or a grid of more than 1 GiB
 */
export function voxelGrid({ t, x, y, p }: Events, { bins, height, width }: VoxelOptions): Frames {
  for (const [what, value] of Object.entries({ bins, height, width }))
    if (!(Number.isSafeInteger(value) && value >= 1 && value <= 65536))
      throw new SpikeloomError(`voxelGrid: expected ${what} as a whole number from 1 to 65536, found ${value}.`);
  const layer = height * width;
  if (bins * layer > MAX_VALUES) throw new SpikeloomError(`voxelGrid: expected at most 1 GiB, found ${bins} x ${height} x ${width}.`);
  const data = new Float32Array(bins * layer);
  const start = t[0] ?? 0;
  const span = (t.at(-1) ?? 0) - start;
  for (let i = 0; i < t.length; i++) {
    const [column, row] = [x[i] as number, y[i] as number];
    if (!(column < width && row < height))
      throw new SpikeloomError(`voxelGrid: expected events within ${width} x ${height} pixels, found x ${column}, y ${row} at event ${i}.`);
    if (i && (t[i] as number) < (t[i - 1] as number))
      throw new SpikeloomError(`voxelGrid: expected times that do not fall, found ${t[i]} after ${t[i - 1]} at event ${i}.`);
    const time = span > 0 ? ((bins - 1) * ((t[i] as number) - start)) / span : 0;
    const below = Math.min(Math.floor(time), bins - 1);
    const sign = p[i] === 0 ? -1 : 1;
    const at = below * layer + row * width + column;
    data[at] = (data[at] as number) + sign * (1 - (time - below));
    if (time > below) data[at + layer] = (data[at + layer] as number) + sign * (time - below);
  }
  return { data, shape: [bins, height, width, 1] };
}
