/** `spikeloom convert`: weights of any format that is read here to safetensors or npz; for a model, under its keys and checked against them. */
import { extname } from "node:path";
import { formats, init, models, nn, npz, SpikeloomError, safetensors, scope } from "spikeloom";
import { writeFileAtomic } from "../files.ts";
import { table } from "../table.ts";
import { withWeights } from "../weights.ts";

export interface ConvertOptions {
  input: string;
  output: string;
  /** A model whose keys the output is to have. */
  model?: string | undefined;
  /** Settings over the model's. */
  config?: Record<string, unknown> | undefined;
  /** Which dictionary in the file. */
  key?: string | undefined;
  /** Of floating-point tensors. Default: the file's own. */
  dtype?: "f32" | "f16" | "bf16" | undefined;
}

/** A tensor to be written. */
interface Entry {
  from: string;
  shape: readonly number[];
  dtype: formats.DType;
  tensor: formats.StoredTensor;
}

const tensors = (n: number) => `${n} tensor${n === 1 ? "" : "s"}`;

const FLOATS: readonly formats.DType[] = ["f64", "f32", "f16", "bf16"];

export async function run({ input, output, model, config, key, dtype }: ConvertOptions): Promise<void> {
  const ending = extname(output).toLowerCase();
  if (ending !== ".safetensors" && ending !== ".npz")
    throw new SpikeloomError(`${output}: expected an output that ends in .safetensors or .npz`);
  if (ending === ".npz" && dtype === "bf16")
    throw new SpikeloomError("--dtype bf16: numpy has no bf16. Write safetensors, or choose f32 or f16");
  if (config !== undefined && model === undefined) throw new SpikeloomError("--config is a model's: name it with --model");
  const expected = model === undefined ? undefined : await shapesOf(model, config);
  await withWeights(input, key, async (weights, bytes) => {
    console.log(`${input}: ${weights.format}, ${tensors(weights.tensors.size)}, ${bytes.toLocaleString("en")} bytes`);
    for (const note of weights.notes) console.log(`  ${note}`);
    const keys = expected
      ? matched(weights.tensors, expected, model as string, input)
      : new Map([...weights.tensors.keys()].map((k) => [k, k]));
    const entries = new Map<string, Entry>();
    for (const [to, from] of keys) {
      const tensor = weights.tensors.get(from) as formats.StoredTensor;
      const shape = expected?.shapes.get(to) ?? tensor.shape;
      entries.set(to, { from, shape, dtype: dtype && FLOATS.includes(tensor.dtype) ? dtype : tensor.dtype, tensor });
    }
    // A training's state is not in the output; what it says of it would be false.
    const { spikeloom: _, checksum: __, ...metadata } = weights.metadata;
    const written = await write(output, entries, {
      ...metadata,
      format: "pt",
      ...(expected && { model: model as string, config: JSON.stringify(expected.config) }),
    });
    console.log(`${output}: ${tensors(entries.size)}, ${written.toLocaleString("en")} bytes`);
  });
}

/** What the model's state dict holds, and the rules for files of its system. */
async function shapesOf(name: string, overrides: Record<string, unknown> | undefined) {
  const { system, config } = models.resolveModel(name, overrides);
  system.check(config);
  await init({ device: "wasm", threads: 1 });
  const shapes = scope(() => {
    const built = nn.init.withoutDraws(() => system.build(config));
    const found = built.stateShapes();
    built.dispose();
    return found;
  });
  return { system, config, shapes };
}

/**
 * The model's keys, each with the file's; what does not meet is printed.
 * @throws SpikeloomError where that is not harmless
 */
function matched(
  tensors: ReadonlyMap<string, formats.StoredTensor>,
  { system, shapes }: Awaited<ReturnType<typeof shapesOf>>,
  model: string,
  input: string,
): ReadonlyMap<string, string> {
  const match = models.matchState(shapes, tensors, system);
  const show = (shape: readonly number[] | undefined) => `[${shape?.join(", ")}]`;
  const rows: [what: string, key: string, detail: string][] = [
    ...match.missing.map((k): [string, string, string] => ["missing", k, `the model's ${show(shapes.get(k))}`]),
    ...match.extra.map((k): [string, string, string] => ["left over", k, `the file's ${show(tensors.get(k)?.shape)}`]),
    ...match.misshaped.map((m): [string, string, string] => [
      "other shape",
      m.key,
      `the model's ${show(m.expected)}, the file's ${show(m.found)}`,
    ]),
    ...match.renamed.map((r): [string, string, string] => ["renamed", r.to, `from ${r.from}: ${r.why}`]),
    ...match.reshaped.map((r): [string, string, string] => ["reshaped", r.key, `from ${show(r.from)} to ${show(r.to)}`]),
    ...[...new Set(match.harmless.map((h) => h.why))].map((why): [string, string, string] => {
      const [first = "", ...more] = match.harmless.filter((h) => h.why === why).map((h) => h.key);
      return [shapes.has(first) ? "not in the file" : "left out", more.length ? `${first} and ${more.length} more` : first, why];
    }),
  ];
  if (rows.length) {
    const columns = ["", "key", ""].map((head, i) => ({ head, cell: (row: (typeof rows)[number]) => row[i] as string }));
    console.log(`\n${table(columns, rows)}\n`);
  }
  if (models.isWhole(match)) return match.pairs;
  const { missing, extra, misshaped } = match;
  throw new SpikeloomError(
    `${input} does not fit ${model}: ${missing.length} keys are missing, ${extra.length} left over, ${misshaped.length} of another shape. Nothing was written. Is it this model, with this configuration (--config)?`,
  );
}

/** @returns the bytes written */
async function write(path: string, entries: ReadonlyMap<string, Entry>, metadata: Record<string, string>): Promise<number> {
  if (path.toLowerCase().endsWith(".npz")) {
    const arrays = new Map<string, formats.NdArray>();
    for (const [key, entry] of entries) arrays.set(key, await converted(key, entry));
    const bytes = await npz.encode(arrays);
    await writeFileAtomic(path, bytes);
    return bytes.length;
  }
  const { header, order, size } = safetensors.plan(entries, metadata);
  async function* parts(): AsyncGenerator<Uint8Array> {
    yield header;
    for (const key of order) yield formats.bytesOfElements(await converted(key, entries.get(key) as Entry));
  }
  await writeFileAtomic(path, parts());
  return header.length + size;
}

/** A tensor in the type and shape that it is to be written in. @throws SpikeloomError for values that the type cannot hold */
async function converted(key: string, { tensor, shape, dtype }: Entry): Promise<formats.NdArray> {
  const array = await tensor.read();
  if (dtype === array.dtype) return { ...array, shape };
  const data = formats.toFloat32(array);
  // From here on a number is rounded to infinity.
  const limit = dtype === "f16" ? 65520 : dtype === "bf16" ? (2 - 2 ** -8) * 2 ** 127 : Number.POSITIVE_INFINITY;
  const lost = data.findIndex((v, i) => Math.abs(v) >= limit && Math.abs(Number(array.data[i])) < Number.POSITIVE_INFINITY);
  if (lost >= 0)
    throw new SpikeloomError(
      `tensor ${JSON.stringify(key)}: ${array.data[lost]} does not fit ${dtype}. Choose ${dtype === "f16" ? "bf16 or f32" : "a wider type"}`,
    );
  return { dtype, shape, data };
}
