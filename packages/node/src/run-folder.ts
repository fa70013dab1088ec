/**
 * A run's folder: recipe.yml (defaults written out), metrics.jsonl (a line an event), tensorboard/ (the same for TensorBoard),
 * last.safetensors (all that a resumed run needs), best.safetensors and model.safetensors (weights alone, under PyTorch's keys, of
 * the best test and of the end), report.html, summary.json. Every file but the logs is written whole or not at all.
 */
import { appendFileSync, existsSync, readFileSync, readlinkSync, rmdirSync, rmSync, truncateSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { SpikeloomError } from "spikeloom";
import { createWhole, diskError, makeFolder, readFileChecked, removeLeftovers, removeStale, writeFileAtomic } from "./files.ts";
import { loadRecipe, type Recipe, recipeToYaml } from "./recipe.ts";
import { knownNames } from "./session.ts";

export const FILES = {
  recipe: "recipe.yml",
  metrics: "metrics.jsonl",
  checkpoint: "last.safetensors",
  weights: "model.safetensors",
  best: "best.safetensors",
  report: "report.html",
  summary: "summary.json",
} as const;

/** Folder of TensorBoard's event files. */
export const BOARD = "tensorboard";

const LOCK = "run.lock";

/** The processor ticks at which a process started, where the system tells (Linux): a number used twice is then no mistake. */
function startOf(pid: number): string {
  try {
    // The second field is the program's name in brackets, which may hold anything.
    return readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\)/s, "").trim().split(" ")[19] ?? "";
  } catch {
    return "";
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid < 1) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function readText(path: string, fallback: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return fallback;
  }
}

/** Which processes a number is one of: this machine's since it started, or a container's. */
function here(): { host: string; boot: string; space: string } {
  let space = "-";
  try {
    space = readlinkSync("/proc/self/ns/pid");
  } catch {
    // Not Linux: there is one space of process numbers.
  }
  return { host: hostname(), boot: readText("/proc/sys/kernel/random/boot_id", "-"), space };
}

/** The living process that a lock names; `elsewhere` where only another machine or container can tell whether it lives. */
function ownerOf(lock: string): { pid: number; elsewhere?: string } | undefined {
  let text: string;
  try {
    text = readFileSync(lock, "utf8");
  } catch {
    return undefined;
  }
  const [number, start, host, boot, space] = text.trim().split(" ");
  const pid = Number(number);
  const own = here();
  if (host !== undefined && host !== own.host) return { pid, elsewhere: host };
  // This machine has been started anew since: nothing of before lives.
  if (boot !== undefined && boot !== own.boot) return undefined;
  if (space !== undefined && space !== own.space) return { pid, elsewhere: "another container" };
  return isAlive(pid) && (!start || start === "-" || start === startOf(pid)) ? { pid } : undefined;
}

export class RunFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  file(name: keyof typeof FILES): string {
    return join(this.path, FILES[name]);
  }

  has(name: keyof typeof FILES): boolean {
    return existsSync(this.file(name));
  }

  /** The process that trains in this folder now; undefined where none does. */
  owner(): number | undefined {
    return ownerOf(join(this.path, LOCK))?.pid;
  }

  /**
   * Claim the folder for this process, making it where it is not there. @throws SpikeloomError while another process trains in it
   */
  lock(): void {
    const path = join(this.path, LOCK);
    try {
      makeFolder(this.path);
      const { host, boot, space } = here();
      while (!createWhole(path, [process.pid, startOf(process.pid) || "-", host, boot, space].join(" "))) {
        const owner = ownerOf(path);
        if (owner)
          throw new SpikeloomError(
            owner.elsewhere === undefined
              ? `${this.path} is in use: process ${owner.pid} trains in it. Wait for it, or choose another folder (--out DIR)`
              : `${this.path} is in use: process ${owner.pid} on ${owner.elsewhere} trains in it. Wait for it, choose another folder (--out DIR), or, if it is gone, remove ${path}`,
          );
        // Its process is gone (killed, or a machine that died).
        removeStale(path, (lock) => ownerOf(lock) === undefined);
      }
      removeLeftovers(this.path, isAlive);
    } catch (error) {
      throw error instanceof SpikeloomError ? error : diskError(error, `cannot make the run's folder ${this.path}`);
    }
  }

  unlock(): void {
    rmSync(join(this.path, LOCK), { force: true });
    try {
      // A run that failed before it began leaves nothing.
      rmdirSync(this.path);
    } catch {
      // It is not empty: it holds the run.
    }
  }

  /** Make the folder for a new run. @throws SpikeloomError when it already holds one. */
  async create(recipe: Recipe): Promise<void> {
    if (this.has("checkpoint") || this.has("weights"))
      throw new SpikeloomError(
        `${this.path} already holds a run: go on with it (--resume ${this.path}), choose another folder (--out DIR), or remove it`,
      );
    try {
      makeFolder(this.path);
      // A log left by a run that was stopped before its first checkpoint.
      if (this.has("metrics")) truncateSync(this.file("metrics"), 0);
    } catch (error) {
      throw diskError(error, `cannot make the run's folder ${this.path}`);
    }
    await writeFileAtomic(this.file("recipe"), recipeToYaml(recipe));
  }

  /** The recipe of the run that is here, with overrides. */
  async recipe(sets: readonly string[] = []): Promise<Recipe> {
    if (!this.has("recipe")) throw new SpikeloomError(`${this.path} holds no run (no ${FILES.recipe} in it)`);
    return loadRecipe(this.file("recipe"), sets, knownNames);
  }

  log(event: unknown): void {
    try {
      appendFileSync(this.file("metrics"), `${JSON.stringify(event)}\n`);
    } catch (error) {
      throw diskError(error, `cannot write ${this.file("metrics")}`);
    }
  }

  /** Events logged so far. A last line cut off by a crash is left out, as is any that is no event. */
  events(): Record<string, unknown>[] {
    if (!this.has("metrics")) return [];
    let text: string;
    try {
      text = readFileSync(this.file("metrics"), "utf8");
    } catch (error) {
      throw diskError(error, `cannot read ${this.file("metrics")}`);
    }
    return text.split("\n").flatMap((line) => {
      try {
        const event = JSON.parse(line) as Record<string, unknown> | null;
        return event && typeof event.type === "string" && Number.isFinite(event.epoch) && Number.isFinite(event.step) ? [event] : [];
      } catch {
        return [];
      }
    });
  }

  /** Forget what will be run again: steps after `step`, and all but the first `epochs` epochs. */
  async rewind(step: number, epochs: number): Promise<void> {
    const kept = this.events().filter((e) => (e.type === "epoch" ? (e.epoch as number) < epochs : !((e.step as number) > step)));
    await writeFileAtomic(this.file("metrics"), kept.map((e) => `${JSON.stringify(e)}\n`).join(""));
  }

  async read(name: keyof typeof FILES, what: string): Promise<Uint8Array> {
    return readFileChecked(this.file(name), what);
  }

  async write(name: keyof typeof FILES, content: Uint8Array | string): Promise<void> {
    await writeFileAtomic(this.file(name), content);
  }
}
