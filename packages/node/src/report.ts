/**
 * A run's report: one HTML file that needs nothing else, made to be kept, sent and read years later. No network (its content
 * policy forbids it), no library; light and dark; wide and on a phone. Everything from outside is escaped by the `html` tag.
 */
import type { measure } from "spikeloom";
import { lineChart } from "./report/chart.ts";
import { bytes, count, duration, energy, percent, plain, short } from "./report/format.ts";
import { html, type Markup } from "./report/html.ts";
import { renderPage, type Section } from "./report/page.ts";
import { attention, bar, breakable, energySection, imageUri, raster, ratio, scrolling } from "./report/parts.ts";
import type { ReportConfusion, ReportData, ReportHistory, ReportMemory, ReportRate, ReportSample, ReportSummary } from "./report-data.ts";

/** The report as the text of an HTML file. */
export function renderReport(data: ReportData): string {
  const { summary, samples = [] } = data;
  const sections: Section[] = [
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
  return renderPage({
    title: `${data.name} – spikeloom report`,
    heading: data.name,
    lead: html`${summary.model} on ${summary.dataset}${summary.finishedAt ? `, ${when(summary.finishedAt)}` : undefined}`,
    sections,
    version: summary.versions?.spikeloom,
  });
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
  return html`${s.warnings?.map((w) => html`<p class="wrong" role="note"><strong>Warning:</strong> ${w}.</p>\n`)}<dl class="cards">
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
<div class="samples">${shown.map((s) => html`<div class="sample">${digit(s)}${s.rasters?.map((r) => raster(r, `test image ${s.index}`))}</div>\n`)}</div>`;
}

function attentionSection(samples: readonly ReportSample[]): Markup | undefined {
  const shown = samples.filter((s) => s.attention?.length);
  const legend = shown[0]?.attention?.[0]?.legend;
  if (!legend) return undefined;
  return html`<p>${legend.text} Both maps of a block share one scale.</p>
<div class="samples">${shown.map((s) => html`<div class="sample">${digit(s)}${s.attention?.map((a) => attention(a, `test image ${s.index}`))}</div>\n`)}</div>`;
}

function digit(s: ReportSample): Markup {
  const right = s.label === s.predicted;
  const sure = s.confidence === undefined ? "" : ` (${percent(s.confidence, 1)})`;
  return html`<figure class="digit"><img src="${imageUri(s.image)}" width="${s.image.width}" height="${s.image.height}" alt="Test image ${s.index}, class ${s.label}"><figcaption><strong>${s.label}</strong>${
    right ? `recognised${sure}` : html`<span class="wrong">taken for ${s.predicted}${sure}</span>`
  }<br>test image ${s.index}</figcaption></figure>`;
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
