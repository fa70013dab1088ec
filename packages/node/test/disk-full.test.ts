/** A disk that is full while a run is saved: the command says so, and what was there before stays. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, expect, it, vi } from "vitest";
import { fails, folder, log, smallMnist, smallRecipe, succeeds } from "./support.ts";

// The file whose next writing finds the disk full.
const full = vi.hoisted(() => ({ name: "" }));
const noSpace = vi.hoisted(() => () => Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" }));

vi.mock("node:fs/promises", async (original) => {
  const fs = await original<typeof import("node:fs/promises")>();
  return {
    ...fs,
    open: async (path: string, flags: string) => {
      const handle = await fs.open(path, flags);
      if (flags === "wx" && full.name && path.includes(`.${full.name}.`)) {
        handle.writeFile = async () => {
          await handle.write("half of it");
          throw noSpace();
        };
      }
      return handle;
    },
  };
});
vi.mock("node:fs", async (original) => {
  const fs = await original<typeof import("node:fs")>();
  return {
    ...fs,
    appendFileSync: (path: string, text: string) => {
      if (full.name === "metrics.jsonl" && path.endsWith(full.name)) throw noSpace();
      fs.appendFileSync(path, text);
    },
  };
});

const FULL = "the disk is full. Free some space or choose a folder on another disk; what was there before is untouched. (ENOSPC)";
let recipe: string;
beforeAll(() => {
  recipe = smallRecipe(smallMnist(96, 20));
});
afterEach(() => {
  full.name = "";
});

it.each(["last.safetensors", "model.safetensors", "report.html", "summary.json", "metrics.jsonl"])(
  "at %s: going on later ends as if nothing had been",
  async (name) => {
    const [out, other] = [join(folder(), "run"), join(folder(), "other")];
    const more = (run: string) => ["train", "--resume", run, "--set", "train.epochs=2"];
    for (const run of [out, other]) await succeeds("train", recipe, "--out", run);
    const before = new Map(readdirSync(out).map((file) => [file, file === "tensorboard" ? Buffer.of() : readFileSync(join(out, file))]));
    full.name = name;
    expect(await fails(...more(out))).toBe(`error: cannot write ${join(out, name)}: ${FULL}\n`);
    // No half-written file; the one that could not be written is the old one.
    expect(readdirSync(out).sort()).toEqual([...before.keys()].sort());
    expect(readFileSync(join(out, name)).equals(before.get(name) as Buffer)).toBe(true);
    full.name = "";
    for (const run of [out, other]) await succeeds(...more(run));
    expect(readFileSync(join(out, "model.safetensors")).equals(readFileSync(join(other, "model.safetensors")))).toBe(true);
    expect(log(out)).toEqual(log(other));
  },
);

it("before a run begins: nothing is left that would be taken for one", async () => {
  const out = join(folder(), "run");
  full.name = "recipe.yml";
  expect(await fails("train", recipe, "--out", out)).toBe(`error: cannot write ${join(out, "recipe.yml")}: ${FULL}\n`);
  expect(existsSync(out) ? readdirSync(out) : []).toEqual([]);
  full.name = "";
  await succeeds("train", recipe, "--out", out);
});
