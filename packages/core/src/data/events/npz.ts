/** SpikingJelly's .npz files of neuromorphic data: one recording's events, or its frames. */
import { DAMAGED, malformed, type NdArray, permute, toFloat32, toFloat64 } from "../../formats/array.ts";
import * as npz from "../../formats/npz.ts";
import { type Events, makeEvents, type SensorSize } from "./events.ts";
import type { Frames } from "./frames.ts";

/** Recordings are some megabytes; beyond this a file is no recording. */
const MAX_BYTES = 2 ** 30;

/**
 * A recording from an .npz file: the events `t`, `x`, `y`, `p` (a polarity that is not 0 counts as 1), or already its `frames`
 * [T, 2, H, W], which come out channels-last.
 * @param size the sensor's: an event outside it is an error
 * @throws FormatError when the archive is damaged, an array is missing or holds what no event has
 */
export async function readEventNpz(bytes: Uint8Array, size: SensorSize, name = "npz"): Promise<{ events: Events } | { frames: Frames }> {
  const arrays = await npz.decode(bytes, { name, maxBytes: MAX_BYTES });
  const frames = arrays.get("frames");
  if (frames) return { frames: channelsLast(frames, `${name}, frames`) };
  const [t, x, y, p] = ["t", "x", "y", "p"].map((key) => {
    const array = arrays.get(key);
    if (!array) throw malformed(name, undefined, "arrays t, x, y, p, or frames", [...arrays.keys()].slice(0, 8).join(", ") || "none");
    if (array.shape.length !== 1) throw malformed(`${name}, ${key}`, undefined, "one axis", `[${array.shape.join(", ")}]`);
    return array;
  }) as [NdArray, NdArray, NdArray, NdArray];
  const count = t.data.length;
  for (const [key, { data }] of [["x", x] as const, ["y", y] as const, ["p", p] as const])
    if (data.length !== count) throw malformed(`${name}, ${key}`, undefined, `${count} values, one an event`, `${data.length}`, DAMAGED);
  const events = makeEvents(count);
  const fill = (array: NdArray, to: Float64Array | Uint16Array, key: string, limit: number) => {
    const values = toFloat64(array);
    for (let i = 0; i < count; i++) {
      const v = values[i]!;
      if (!(v >= 0 && v < limit && Number.isInteger(v)))
        throw malformed(`${name}, ${key}`, undefined, `whole numbers from 0 to below ${limit}`, `${v} at event ${i}`, DAMAGED);
      to[i] = v;
    }
  };
  fill(t, events.t, "t", 2 ** 53);
  fill(x, events.x, "x", size.width);
  fill(y, events.y, "y", size.height);
  for (let i = 0; i < count; i++) events.p[i] = Number(p.data[i]) !== 0 ? 1 : 0;
  return { events };
}

function channelsLast(frames: NdArray, name: string): Frames {
  const [steps, channels, height, width] = frames.shape;
  if (frames.shape.length !== 4 || channels !== 2)
    throw malformed(name, undefined, "the shape [T, 2, H, W]", `[${frames.shape.join(", ")}]`);
  const data = toFloat32(permute(frames, [0, 2, 3, 1]));
  if (!data.every(Number.isFinite)) throw malformed(name, undefined, "finite counts", "others", DAMAGED);
  return { data, shape: [steps!, height!, width!, 2] };
}
