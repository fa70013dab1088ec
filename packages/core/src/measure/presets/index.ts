/** All energy conventions, by name. */
import { nearest, SpikeloomError } from "../../runtime/error.ts";
import { emsYolo, spikeYolo } from "./detection.ts";
import { e3dsnn, e3dsnnScript } from "./e-3dsnn.ts";
import { memory } from "./memory.ts";
import { plain } from "./plain.ts";
import type { EnergyPreset, PresetSettings } from "./preset.ts";
import { sdt, sdtV2 } from "./sdt.ts";
import { sdtV3 } from "./sdt-v3.ts";

export const presets: readonly EnergyPreset[] = [plain, sdt, sdtV2, sdtV3, emsYolo, spikeYolo, e3dsnn, e3dsnnScript, memory];

/** A preset by name. @throws SpikeloomError with the nearest name. */
export function findPreset(name: string): EnergyPreset {
  const preset = presets.find((p) => p.name === name);
  if (preset) return preset;
  const names = presets.map((p) => p.name);
  const near = nearest(name, names);
  throw new SpikeloomError(`unknown energy preset "${name}"${near ? `, did you mean "${near}"?` : ""} (one of ${names.join(", ")})`);
}

/** A preset's settings, defaults filled in. @throws SpikeloomError for one that it has not, or a value that is not among its choices. */
export function settingsOf({ name, settings = {} }: EnergyPreset, given: PresetSettings = {}): PresetSettings {
  for (const [key, value] of Object.entries(given)) {
    const choices = Object.hasOwn(settings, key) ? settings[key] : undefined;
    if (!choices) {
      const names = Object.keys(settings);
      const near = nearest(key, names);
      throw new SpikeloomError(
        `energy preset ${name}: unknown setting "${key}"${near ? `, did you mean "${near}"?` : ""} (${names.length ? `one of ${names.join(", ")}` : "it has none"})`,
      );
    }
    if (!choices.includes(value))
      throw new SpikeloomError(`energy preset ${name}: ${key} must be one of ${choices.join(", ")}, found "${value}"`);
  }
  return { ...Object.fromEntries(Object.entries(settings).map(([key, choices]) => [key, choices[0] as string])), ...given };
}
