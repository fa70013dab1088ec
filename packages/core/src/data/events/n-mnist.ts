/** N-MNIST's recordings (Orchard et al. 2015; N-Caltech101 is in the same format): five bytes an event. */
import { DAMAGED, malformed } from "../../formats/array.ts";
import { type Events, makeEvents, type SensorSize, sliceEvents } from "./events.ts";

const EVENT_BYTES = 5;
/** A row that no sensor of these has: the clock ran over, and times go on 2^13 later. */
const OVERFLOW_ROW = 240;
const OVERFLOW = 2 ** 13;

/**
 * One .bin file: of each event 8 bits x, 8 bits y, 1 bit polarity (1 is brighter), 23 bits of microseconds.
 * @param size the sensor's, 34 x 34 for N-MNIST: an event outside it is an error
 * @throws FormatError when it ends in the middle of an event or has one outside the sensor
 */
export function readNMnist(bytes: Uint8Array, size: SensorSize = { height: 34, width: 34 }, name = "n-mnist"): Events {
  if (bytes.length % EVENT_BYTES) throw malformed(name, 0, `events of ${EVENT_BYTES} bytes`, `${bytes.length} bytes in all`, DAMAGED);
  const events = makeEvents(bytes.length / EVENT_BYTES);
  let count = 0;
  let base = 0;
  for (let at = 0; at < bytes.length; at += EVENT_BYTES) {
    const [x, y, high, middle, low] = bytes.subarray(at, at + EVENT_BYTES) as unknown as [number, number, number, number, number];
    if (y === OVERFLOW_ROW) {
      base += OVERFLOW;
      continue;
    }
    if (x >= size.width || y >= size.height)
      throw malformed(name, at, `an event within ${size.width} x ${size.height} pixels`, `one at x ${x}, y ${y}`, DAMAGED);
    events.t[count] = base + (((high & 0x7f) << 16) | (middle << 8) | low);
    events.x[count] = x;
    events.y[count] = y;
    events.p[count++] = high >> 7;
  }
  return sliceEvents(events, 0, count);
}
