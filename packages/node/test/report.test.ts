/** The report: complete, self-contained, escaped, and drawn from the numbers given. How it looks is checked by eye. */
import { inflateSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { lineChart, ticks } from "../src/report/chart.ts";
import { bytes, duration, energy, percent, plain, short, times } from "../src/report/format.ts";
import { html, Markup } from "../src/report/html.ts";
import { heat, pngUri } from "../src/report/image.ts";
import { renderReport } from "../src/report.ts";
import { packBits, type ReportData } from "../src/report-data.ts";
import { sampleReport } from "./report-sample.ts";

const ids = (page: string) => [...page.matchAll(/<section id="([^"]+)"/g)].map((m) => m[1]);
const { summary } = sampleReport();

describe("renderReport", () => {
  const page = renderReport(sampleReport());

  it("has every section, and a link to each", () => {
    expect(ids(page)).toEqual(["summary", "curves", "confusion", "rates", "rasters", "attention", "energy", "memory", "reproduce"]);
    for (const id of ids(page)) expect(page).toContain(`href="#${id}"`);
  });

  it("shows the figures of the run", () => {
    for (const text of [
      "98.72 %",
      "187\u202f466",
      "3 min 35 s",
      "native, avx512",
      "13.1 %",
      "4.7× less than",
      "5.49 µJ",
      "npx spikeloom train recipes/mnist.yml",
    ])
      expect(page).toContain(text);
  });

  it("shows every energy convention with its rule, source and what it notes, and NeuroBench's counts", () => {
    const { presets = [], memory } = sampleReport();
    const text = page.replace(/<[^>]*>/g, "");
    const plainText = (s: string) => s.replaceAll("&", "&amp;").replaceAll("'", "&#39;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
    expect(presets.length).toBeGreaterThan(5);
    for (const p of presets)
      for (const part of [p.rule, ...p.notes]) expect(text).toContain(plainText(part.charAt(0).toUpperCase() + part.slice(1)));
    for (const p of presets) expect(text).toContain(plainText(p.source));
    for (const rule of Object.values(memory?.neurobench.rules ?? {})) expect(text).toContain(rule);
    for (const unit of [" pJ</td>", " nJ</td>", " mJ</td>"]) expect(page).not.toContain(unit);
  });

  it("refers to nothing outside itself, and its policy lets nothing in", () => {
    expect(page.match(/(?:src|href)="(?!data:image\/png;base64,|#)[^"]*"/g)).toBeNull();
    expect(page).not.toMatch(/url\(|@import|<link|<iframe/);
    expect(page).toContain("default-src &#39;none&#39;; img-src data:");
    expect(page).toMatch(/script-src &#39;sha256-[\w+/]{43}=&#39;/);
  });

  it("leaves out the sections that have no data", () => {
    expect(ids(renderReport({ name: "eval", summary }))).toEqual(["summary"]);
    const samples = sampleReport().samples?.map((s) => ({ ...s, rasters: [] })) ?? [];
    expect(ids(renderReport({ name: "x", summary, samples, command: "c" }))).toEqual(["summary", "attention", "reproduce"]);
  });

  it("escapes every text that comes from outside", () => {
    const evil = `"'><script>alert(1)</script>&`;
    // Base64 fields aside, every string of the data becomes hostile.
    const poison = (value: unknown, key = ""): unknown => {
      if (typeof value === "string") return key === "pixels" || key === "bits" ? value : evil;
      if (Array.isArray(value)) return value.map((v) => poison(v, key));
      if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, poison(v, k)]));
      return value;
    };
    const poisoned = renderReport({
      ...(poison(sampleReport()) as ReportData),
      summary: { ...(poison(summary) as ReportData["summary"]), versions: { [evil]: evil } },
    });
    expect(poisoned.match(/<script>/g)).toHaveLength(1);
    expect(poisoned).toContain("&lt;script&gt;alert(1)&lt;/script&gt;&amp;");
    expect(poisoned).not.toContain(`"'>`);
    expect(poisoned.match(/<\/?[a-z][\w-]*/g)?.length).toBeGreaterThan(page.length / 500);
  });

  it("survives values that are missing or not finite", () => {
    const broken = renderReport({
      name: "broken",
      summary: { ...summary, testAccuracy: null, firingRate: Number.NaN },
      history: { steps: [{ epoch: 0, loss: null, learningRate: Number.NaN }], epochs: [{ epoch: 1, trainLoss: Number.NaN }] },
      confusion: {
        classes: ["a", "b"],
        counts: [
          [0, 0],
          [0, 0],
        ],
      },
      rates: [{ layer: "dead", neurons: 0, perStep: [] }],
    });
    expect(broken).not.toMatch(/NaN|Infinity|undefined/);
    expect(ids(broken)).toEqual(["summary", "curves", "confusion", "rates"]);
  });

  it("draws each spike of a raster where it fell", () => {
    const bits = packBits([1, 0, 0, 0, 1, 1]);
    const base = sampleReport().samples?.[0] as NonNullable<ReportData["samples"]>[number];
    const text = renderReport({
      name: "r",
      summary,
      samples: [{ ...base, rasters: [{ layer: "lif", timeSteps: 2, neurons: 3, ofNeurons: 48, bits }] }],
    });
    expect(text).toContain('<path d="M0 0.5h1M1 1.5h1M1 2.5h1"/>');
    expect(text).toContain("Spikes of lif for test image 3: 3 of 48 neurons, 2 steps, 50.0 % firing");
  });

  it("names the most frequent confusions", () => {
    const counts = [
      [90, 7, 3],
      [1, 99, 0],
      [0, 0, 100],
    ];
    const text = renderReport({ name: "c", summary, confusion: { classes: ["cat", "dog", "owl"], counts } });
    expect(text).toContain("cat taken for dog (7), cat taken for owl (3), dog taken for cat (1).");
    expect(text).toContain('title="true cat, predicted dog: 7"');
    expect(text).toContain("90.0 %");
  });
});

describe("charts", () => {
  it("have round ticks that enclose the values", () => {
    expect(ticks(0.02, 2.3, 5)).toEqual([0, 0.5, 1, 1.5, 2, 2.5]);
    expect(ticks(0.951, 0.9872, 5)).toEqual([0.95, 0.96, 0.97, 0.98, 0.99]);
    expect(ticks(3, 3, 5).length).toBeGreaterThan(1);
  });

  it("thin out long series by averages, and keep gaps out", () => {
    const points = Array.from({ length: 6000 }, (_, i) => ({ x: i, y: i % 7 === 0 ? null : 2 }));
    const text = lineChart({ title: "t", xLabel: "x", format: plain, series: [{ name: "s", points }] })?.text as string;
    const path = / d="M([^"]*)"/.exec(text)?.[1]?.split("L") as string[];
    expect(path).toHaveLength(300);
    expect(new Set(path.map((p) => p.split(" ")[1])).size).toBe(1);
    expect(lineChart({ title: "t", xLabel: "x", format: plain, series: [{ name: "s", points: [{ x: 0, y: null }] }] })).toBeUndefined();
  });

  it("give hover data that a browser reads back", () => {
    const text = lineChart({ title: "t", xLabel: "epoch", format: plain, series: [{ name: "a<b", points: [{ x: 1, y: 0.5 }] }] })
      ?.text as string;
    const attribute = /data-hover="([^"]*)"/.exec(text)?.[1] as string;
    const decoded = attribute.replaceAll("&quot;", '"').replaceAll("&lt;", "<");
    expect(JSON.parse(decoded)).toMatchObject({ x: "epoch", s: [{ n: "a<b", p: [[expect.any(Number), expect.any(Number), "0.5", "1"]] }] });
  });
});

describe("pictures", () => {
  it("are PNG files that unpack to their pixels", () => {
    const pixels = Uint8Array.from({ length: 3 * 2 * 3 }, (_, i) => i * 10);
    const file = Buffer.from(pngUri(pixels, 3, 2, 3).split(",")[1] as string, "base64");
    expect(file.subarray(1, 4).toString()).toBe("PNG");
    expect([file.readUInt32BE(16), file.readUInt32BE(20)]).toEqual([3, 2]);
    const length = file.readUInt32BE(33);
    expect(file.subarray(37, 41).toString()).toBe("IDAT");
    expect([...inflateSync(file.subarray(41, 41 + length))]).toEqual([0, ...pixels.subarray(0, 9), 0, ...pixels.subarray(9)]);
  });

  it("have heat colours from blue to light yellow, ever lighter", () => {
    const grey = Array.from({ length: 21 }, (_, i) => heat(i / 20)).map(([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b);
    for (let i = 1; i < grey.length; i++) expect(grey[i]).toBeGreaterThan(grey[i - 1] as number);
    const [r, , b] = heat(0);
    expect(b).toBeGreaterThan(r);
    expect(heat(2)).toEqual(heat(1));
  });
});

it("html escapes what is filled in and nothing else", () => {
  expect(html`<p title="${'"'}">${["a&b", 3, undefined, html`<b>${"<"}</b>`, new Markup("<i>")]}</p>`.text).toBe(
    '<p title="&quot;">a&amp;b3<b>&lt;</b><i></p>',
  );
});

it("numbers read well", () => {
  expect([percent(0.98512), percent(null), short(999), short(999_600), short(187466), short(5.63e6)]).toEqual([
    "98.51 %",
    "–",
    "999",
    "1.00 M",
    "187 k",
    "5.63 M",
  ]);
  expect([760.5, 0, 42_000, 2.4e6, 5.5e7, 3.1e9, null].map(energy)).toEqual([
    "0.00076 µJ",
    "0 µJ",
    "0.042 µJ",
    "2.40 µJ",
    "55.0 µJ",
    "3\u202f100 µJ",
    "–",
  ]);
  expect([0.04, 0.4, 4.73, 47.3, Number.NaN, undefined].map(times)).toEqual(["0.040×", "0.40×", "4.7×", "47×", "–", "–"]);
  expect([700, 23_480, 758_736, 5.5e6, 2 ** 29, 3 * 2 ** 30].map(bytes)).toEqual([
    "700 B",
    "22.9 KiB",
    "741.0 KiB",
    "5.2 MiB",
    "512 MiB",
    "3.0 GiB",
  ]);
  expect([duration(4.25), duration(59.7), duration(187.4), duration(7260)]).toEqual(["4.3 s", "1 min 0 s", "3 min 7 s", "2 h 1 min"]);
  expect([plain(0.0005), plain(0.09388), plain(1e-5), plain(0), plain(1234567)]).toEqual(["5e-4", "0.09388", "1e-5", "0", "1.23e6"]);
});
