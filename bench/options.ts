/** The options of `npm run bench`: the help, which of them belong to which of its three modes, and the variables that it ignores. */
import { SpikeloomError } from "spikeloom";
import { CASES } from "./cases.ts";
import { SWEEPS } from "./sweep.ts";

export const HELP = `npm run bench -- [options]
  --device LIST     native, wasm, relaxed (wasm with relaxed SIMD, Node 22 or later; npx tsx scripts/build.ts relaxed), with commas
                    between; default: native,wasm, or wasm where the addon is not built
  --isa LIST        instruction sets of the native device (avx512, avx2, baseline, ...), each forced; default: all that this CPU has
  --threads LIST    threads of each side; default: 1 and the processors
                    Without --isa and --threads the lesser instruction sets run with most threads only.
  --only NAME       one case (again for more): ${Object.keys(CASES).join(", ")}
  --rounds N        default 3
  --repeat N        most timed runs of a workload, round and side; default 7
  --peer NAME       pytorch (default) or none
  --settings LIST   the peer's, tried in the first round, the fastest kept: eager, channels_last, compile; default all
  --quick           under a minute on a quiet machine: 1 round of 2 runs, best instruction set, most threads, eager, without the long cases
  --save            write bench/results/DATE-CPU.json and .md
  --out FILE        write FILE.json and FILE.md
  --profile NAME    instead: time by kernel and shape of one case; with --device, --threads N, --repeat, and no other option
  --sweep NAME      instead: time against one quantity: ${SWEEPS.join(", ")};
                    with --device, --threads N, --repeat, --quick, --save, --out, and no other option`;

export const OPTIONS = {
  device: { type: "string" },
  isa: { type: "string" },
  only: { type: "string", multiple: true },
  threads: { type: "string" },
  rounds: { type: "string" },
  repeat: { type: "string" },
  peer: { type: "string" },
  settings: { type: "string" },
  quick: { type: "boolean" },
  save: { type: "boolean" },
  out: { type: "string" },
  profile: { type: "string" },
  sweep: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

type Name = keyof typeof OPTIONS;

/** What else may be given where one of these is. */
const WITH = {
  profile: ["device", "threads", "repeat"],
  sweep: ["device", "threads", "repeat", "quick", "save", "out"],
} as const satisfies Partial<Record<Name, readonly Name[]>>;

/**
 * Refuse options that would do nothing.
 * @param given the options of the command line, as `parseArgs` gives them
 * @throws SpikeloomError that names them, and those that apply
 */
export function checkOptions(given: Partial<Record<Name, unknown>>): void {
  const names = (Object.keys(given) as Name[]).filter((name) => given[name] !== undefined);
  const list = (of: readonly string[]) => of.map((name) => `--${name}`).join(", ");
  for (const mode of ["profile", "sweep"] as const) {
    if (given[mode] === undefined) continue;
    const idle = names.filter((name) => name !== mode && !(WITH[mode] as readonly Name[]).includes(name));
    if (idle.length)
      throw new SpikeloomError(
        `--${mode} takes ${list(WITH[mode])}; found also ${list(idle)}, which would do nothing: leave ${idle.length > 1 ? "them" : "it"} out`,
      );
    if (String(given.threads ?? "").includes(","))
      throw new SpikeloomError(`--${mode} runs with one number of threads, found --threads ${given.threads}`);
  }
  if (given.isa !== undefined && given.device !== undefined && !String(given.device).split(",").includes("native"))
    throw new SpikeloomError(
      `--isa chooses instruction sets of the native device, and --device ${given.device} leaves it out: leave out one of the two`,
    );
  if (given.settings !== undefined && given.peer === "none")
    throw new SpikeloomError("--settings are the peer's, and --peer none leaves it out: leave out one of the two");
}

/** They would force both devices to be the same one, or the sides to differ. */
export const IGNORED = ["DEVICE", "THREADS", "ISA", "WASM", "IMPLEMENTATIONS", "MATMUL_PRECISION"].map((name) => `SPIKELOOM_${name}`);
