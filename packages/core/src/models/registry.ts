/** The zoo: every system with its named configurations; models are made by name. */
import type { Module } from "../nn/module.ts";
import { nearest, SettingError, SpikeloomError } from "../runtime/error.ts";
import { caformer } from "./caformer/index.ts";
import { sdtV1 } from "./sdt-v1/index.ts";
import { sdtV2 } from "./sdt-v2/index.ts";
import { sdtV3 } from "./sdt-v3/index.ts";
import type { System } from "./system.ts";

export const systems: readonly System[] = [sdtV1, sdtV2, sdtV3, caformer] as unknown as readonly System[];

/** A system by name. @throws SpikeloomError with the nearest name. */
export function findSystem(name: string): System {
  const system = systems.find((s) => s.name === name);
  if (system) return system;
  const near = nearest(
    name,
    systems.map((s) => s.name),
  );
  throw new SpikeloomError(
    `unknown system "${name}"${near ? `, did you mean "${near}"?` : ""} (one of ${systems.map((s) => s.name).join(", ")})`,
  );
}

/** Names of all published models, `system/config`. */
export function modelNames(): string[] {
  return systems.flatMap((s) => Object.keys(s.configs).map((c) => `${s.name}/${c}`));
}

/**
 * A model by name `system/config`, or `system` with its own settings over the system's first configuration.
 * @throws SpikeloomError for an unknown name, an unknown setting (with the nearest), or a wrong value.
 */
export function createModel(name: string, overrides: Readonly<Record<string, unknown>> = {}): Module {
  const { system, config } = resolveModel(name, overrides);
  return system.build(config);
}

/** The system and the full configuration behind a model name and overrides. Throws as `createModel`. */
export function resolveModel(
  name: string,
  overrides: Readonly<Record<string, unknown>> = {},
): { system: System; config: Record<string, unknown> } {
  const slash = name.indexOf("/");
  const system = findSystem(slash < 0 ? name : name.slice(0, slash));
  const configName = slash < 0 ? (Object.keys(system.configs)[0] as string) : name.slice(slash + 1);
  const base = Object.hasOwn(system.configs, configName) ? system.configs[configName] : undefined;
  if (!base) {
    const near = nearest(name, modelNames());
    throw new SpikeloomError(`unknown model "${name}"${near ? `, did you mean "${near}"?` : "."} \`spikeloom models\` lists them all`);
  }
  for (const key of Object.keys(overrides))
    if (!Object.hasOwn(base, key)) {
      const near = nearest(key, Object.keys(base));
      throw new SettingError(
        key,
        `model ${name}: unknown setting "${key}"${near ? `, did you mean "${near}"?` : ""} (one of ${Object.keys(base).join(", ")})`,
      );
    }
  return { system, config: { ...base, ...overrides } };
}
