/**
 * A run's report: one HTML file that needs nothing else, made to be kept, sent and read years later. No network (its content
 * policy forbids it), no library; light and dark; wide and on a phone. Everything from outside is escaped by the `html` tag.
 */
import { createHash } from "node:crypto";
import type { measure } from "spikeloom";
import { lineChart } from "./report/chart.ts";
import { bytes, count, duration, energy, percent, plain, short, times } from "./report/format.ts";
import { html, Markup } from "./report/html.ts";
import { heatUri, pngUri } from "./report/image.ts";
import { SCRIPT, STYLE } from "./report/style.ts";
import type {
  ReportAttention,
  ReportConfusion,
  ReportData,
  ReportHistory,
  ReportImage,
  ReportMemory,
  ReportRaster,
  ReportRate,
  ReportSample,
  ReportSummary,
} from "./report-data.ts";

/** Rows of a raster; layers with more neurons show every k-th. */
const MOST_RASTER_ROWS = 256;

interface Section {
  readonly id: string;
  readonly title: string;
  readonly body: Markup | undefined;
}

/** The report as the text of an HTML file. */
export function renderReport(data: ReportData): string {
  const { summary, samples = [] } = data;
  const all: Section[] = [
    { id: "summary", title: "Summary", body: summarySection(summary, data.energy) },
    { id: "curves", title: "Training", body: data.history && curvesSection(data.history) },
    { id: "confusion", title: "Confusion matrix", body: data.confusion && confusionSection(data.confusion) },
    { id: "rates", title: "Firing rates by layer", body: data.rates?.length ? ratesSection(data.rates) : undefined },
    { id: "rasters", title: "Spike rasters", body: rastersSection(samples) },
    { id: "attention", title: "Attention maps", body: attentionSection(samples) },
    { id: "energy", title: "Energy estimate", body: data.energy && energySection(data.energy, data.presets ?? []) },
    { id: "memory", title: "Memory and sparsity", body: data.memory && memorySection(data.memory) },
    { id: "reproduce", title: "Reproduce", body: reproduceSection(data) },
  ];
  const sections = all.filter((section) => section.body);
  const policy = `default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-${createHash("sha256").update(SCRIPT).digest("base64")}'`;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${data.name} – spikeloom report</title>
<style>${new Markup(STYLE)}</style>
</head>
<body>
<header>
<h1>${data.name}</h1>
<p>${summary.model} on ${summary.dataset}${summary.finishedAt ? `, ${when(summary.finishedAt)}` : undefined}</p>
<nav aria-label="Sections">${sections.map(({ id, title }) => html`<a href="#${id}">${title}</a>`)}</nav>
</header>
<main>
${sections.map(({ id, title, body }) => html`<section id="${id}" aria-labelledby="${id}-title"><h2 id="${id}-title">${title}</h2>\n${body}</section>\n`)}
</main>
<footer>Written by spikeloom${summary.versions?.spikeloom ? ` ${summary.versions.spikeloom}` : undefined}. Everything is in this file.</footer>
<script>${new Markup(SCRIPT)}</script>
</body>
</html>
`.text;
}

function summarySection(s: ReportSummary, e: measure.EnergyReport | undefined): Markup {
  const card = (name: string, value: string, note?: string) =>
    html`<div><dt>${name}</dt><dd>${value}${note ? html`<small>${note}</small>` : undefined}</dd></div>`;
  const facts: [string, string | undefined][] = [
    ["Model", s.model],
    ["Data", `${s.dataset}, ${count(s.testImages)} test images`],
    ["Time steps", String(s.timeSteps)],
    ["Epochs", String(s.epochs)],
    ["Seed", String(s.seed)],
    ["Test loss", typeof s.testLoss === "number" ? plain(s.testLoss) : undefined],
    ["Device", `${s.device}, ${s.isa}`],
    ["Threads", String(s.threads)],
    ["Processor", s.cpu],
    ["Peak memory", s.peakMemoryBytes === undefined ? undefined : bytes(s.peakMemoryBytes)],
    ["Finished", when(s.finishedAt)],
    ...Object.entries(s.versions ?? {}),
  ];
  return html`<dl class="cards">
${card("Test accuracy", percent(s.testAccuracy), `${count(s.testImages)} images`)}
${card("Parameters", short(s.parameters), s.parameters >= 1000 ? count(s.parameters) : undefined)}
${card("Training time", duration(s.trainingSeconds), s.imagesPerSecond === undefined ? undefined : `${count(s.imagesPerSecond)} images/s`)}
${card("Mean firing rate", percent(s.firingRate, 1), "of all neurons and steps")}
${e && card("Energy per image", energy(e.total.energy), `estimate; ${ratio(e)} as an ANN`)}
</dl>
<dl class="facts">${facts.map(([name, value]) => (value === undefined ? undefined : html`<div><dt>${name}</dt><dd>${value}</dd></div>`))}</dl>`;
}

/** ISO 8601 to the minute; other text as it is. */
function when(time: string | undefined): string | undefined {
  return time?.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*Z$/, "$1 $2 UTC");
}

/** A layer's path that may wrap after its dots and underscores. */
function breakable(path: string): Markup[] {
  return path.split(/(?<=[._])/).map((part) => html`${part}<wbr>`);
}

/** What the network needs beside itself as an ANN: "3.1× less than". */
function ratio({ total }: measure.EnergyReport): string {
  const factor = total.annEnergy / total.energy;
  if (!(factor > 0) || !Number.isFinite(factor)) return "–";
  return factor >= 1 ? `${times(factor)} less than` : `${times(1 / factor)} more than`;
}

function curvesSection({ steps, epochs }: ReportHistory): Markup {
  const perStep = (pick: (s: ReportHistory["steps"][number]) => number | null | undefined) =>
    steps.map((s) => ({ x: s.epoch, y: pick(s) }));
  const perEpoch = (pick: (e: ReportHistory["epochs"][number]) => number | null | undefined) =>
    epochs.map((e) => ({ x: e.epoch, y: pick(e) }));
  const trainLoss = steps.length ? perStep((s) => s.loss) : perEpoch((e) => e.trainLoss);
  const charts = [
    lineChart({
      title: "Loss",
      xLabel: "epoch",
      format: plain,
      scale: "log",
      series: [
        { name: "training", points: trainLoss, marks: !steps.length },
        { name: "test", points: perEpoch((e) => e.testLoss), marks: true },
      ],
    }),
    lineChart({
      title: "Accuracy",
      xLabel: "epoch",
      format: axisPercent,
      series: [
        { name: "training", points: perEpoch((e) => e.trainAccuracy), marks: true },
        { name: "test", points: perEpoch((e) => e.testAccuracy), marks: true },
      ],
    }),
    lineChart({
      title: "Learning rate",
      xLabel: "epoch",
      format: plain,
      scale: "zero",
      series: [{ name: "learning rate", points: perStep((s) => s.learningRate) }],
    }),
    lineChart({
      title: "Mean firing rate",
      xLabel: "epoch",
      format: axisPercent,
      scale: "zero",
      series: [
        { name: "training batches", points: perStep((s) => s.firingRate) },
        { name: "mean of the epoch", points: perEpoch((e) => e.firingRate), marks: true },
      ],
    }),
  ];
  const head = ["Epoch", "Training loss", "Training accuracy", "Test loss", "Test accuracy", "Firing rate", "Time"];
  return html`<div class="charts">${charts}</div>
<details><summary>Values of each epoch</summary><div class="scroll" tabindex="0" role="region" aria-label="Values of each epoch"><table>
<caption>Values of each epoch</caption>
<thead><tr>${head.map((h) => html`<th scope="col">${h}</th>`)}</tr></thead>
<tbody>${epochs.map(
    (e) =>
      html`<tr><th scope="row">${e.epoch}</th><td>${plain(e.trainLoss)}</td><td>${percent(e.trainAccuracy)}</td><td>${plain(e.testLoss)}</td><td>${percent(e.testAccuracy)}</td><td>${percent(e.firingRate)}</td><td>${duration(e.seconds)}</td></tr>`,
  )}</tbody></table></div></details>`;
}

/** Two digits at most: "98.25 %", "20 %". */
function axisPercent(value: number): string {
  return `${Number((100 * value).toFixed(2))} %`;
}

function confusionSection({ classes, counts }: ReportConfusion): Markup {
  const total = (row: readonly number[]) => row.reduce((a, b) => a + b, 0);
  const worst = Math.max(1, ...counts.flatMap((row, i) => row.filter((_, j) => j !== i)));
  const name = (i: number) => classes[i] ?? String(i);
  const mistakes = counts.flatMap((row, i) => row.map((n, j) => ({ n, i, j })).filter(({ n, j }) => n > 0 && j !== i));
  const commonest = mistakes.sort((a, b) => b.n - a.n).slice(0, 3);
  const cell = (n: number, i: number, j: number, row: readonly number[]) => {
    const share = i === j ? n / (total(row) || 1) : Math.sqrt(n / worst);
    return html`<td class="${i === j ? "hit" : n ? "miss" : "none"}" style="--v:${share.toFixed(3)}" title="true ${name(i)}, predicted ${name(j)}: ${n}">${n}</td>`;
  };
  return html`<p>Rows are true classes, columns predictions. ${
    commonest.length
      ? `Most frequent mistakes: ${commonest.map(({ n, i, j }) => `${name(i)} taken for ${name(j)} (${n})`).join(", ")}.`
      : "No mistakes."
  }</p>
<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table class="matrix">
<caption>Test images by true class and prediction</caption>
<thead><tr><th scope="col">predicted →<br>true ↓</th>${counts.map((_, j) => html`<th scope="col">${name(j)}</th>`)}<th scope="col">Right</th></tr></thead>
<tbody>${counts.map(
    (row, i) =>
      html`<tr><th scope="row">${name(i)}</th>${row.map((n, j) => cell(n, i, j, row))}<td class="recall">${percent((row[i] ?? 0) / (total(row) || Number.NaN), 1)}</td></tr>`,
  )}</tbody></table></div>`;
}

/** A bar whose full length is `top`. */
function bar(value: number | undefined, top: number): Markup {
  const share = (value ?? 0) / top;
  return html`<span><i style="--v:${(share > 0 ? Math.min(1, share) : 0).toFixed(4)}"></i></span>`;
}

function ratesSection(rates: readonly ReportRate[]): Markup {
  const steps = Math.max(...rates.map((r) => r.perStep.length));
  const top = Math.max(Number.MIN_VALUE, ...rates.flatMap((r) => r.perStep));
  const meter = (value: number | undefined, extra = "") =>
    html`<div class="meter ${extra}">${bar(value, top)}<b>${percent(value, 1)}</b></div>`;
  const mean = (r: ReportRate) => r.perStep.reduce((a, b) => a + b, 0) / (r.perStep.length || Number.NaN);
  return html`<p>Share of a layer's neurons that fire, over test images from all over the set (64 at most): the mean of the steps, then each step t. A full bar is ${percent(top, 1)}.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Firing rates by layer"><table class="rates wide">
<caption>Firing rates by layer and step</caption>
<thead><tr><th scope="col" class="name">Layer</th><th scope="col">Neurons</th><th scope="col" class="name">Mean</th>${Array.from({ length: steps }, (_, t) => html`<th scope="col" class="name">t = ${t}</th>`)}</tr></thead>
<tbody>${rates.map(
    (r) =>
      html`<tr><th scope="row" title="${r.layer}">${breakable(r.layer)}</th><td>${count(r.neurons)}</td><td>${meter(mean(r), "mean")}</td>${Array.from({ length: steps }, (_, t) => html`<td>${meter(r.perStep[t])}</td>`)}</tr>`,
  )}</tbody></table></div>`;
}

function rastersSection(samples: readonly ReportSample[]): Markup | undefined {
  const shown = samples.filter((s) => s.rasters?.length);
  if (!shown.length) return undefined;
  return html`<p>Test images and the spikes they cause: in each panel time runs to the right (one column a step), neurons downwards; a mark is a spike.</p>
<div class="samples">${shown.map((s) => html`<div class="sample">${digit(s)}${s.rasters?.map((r) => raster(r, s))}</div>\n`)}</div>`;
}

function raster({ layer, timeSteps, neurons, ofNeurons = neurons, bits }: ReportRaster, sample: ReportSample): Markup {
  const packed = Buffer.from(bits, "base64");
  const fired = (t: number, n: number) => ((packed[(t * neurons + n) >> 3] ?? 0) >> ((t * neurons + n) & 7)) & 1;
  const every = Math.ceil(neurons / MOST_RASTER_ROWS);
  const rows = Math.ceil(neurons / every);
  let marks = "";
  let spikes = 0;
  for (let t = 0; t < timeSteps; t++) {
    for (let n = 0; n < neurons; n++) {
      if (!fired(t, n)) continue;
      spikes++;
      if (n % every === 0) marks += `M${t} ${n / every + 0.5}h1`;
    }
  }
  const rate = percent(spikes / (timeSteps * neurons || Number.NaN), 1);
  const pixel = Math.max(1, Math.floor(MOST_RASTER_ROWS / rows));
  const steps = Array.from({ length: timeSteps - 1 }, (_, t) => `M${t + 1} 0v${rows}`).join("");
  const what = rows < ofNeurons ? `${count(rows)} of ${count(ofNeurons)} neurons` : `${count(neurons)} neurons`;
  return html`<figure class="raster"><svg width="92" height="${rows * pixel}" viewBox="0 0 ${timeSteps} ${rows}" preserveAspectRatio="none" shape-rendering="crispEdges" role="img" aria-label="Spikes of ${layer} for test image ${sample.index}: ${what}, ${timeSteps} steps, ${rate} firing"><path class="steps" d="${steps}"/><path d="${marks}"/></svg>
<div class="t" aria-hidden="true"><span>t = 0</span><span>${timeSteps - 1}</span></div>
<figcaption><strong>${breakable(layer)}</strong>${rate} firing<br>${what}</figcaption></figure>`;
}

function attentionSection(samples: readonly ReportSample[]): Markup | undefined {
  const shown = samples.filter((s) => s.attention?.length);
  if (!shown.length) return undefined;
  return html`<p>Spike-driven self-attention lets a channel of the values V<sub>S</sub> pass only where queries and keys agree. Each map is the firing rate of V<sub>S</sub> at every position, averaged over channels and steps, before and after that mask. Both maps of a block share one scale.</p>
<div class="samples">${shown.map((s) => html`<div class="sample">${digit(s)}${s.attention?.map((a) => attention(a, s))}</div>\n`)}</div>`;
}

function attention({ block, width, height, before, after }: ReportAttention, sample: ReportSample): Markup {
  const max = Math.max(...before, ...after);
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / (values.length || Number.NaN);
  const map = (values: readonly number[], name: string) =>
    html`<figure class="map"><img src="${heatUri(values, width, height, max)}" width="${width}" height="${height}" alt="${block}, V_S ${name} the mask for test image ${sample.index}: ${width} x ${height} positions, mean ${percent(mean(values), 1)}"><figcaption>${name}: mean ${percent(mean(values), 1)}</figcaption></figure>`;
  return html`<div class="block"><h3>${block}</h3><div class="maps">${map(before, "before")}${map(after, "after")}</div><div class="scale"><span>0</span><i></i><span>${percent(max, 0)}</span></div></div>`;
}

function digit(s: ReportSample): Markup {
  const right = s.label === s.predicted;
  const sure = s.confidence === undefined ? "" : ` (${percent(s.confidence, 1)})`;
  return html`<figure class="digit"><img src="${imageUri(s.image)}" width="${s.image.width}" height="${s.image.height}" alt="Test image ${s.index}, class ${s.label}"><figcaption><strong>${s.label}</strong>${
    right ? `recognised${sure}` : html`<span class="wrong">taken for ${s.predicted}${sure}</span>`
  }<br>test image ${s.index}</figcaption></figure>`;
}

function imageUri({ pixels, width, height, channels }: ReportImage): string {
  return pngUri(Buffer.from(pixels, "base64"), width, height, channels);
}

/** A table that may be wider than the page. */
function scrolling(caption: string, kind: string, head: Markup, body: Markup): Markup {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"><table class="${kind}">
<caption>${caption}</caption>
<thead><tr>${head}</tr></thead>
${body}</table></div>`;
}

const heads = (names: readonly string[]) => names.map((h) => html`<th scope="col">${h}</th>`);
/** Three digits, and all of them under the pointer. */
const exact = (n: number) => html`<td title="${count(n)}">${short(n)}</td>`;

function energySection(e: measure.EnergyReport, presets: readonly measure.EnergyReport[]): Markup {
  const { total } = e;
  const largest = Math.max(...e.layers.map((l) => l.energy), Number.MIN_VALUE);
  const shape = (dims: readonly number[]) => dims.join("×");
  const perStep = (rates: readonly number[] | null) =>
    rates ? rates.map((r, t) => `t = ${t}: ${percent(r)}`).join(", ") : "the input is no spike";
  return html`<p>Estimates from counted operations, not measurements: per image, over ${count(e.samples)} images. By the plain rule the same network as an ANN would need ${energy(total.annEnergy)}: this one needs ${ratio(e)} that.</p>
${presets.length ? presetsTable(presets) : undefined}
<h3 class="next">By layer, plain rule</h3>
${presets.length ? undefined : html`<p class="rule">${capital(e.rule)}. Costs: ${e.costs.name}.</p>`}
${scrolling(
  "Operations and energy of one image by layer; a number under the pointer shows all its digits",
  "wide",
  html`<th scope="col" class="name">Layer</th>${heads(["Dense MACs a step", "Input rate", `${e.layers.some((l) => l.levels > 1) ? "Rate × D" : "Rate"} × T (${e.timeSteps})`, "Synaptic ops", "MACs", "ACs", "Energy"])}<th scope="col" class="name">Share</th>`,
  html`<tbody>${e.layers.map(
    (l) =>
      html`<tr><th scope="row" title="${l.layer}: ${l.rule}">${breakable(l.layer)}<small>${l.type}, ${shape(l.input)} → ${shape(l.output)}</small></th>${exact(l.denseOps)}<td title="${perStep(l.perStep)}">${l.firingRate === null ? "no spikes" : percent(l.firingRate)}</td><td>${l.meanSpike === null ? "–" : (l.meanSpike * l.timeSteps).toFixed(3)}</td>${exact(l.synOps)}${exact(l.macs)}${exact(l.acs)}<td title="${count(l.energy)} pJ">${energy(l.energy)}</td><td><div class="meter">${bar(l.energy, largest)}<b>${percent(l.energy / (total.energy || Number.NaN), 1)}</b></div></td></tr>`,
  )}</tbody>
<tfoot><tr><th scope="row" class="name">Total</th>${exact(total.denseOps)}<td></td><td></td>${exact(total.synOps)}${exact(total.macs)}${exact(total.acs)}<td title="${count(total.energy)} pJ">${energy(total.energy)}</td><td></td></tr></tfoot>`,
)}`;
}

const capital = (sentence: string) => sentence.charAt(0).toUpperCase() + sentence.slice(1);

/** The papers' conventions side by side, each with its rule. */
function presetsTable(presets: readonly measure.EnergyReport[]): Markup {
  const largest = Math.max(...presets.map((p) => p.total.energy), Number.MIN_VALUE);
  const chosen = (p: measure.EnergyReport) =>
    Object.entries(p.settings)
      .map(([key, value]) => `${key} = ${value}`)
      .join(", ");
  return html`<h3>By convention</h3>
<p class="rule">Papers count different things, so figures compare only within one row. The comparison in a row is with the same network as an ANN, as that convention counts it.</p>
${scrolling(
  "Energy of one image by convention",
  "wide",
  html`<th scope="col" class="name">Convention</th>${heads(["MACs", "ACs", "Energy", "As ANN", "ANN ÷ SNN"])}<th scope="col" class="name">Energy</th>`,
  html`<tbody>${presets.map(
    (p) =>
      html`<tr><th scope="row">${p.preset}<small>${chosen(p) || undefined}</small></th>${exact(p.total.macs)}${exact(p.total.acs)}<td>${energy(p.total.energy)}</td><td>${energy(p.total.annEnergy)}</td><td>${times(p.total.annEnergy / p.total.energy)}</td><td><div class="meter">${bar(p.total.energy, largest)}</div></td></tr>`,
  )}</tbody>`,
)}
<details open><summary>The rule of each convention</summary><dl class="rules">${presets.map(
    (p) =>
      html`<div><dt>${p.preset}: ${p.title}</dt><dd>${capital(p.rule)}.${p.notes.map((note) => html` <strong>${capital(note)}.</strong>`)} <small>Costs: ${p.costs.name}. Source: ${p.source}.</small></dd></div>`,
  )}</dl></details>`;
}

function memorySection({ footprint, neurobench }: ReportMemory): Markup {
  const { rules, synapticOperations: ops } = neurobench;
  const rows: [string, string, string][] = [
    ["Footprint", bytes(neurobench.footprint), `${rules.footprint}: ${bytes(footprint.parameters)} + ${bytes(footprint.buffers)}`],
    ["Spikes of an image", bytes(footprint.spikes), `all neurons and steps, as bits; as floats ${bytes(footprint.spikesAsFloats)}`],
    ["Activation sparsity", percent(neurobench.activationSparsity), rules.activationSparsity],
    ["Connection sparsity", percent(neurobench.connectionSparsity), rules.connectionSparsity],
    ["Effective MACs", count(ops.effectiveMacs), rules.effectiveMacs],
    ["Effective ACs", count(ops.effectiveAcs), rules.effectiveAcs],
    ["Dense operations", count(ops.dense), rules.dense],
  ];
  return html`<p>By NeuroBench's definitions, but for the spikes' size; operations are of one image over all steps.</p>
${scrolling(
  "Memory and sparsity",
  "wide words",
  html`<th scope="col" class="name">What</th><th scope="col">Value</th>`,
  html`<tbody>${rows.map(([what, value, rule]) => html`<tr><th scope="row">${what}<small>${rule}</small></th><td>${value}</td></tr>`)}</tbody>`,
)}`;
}

function reproduceSection({ command, recipe }: ReportData): Markup | undefined {
  if (!command && !recipe) return undefined;
  return html`${command ? html`<h3>Command</h3><pre tabindex="0"><code>${command}</code></pre>` : undefined}${
    recipe ? html`<h3 class="next">Recipe</h3><pre tabindex="0"><code>${recipe}</code></pre>` : undefined
  }`;
}
