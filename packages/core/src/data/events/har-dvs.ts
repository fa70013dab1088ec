/**
 * HAR-DVS as the V3 models take it (repository BICLab/Spike-Driven-Transformer-V3, SDT_V3/DVS): grey pictures of an event camera, on which dark
 * pixels stand for one polarity and light grey ones for the other. And the text files that list its recordings.
 */
import { malformed } from "../../formats/array.ts";
import { FormatError, SpikeloomError } from "../../runtime/error.ts";
import type { Stream } from "../../runtime/random.ts";
import type { Transform } from "../dataset.ts";
import type { Pixels } from "./augment.ts";

/** One line of train_label.txt or test_label.txt. */
export interface HarDvsEntry {
  /** A folder with one sub-folder for each recording. */
  readonly path: string;
  readonly label: number;
}

/**
 * `train_label.txt` or `test_label.txt`: lines "path number label"; the number is not used.
 * @throws FormatError that names the line
 */
export function readHarDvsList(bytes: Uint8Array, name = "labels"): HarDvsEntry[] {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new FormatError(`${name}: expected text, found other bytes.`, { cause: error });
  }
  const entries = text.split(/\r?\n/).flatMap((line, i) => {
    if (!line.trim()) return [];
    const [, path, label] = /^\s*(\S+)\s+\S+\s+(\d{1,6})\s*$/.exec(line) ?? [];
    if (path === undefined || label === undefined)
      throw malformed(`${name}, line ${i + 1}`, undefined, "path, a number, and the label", JSON.stringify(line.slice(0, 60)));
    return [{ path, label: Number(label) }];
  });
  if (!entries.length) throw malformed(name, undefined, "a line for each recording", "none");
  return entries;
}

/**
 * Which of a recording's `files` pictures are shown: `frames` in a row from a drawn start, all from the first on where there are fewer.
 */
export function harDvsWindow(files: number, frames: number, rng: Stream): { first: number; count: number } {
  return files > frames ? { first: rng.uniformInt(files - frames + 1), count: frames } : { first: 0, count: files };
}

const [DARK, LIGHT_FROM, LIGHT_TO] = [0.12, 0.3, 0.78].map(Math.fround) as [number, number, number];

/** Both polarities of grey values (bytes, or 0..1), side by side: the first is 1 below 0.12, the second above 0.3 up to 0.78. */
export function harDvsChannels(grey: Pixels): Float32Array {
  const out = new Float32Array(2 * grey.length);
  for (let i = 0; i < grey.length; i++) {
    const v = grey instanceof Uint8Array ? Math.fround(grey[i]! / 255) : grey[i]!;
    if (v < DARK) out[2 * i] = 1;
    if (v > LIGHT_FROM && v <= LIGHT_TO) out[2 * i + 1] = 1;
  }
  return out;
}

/**
 * Grey pictures [T, H, W, 1] to event frames [frames, H, W, 2] by `harDvsChannels`; frames that a short recording lacks are zero in both
 * channels. Resizing, cropping and mirroring come before.
 * @throws SpikeloomError for samples of another shape, or of more pictures than `frames`
 */
export function harDvsPolarity({ frames = 8 }: { frames?: number } = {}): Transform {
  return {
    name: "harDvsPolarity",
    apply(sample) {
      const { data, shape } = sample;
      const [steps, height, width, channels] = shape as [number, number, number, number];
      if (shape.length !== 4 || channels !== 1 || steps > frames)
        throw new SpikeloomError(`harDvsPolarity: expected at most ${frames} grey pictures [T, H, W, 1], found [${shape.join(", ")}].`);
      const out = new Float32Array(frames * height * width * 2);
      out.set(harDvsChannels(data));
      return { ...sample, data: out, shape: [frames, height, width, 2] };
    },
  };
}
