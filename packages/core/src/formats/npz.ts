/** numpy's .npz: a zip archive of .npy files, one an array. Reading is asynchronous because the platform's inflate is. */
import { checkMap, checkOptions } from "../runtime/check.ts";
import { malformed, type NdArray } from "./array.ts";
import * as npy from "./npy.ts";
import { readZip, writeZip, type ZipOptions } from "./zip.ts";

const SUFFIX = ".npy";

/**
 * The arrays of an .npz file by name (without `.npy`), in the archive's order.
 * @throws FormatError when the archive or an array in it contradicts its format, or an entry is no .npy file
 */
export async function decode(bytes: Uint8Array, options: ZipOptions = {}): Promise<Map<string, NdArray>> {
  checkOptions("npz", options, ["name", "maxBytes"]);
  const { name = "npz" } = options;
  const arrays = new Map<string, NdArray>();
  for (const [path, data] of await readZip(bytes, { ...options, name })) {
    if (!path.endsWith(SUFFIX)) throw malformed(name, undefined, "only .npy files in the archive", JSON.stringify(path));
    arrays.set(path.slice(0, -SUFFIX.length), npy.decode(data, `${name}, ${path}`));
  }
  return arrays;
}

/** An .npz file of the arrays, in the map's order, uncompressed as numpy.savez writes it; the same bytes for the same arrays. */
export async function encode(arrays: ReadonlyMap<string, NdArray>): Promise<Uint8Array> {
  checkMap("npz", arrays);
  return writeZip(new Map([...arrays].map(([name, array]) => [name + SUFFIX, npy.encode(array)])));
}
