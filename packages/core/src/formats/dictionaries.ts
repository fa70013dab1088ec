/**
 * Where the tensors of a PyTorch checkpoint are: dictionaries of tensors by name, nested as their writers nested them, and whole
 * modules that were pickled, whose state dict is put together as PyTorch does it. All on inert values.
 */
import { PickledObject } from "./pickle.ts";
import { TorchTensor } from "./pytorch.ts";

/** A state dict in a checkpoint. */
export interface TensorDict {
  /** Keys on the way to it, joined by dots; "" for the checkpoint itself. */
  readonly path: string;
  readonly tensors: Map<string, TorchTensor>;
  /** Keys of what is no tensor. */
  readonly others: readonly string[];
  /** Of a module that was pickled whole, its class. */
  readonly module?: string;
}

/** Nesting of the dictionaries that are looked into, and of modules. */
const MAX_DEPTH = 6;
const MAX_MODULES_DEPTH = 100;
/** Entries of modules that are looked at, those of a module as often as it is met. */
const MAX_LOOKS = 2 ** 19;
const MAX_DICTS = 1000;

/** All dictionaries of tensors in a checkpoint's value, the outermost first. What optimisers keep is left out. */
export function tensorDicts(value: unknown): TensorDict[] {
  const found: TensorDict[] = [];
  const seen = new Set<unknown>();
  let row: [path: string, value: unknown][] = [["", value]];
  for (let depth = 0; depth <= MAX_DEPTH; depth++) {
    const next: typeof row = [];
    for (const [path, item] of row) {
      if (typeof item !== "object" || item === null || seen.has(item) || found.length >= MAX_DICTS) continue;
      seen.add(item);
      const dict = item instanceof PickledObject ? moduleDict(path, item) : item instanceof Map ? plainDict(path, item) : undefined;
      if (dict) found.push(dict);
      if (dict?.module !== undefined) continue;
      const inside = item instanceof Map ? item : Array.isArray(item) ? item.slice(0, 64).entries() : attributes(item);
      for (const [key, child] of inside)
        if ((typeof key === "string" || typeof key === "number") && !/optim|sched|scaler/i.test(String(key)))
          next.push([path ? `${path}.${key}` : `${key}`, child]);
    }
    row = next;
  }
  return found;
}

/** What an object's attributes were to be; what it holds as a dictionary. */
function attributes(item: object): Iterable<[unknown, unknown]> {
  if (!(item instanceof PickledObject)) return [];
  return item.state instanceof Map ? [...item.items, ...item.state] : item.items;
}

/** A dictionary most of whose values are tensors. */
function plainDict(path: string, dict: ReadonlyMap<unknown, unknown>): TensorDict | undefined {
  const tensors = new Map<string, TorchTensor>();
  const others: string[] = [];
  for (const [key, value] of dict) {
    if (typeof key === "string" && value instanceof TorchTensor) tensors.set(key, value);
    else others.push(typeof key === "object" ? "..." : String(key));
  }
  return tensors.size > others.length ? { path, tensors, others } : undefined;
}

/** The state dict of a pickled nn.Module: its parameters and buffers, then those of the modules below. */
function moduleDict(path: string, root: PickledObject): TensorDict | undefined {
  if (!isModule(root)) return undefined;
  const tensors = new Map<string, TorchTensor>();
  const above = new Set<PickledObject>();
  let looks = 0;
  const collect = (prefix: string, module: PickledObject): void => {
    // A module that holds itself would never end; one that many hold may be met as often as it has names.
    if (above.has(module) || above.size > MAX_MODULES_DEPTH || looks > MAX_LOOKS) return;
    above.add(module);
    const state = module.state as ReadonlyMap<unknown, unknown>;
    const [parameters, buffers, modules] = [state.get("_parameters"), state.get("_buffers"), state.get("_modules")].map(mapOf) as [
      Values,
      Values,
      Values,
    ];
    const passing = state.get("_non_persistent_buffers_set");
    const left = new Set<unknown>(Array.isArray(passing) ? passing : []);
    looks += 1 + parameters.size + buffers.size + modules.size + left.size;
    const take = (name: unknown, value: unknown) => void (value instanceof TorchTensor && tensors.set(`${prefix}${name}`, value));
    for (const [name, value] of parameters) take(name, value);
    for (const [name, value] of buffers) if (!left.has(name)) take(name, value);
    for (const [name, child] of modules) if (child instanceof PickledObject && isModule(child)) collect(`${prefix}${name}.`, child);
    above.delete(module);
  };
  collect("", root);
  return { path, tensors, others: [], module: root.name };
}

function isModule(value: PickledObject): boolean {
  return value.state instanceof Map && value.state.has("_parameters") && value.state.has("_modules");
}

type Values = ReadonlyMap<unknown, unknown>;

function mapOf(value: unknown): Values {
  return value instanceof Map ? value : new Map();
}
