/**
 * Scopes: deterministic freeing. `scope(() => ...)` frees every tensor made inside, except what it returns and what is kept
 * (parameters, gradients, optimiser and norm state). Values that the tape saved live on as long as the graph needs them.
 */
import { checkFunction } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { expectTensor, Tensor } from "./tensor.ts";

let active: Tensor[] | null = null;

/** Called by every new tensor. */
export function track(t: Tensor): void {
  active?.push(t);
}

/** Mark a tensor so that no scope frees it; `dispose()` still does. */
export function keep<T extends Tensor>(t: T): T {
  expectTensor("keep", "its argument", t);
  t.kept = true;
  return t;
}

/** Run `fn` (synchronous) and free the tensors made inside that it does not return (in arrays or plain objects too). */
export function scope<R>(fn: () => R): R {
  checkFunction("scope", "its argument", fn);
  const outer = active;
  const mine: Tensor[] = [];
  active = mine;
  let result: R;
  try {
    result = fn();
    if (result instanceof Promise) {
      // Its tensors are about to be freed: that it fails of that is no second error.
      result.catch(() => {});
      throw new SpikeloomError("scope: the function must be synchronous, found one that returns a promise. Read values after the scope");
    }
  } catch (error) {
    active = outer;
    for (const t of mine) if (!t.kept) t.dispose();
    throw error;
  }
  active = outer;
  // Mostly one tensor: nothing to search.
  const one = result instanceof Tensor;
  const survivors = new Set<Tensor>();
  if (!one) collect(result, survivors);
  for (const t of mine) {
    if (t.kept) continue;
    if (one ? t === (result as Tensor) : survivors.has(t)) outer?.push(t);
    else t.dispose();
  }
  return result;
}

/** As `scope`, but what is returned belongs to the caller alone: no outer scope will free it. For the tape. */
export function detachedScope<R>(fn: () => R): R {
  const outer = active;
  active = null;
  try {
    return scope(fn);
  } finally {
    active = outer;
  }
}

/** Hand a tensor that no scope owns to the active one. */
export function adopt<T extends Tensor>(t: T): T {
  track(t);
  return t;
}

function collect(value: unknown, into: Set<Tensor>): void {
  if (value instanceof Tensor) into.add(value);
  else if (Array.isArray(value)) for (const v of value) collect(v, into);
  else if (value instanceof Map) for (const v of value.values()) collect(v, into);
  else if (value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype)
    for (const v of Object.values(value)) collect(v, into);
}
