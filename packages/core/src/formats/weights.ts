/**
 * Weights by name from a file of any format that holds them: safetensors, npz, PyTorch checkpoints. What it is is seen by its content,
 * since `.bin`, `.pth` and `.pth.tar` say nothing. Nothing of the tensors is read yet, but of npz, which is small.
 */
import { checkOptions } from "../runtime/check.ts";
import { nearest, SpikeloomError } from "../runtime/error.ts";
import { malformed, type NdArray } from "./array.ts";
import { tensorDicts } from "./dictionaries.ts";
import * as npz from "./npz.ts";
import * as pytorch from "./pytorch.ts";
import * as safetensors from "./safetensors.ts";
import { type ByteSource, type Bytes, sourceOf } from "./source.ts";
import type { StoredTensor } from "./stored.ts";

export interface WeightsOptions {
  /** The file's name, for messages. */
  readonly name?: string | undefined;
  /** Which of several dictionaries in the file, as `keys` names them; chosen where not given. */
  readonly key?: string | undefined;
  /** The most bytes that packed entries of an archive may unpack to. Default 2 GiB, and for npz the file's size beside it. */
  readonly maxBytes?: number | undefined;
}

export interface Weights {
  /** The format, in words. */
  readonly format: string;
  /** Which dictionary of the file this is: keys on the way to it, joined by dots; "" for the whole file. */
  readonly key: string;
  /** Every dictionary there is. */
  readonly keys: readonly string[];
  readonly tensors: Map<string, StoredTensor>;
  /** What the file says of itself, where its format has that. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What its user may want to know: which dictionary was chosen, what was left out, which names were not run. */
  readonly notes: readonly string[];
}

/** Names that repositories give the dictionary of weights, the wanted one first; averages only where there is nothing else. */
const PREFERRED = [
  "model",
  "state_dict",
  "model_state_dict",
  "net",
  "network",
  "module",
  "weights",
  "params",
  "model_ema",
  "ema",
  "state_dict_ema",
];
/** Prefixes that wrappers add to every key. */
const WRAPPERS = /^(?:module|_orig_mod)\./;
const NAMES_SHOWN = 5;

/**
 * Open a file of weights.
 * @throws FormatError when it is none, or damaged; SpikeloomError for a key that it does not have
 */
export async function open(file: Bytes, options: WeightsOptions = {}): Promise<Weights> {
  checkOptions("weights", options, ["name", "key", "maxBytes"]);
  const { name = "weights", key, maxBytes } = options;
  const source = sourceOf(name, file);
  const head = await source.read(0, Math.min(512, source.size));
  const torch = pytorch.torchFormat(head);
  if (torch === "zip" && (await isNpz(source))) return fromNpz(source, name, key, maxBytes);
  if (torch) return fromTorch(await pytorch.open(source, { name, maxBytes }), name, key);
  if (head[8] === 0x7b) return fromSafetensors(source, name, key);
  throw malformed(
    name,
    0,
    "a file of weights: safetensors, npz, or a PyTorch checkpoint",
    head.length ? `another one, which begins with ${beginningOf(head)}` : "an empty file",
    head[0] === 0x80 ? "It is a pickle that PyTorch did not write." : "",
  );
}

/**
 * All tensors of a file of weights: `net.loadStateDict(await weights.load(bytes))`, in a page as well.
 * @throws SpikeloomError as `open`, and for tensors that share storage so often that they are many times the file
 */
export async function load(file: Bytes, options: WeightsOptions = {}): Promise<Map<string, NdArray>> {
  const { tensors } = await open(file, options);
  const { name = "weights" } = options;
  checkTotal(tensors, sourceOf(name, file).size, name);
  const arrays = new Map<string, NdArray>();
  for (const [key, tensor] of tensors) arrays.set(key, await tensor.read());
  return arrays;
}

/** The first bytes of a file as text where they are some, so that a page of a server or a pointer of Git LFS is seen for what it is. */
function beginningOf(head: Uint8Array): string {
  const first = head.subarray(0, 40);
  const isText = first.every((byte) => (byte >= 0x20 && byte < 0x7f) || byte === 0x0a || byte === 0x0d || byte === 0x09);
  return isText ? JSON.stringify(String.fromCharCode(...first)) : `the bytes ${[...first.subarray(0, 8)].join(", ")}`;
}

/** Views of one storage, or zeros that were packed, may come to many times the file: a small file must not fill the memory. */
function checkTotal(tensors: ReadonlyMap<string, StoredTensor>, size: number, name: string): void {
  let total = 0;
  for (const { shape } of tensors.values()) total += 4 * shape.reduce((a, b) => a * b, 1);
  const most = 64 * size + 2 ** 20;
  if (total > most)
    throw new SpikeloomError(
      `${name}: expected tensors of at most ${most} bytes in a file of ${size}, found ${total}. Save clones of them, or read them one by one.`,
    );
}

async function isNpz(source: ByteSource): Promise<boolean> {
  const first = await source.read(0, Math.min(source.size, 30 + 512));
  const length = first.length > 30 ? (first[26] as number) + 256 * (first[27] as number) : 0;
  return new TextDecoder().decode(first.subarray(30, 30 + length)).endsWith(".npy");
}

async function fromNpz(source: ByteSource, name: string, key: string | undefined, maxBytes = 2 ** 31 + source.size): Promise<Weights> {
  const arrays = await npz.decode(await source.read(0, source.size), { name, maxBytes });
  return flat("npz", stored(arrays), {}, name, key);
}

async function fromSafetensors(source: ByteSource, name: string, key: string | undefined): Promise<Weights> {
  const { tensors, metadata } = await safetensors.open(source, name);
  if (metadata.spikeloom === undefined) return flat("safetensors", tensors, metadata, name, key);
  // A checkpoint of a training of ours: weights beside the optimiser's state. Where they are averaged, those are the ones to use.
  const parts = ["ema", "model"].filter((part) => [...tensors.keys()].some((k) => k.startsWith(`${part}.`)));
  const chosen = choose(key, parts, parts[0] ?? "model", name);
  const own = [...tensors].flatMap(([k, tensor]): [string, StoredTensor][] =>
    k.startsWith(`${chosen}.`) ? [[k.slice(chosen.length + 1), tensor]] : [],
  );
  return { format: "a checkpoint of spikeloom train", key: chosen, keys: parts, tensors: new Map(own), metadata, notes: [] };
}

/** A file that is one dictionary. */
function flat(
  format: string,
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: Readonly<Record<string, string>>,
  name: string,
  key: string | undefined,
): Weights {
  choose(key, [""], "", name);
  const notes: string[] = [];
  return { format, key: "", keys: [""], tensors: unwrapped(tensors, notes), metadata, notes };
}

function fromTorch({ format, value, foreign }: pytorch.TorchFile, name: string, key: string | undefined): Weights {
  const dicts = tensorDicts(value);
  if (!dicts.length)
    throw new SpikeloomError(
      `${name}: expected a dictionary of tensors, as torch.save(model.state_dict(), FILE) writes, found none.${foreign.length ? ` The file names what is not read: ${listed(foreign)}` : ""}`,
    );
  const weight = (tensors: ReadonlyMap<string, StoredTensor>) =>
    [...tensors.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const preferred = PREFERRED.map((path) => dicts.find((d) => d.path === path || d.path.startsWith(`${path}.`))).find((d) => d);
  const largest = dicts.reduce((a, b) => (weight(b.tensors) > weight(a.tensors) ? b : a));
  const paths = dicts.map(({ path }) => path);
  const path = choose(key, paths, (preferred ?? largest).path, name);
  const dict = dicts.find((d) => d.path === path) as (typeof dicts)[number];

  const notes: string[] = [];
  const others = paths.filter((p) => p !== path);
  if (key === undefined && others.length)
    notes.push(
      `took ${path ? `"${path}"` : "the outermost dictionary"}; there is also ${listed(others.map((p) => p || "(the outermost)"))}`,
    );
  else if (path) notes.push(`took "${path}"`);
  if (dict.module !== undefined)
    notes.push(`a whole module was saved, ${dict.module}: its parameters and buffers were collected, its code was not loaded`);
  if (dict.others.length) notes.push(`left out what is no tensor: ${listed(dict.others)}`);
  const unknown = foreign.filter((n) => !n.startsWith("torch.nn."));
  if (unknown.length) notes.push(`the file names what is not loaded, and nothing of it was run: ${listed(unknown)}`);
  const words = { zip: "PyTorch, zip", stream: "PyTorch, before 1.6", tar: "PyTorch, before 0.4 (tar)" }[format];
  return { format: words, key: path, keys: paths, tensors: unwrapped(dict.tensors, notes), metadata: {}, notes };
}

/** @throws SpikeloomError for a key that is not there */
function choose(key: string | undefined, keys: readonly string[], standard: string, name: string): string {
  if (key === undefined || keys.includes(key)) return key ?? standard;
  const near = nearest(key, keys);
  const there = keys.map((k) => (k ? `"${k}"` : '"" (the outermost)'));
  throw new SpikeloomError(
    `${name}: there is no dictionary of tensors "${key}"${near ? `, did you mean "${near}"?` : ""} (${there.join(", ") || "it has none"})`,
  );
}

/** Without the prefix that DataParallel or torch.compile put before every key. */
function unwrapped(tensors: ReadonlyMap<string, StoredTensor>, notes: string[]): Map<string, StoredTensor> {
  let found = new Map(tensors);
  for (;;) {
    const prefix = WRAPPERS.exec([...found.keys()].find((k) => k !== AVERAGES) ?? "")?.[0];
    if (!prefix || ![...found.keys()].every((k) => k.startsWith(prefix) || k === AVERAGES)) return found;
    found = new Map([...found].flatMap(([k, t]): [string, StoredTensor][] => (k === AVERAGES ? [] : [[k.slice(prefix.length), t]])));
    notes.push(`took the prefix "${prefix}" off every key, which a wrapper of the module had put there`);
  }
}

/** How many steps an average of weights has seen, beside its weights. */
const AVERAGES = "n_averaged";

function stored(arrays: ReadonlyMap<string, NdArray>): Map<string, StoredTensor> {
  return new Map([...arrays].map(([key, array]) => [key, { dtype: array.dtype, shape: array.shape, read: async () => array }]));
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, NAMES_SHOWN).map((n) => n.slice(0, 100));
  return `${shown.join(", ")}${names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : ""}`;
}
