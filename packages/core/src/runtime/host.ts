/** What the host is: the few places where Node and the browser differ, found without importing anything. */

interface NodeModules {
  "node:worker_threads": typeof import("node:worker_threads");
  "node:module": typeof import("node:module");
  "node:os": typeof import("node:os");
  "node:fs": typeof import("node:fs");
}

/** A Node built-in module, or undefined outside Node. Never an import, so that bundlers for the browser see none. */
export function nodeBuiltin<M extends keyof NodeModules>(name: M): NodeModules[M] | undefined {
  const host = (globalThis as { process?: { getBuiltinModule?: (name: string) => unknown; versions?: { node?: string } } }).process;
  if (!host?.versions?.node) return undefined;
  return host.getBuiltinModule?.(name) as NodeModules[M] | undefined;
}

/** Node's process, or undefined outside Node. */
export function nodeProcess(): { dlopen(module: { exports: unknown }, path: string): void } | undefined {
  const host = (globalThis as { process?: { dlopen?: unknown; versions?: { node?: string } } }).process;
  return host?.versions?.node && host.dlopen ? (host as { dlopen(module: { exports: unknown }, path: string): void }) : undefined;
}

/** An environment variable, or undefined (always so in a browser). */
export function environment(name: string): string | undefined {
  const value = (globalThis as { process?: { env?: Record<string, string | undefined> } }).process?.env?.[name];
  return value === "" ? undefined : value;
}

/** Logical processors that this process may use. */
export function processors(): number {
  const os = nodeBuiltin("node:os");
  return os ? os.availableParallelism() : (globalThis.navigator?.hardwareConcurrency ?? 1);
}
