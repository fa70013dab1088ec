/**
 * Kill a training at random moments, also while it writes a checkpoint, and go on each time. What comes out must be what an
 * undisturbed run gives, to the bit, and no more work may be lost than lies between two checkpoints.
 */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { Rng } from "spikeloom";
import { checkpointStep, leavings, loggedSteps, prepare, type Running, spikeloom, temporaries } from "./runs.ts";

/** Seconds of work between checkpoints. */
const SAVE_EVERY = 0.2;
/** While kills aim at checkpoints: as good as after every step. */
const SAVE_OFTEN = 0.01;

export interface KillOptions {
  kills: number;
  /** An empty folder. */
  folder: string;
  seed?: number;
  epochs?: number;
  /** Told of each kill. */
  note?: (text: string) => void;
}

export interface KillResult {
  kills: number;
  /** Kills at which a temporary file was left, and those before a run had its first checkpoint. */
  insideWrites: number;
  beforeCheckpoint: number;
  /** Runs that came to their end. */
  runs: number;
  /** Most seconds of steps that a kill cost. */
  mostLost: number;
}

const sleep = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Kill the process when a temporary file appears in the folder. @returns whether it was killed before it ended */
async function killInsideWrite(run: string, running: Running, ended: () => boolean): Promise<boolean> {
  while (!ended()) {
    // Looking takes less time than a write's flush; every few looks the event loop has its turn.
    for (let look = 0; look < 200; look++)
      if (temporaries(run).some((name) => name.startsWith(".last."))) {
        running.process.kill("SIGKILL");
        return true;
      }
    await sleep(0.001);
  }
  return false;
}

/** @throws Error when a run differs from the undisturbed one, or lost too much */
export async function killRuns({ kills, folder, seed = 1, epochs = 4, note = () => undefined }: KillOptions): Promise<KillResult> {
  mkdirSync(folder, { recursive: true });
  const recipe = prepare(folder, epochs);
  const draws = new Rng(seed).stream("kills");
  const undisturbed = join(folder, "undisturbed");
  const begun = performance.now();
  const first = await spikeloom(["train", recipe, "--out", undisturbed, "--save-every", `${SAVE_EVERY}s`]).ended;
  if (first.code !== 0) throw new Error(`the undisturbed run failed: ${first.err}`);
  const duration = (performance.now() - begun) / 1000;
  const expected = leavings(undisturbed);
  const result: KillResult = { kills: 0, insideWrites: 0, beforeCheckpoint: 0, runs: 0, mostLost: 0 };

  while (result.kills < kills || result.runs === 0) {
    const run = join(folder, `run-${result.runs}`);
    for (let attempt = 0; ; attempt++) {
      const resumes = existsSync(join(run, "last.safetensors"));
      const aimed = draws.uniform() < 0.5;
      const saveEvery = aimed ? SAVE_OFTEN : SAVE_EVERY;
      const before = resumes ? (checkpointStep(run) as number) : 0;
      const source = resumes ? ["--resume", run] : [recipe, "--out", run];
      const running = spikeloom(["train", ...source, "--save-every", `${saveEvery}s`]);
      let over = false;
      void running.ended.then(() => (over = true));
      if (result.kills < kills) {
        // Some moments lie in the start, most in the training, some in the report.
        const delay = draws.uniform() * duration;
        await Promise.race([sleep(delay), running.ended]);
        if (!over && aimed) await killInsideWrite(run, running, () => over);
        else if (!over) running.process.kill("SIGKILL");
      }
      const { code, signal, err } = await running.ended;
      if (code === 0) {
        const step = checkpointStep(run);
        note(`run ${result.runs} is done after ${attempt} kills, at step ${step}`);
        break;
      }
      if (signal !== "SIGKILL") throw new Error(`${resumes ? "resuming" : "starting"} failed with code ${code}: ${err}`);
      result.kills++;
      const inside = temporaries(run).length > 0;
      if (inside) result.insideWrites++;
      const step = checkpointStep(run);
      if (step === undefined) result.beforeCheckpoint++;
      if (step !== undefined && step < before) throw new Error(`the checkpoint went back from step ${before} to ${step}`);
      const steps = loggedSteps(run);
      const lost = steps.filter((s) => s.step > (step ?? 0));
      const seconds = lost.reduce((sum, s) => sum + s.seconds, 0);
      const longest = Math.max(0, ...lost.map((s) => s.seconds));
      result.mostLost = Math.max(result.mostLost, seconds);
      note(
        `kill ${result.kills}: ${inside ? "inside a write, " : ""}checkpoint at step ${step ?? "none"}, log at ${steps.at(-1)?.step ?? "none"}, lost ${seconds.toFixed(3)} s`,
      );
      // A step that is under way when the time has come is still done.
      if (seconds > saveEvery + longest) throw new Error(`${seconds} s of work were lost, at ${saveEvery} s between checkpoints`);
    }
    const found = leavings(run);
    for (const what of ["files", "weights", "best", "log"] as const)
      if (JSON.stringify(found[what]) !== JSON.stringify(expected[what]))
        throw new Error(
          `${what} of ${run} differ from the undisturbed run's${what === "files" ? `: ${found.files}, ${expected.files}` : ""}`,
        );
    result.runs++;
  }
  return result;
}
