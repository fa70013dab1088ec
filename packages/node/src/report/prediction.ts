/** The page of one prediction: the image, what the network took it for, and how spikes went through it. Self-contained, as the report. */
import type { LayerSpikes, Prediction } from "../prediction.ts";
import { count, energy, percent, short } from "./format.ts";
import { html, type Markup } from "./html.ts";
import { heatUri } from "./image.ts";
import { renderPage } from "./page.ts";
import { attention, bar, breakable, energySection, imageUri, raster, ratio, scrolling } from "./parts.ts";

/** Classes in the table of probabilities. */
const MOST_CLASSES = 10;
/** Parts of the network whose spikes are shown at once; of more, the first and the last are. */
const MOST_OPEN = 3;

/** Where a prediction comes from. */
export interface PredictionSource {
  /** Name of the image. */
  name: string;
  /** The run's name, its model and data set. */
  run: string;
  model: string;
  dataset: string;
  /** What computed it. */
  device: string;
  /** Of spikeloom. */
  version?: string | undefined;
}

/** The page as the text of an HTML file. */
export function renderPrediction(p: Prediction, source: PredictionSource): string {
  const { name, run, model, dataset } = source;
  return renderPage({
    title: `${name} – spikeloom prediction`,
    heading: `${name}: ${p.class}`,
    lead: `${model} of run ${run}, trained on ${dataset}`,
    version: source.version,
    sections: [
      { id: "prediction", title: "Prediction", body: predictionSection(p, source) },
      { id: "spikes", title: "Spikes on their way", body: mapsSection(p) },
      { id: "attention", title: "Attention", body: attentionSection(p, name) },
      { id: "rasters", title: "Spike rasters", body: rastersSection(p, name) },
      { id: "energy", title: "Energy estimate", body: energySection(p.energy, p.presets) },
    ],
  });
}

function predictionSection(p: Prediction, { device, name }: PredictionSource): Markup {
  const card = (title: string, value: string, note: string | undefined) =>
    html`<div><dt>${title}</dt><dd>${value}<small>${note}</small></dd></div>`;
  const { total } = p.energy;
  const seen = [p.found, ...p.changes].join(", ");
  return html`${p.notes.map((note) => html`<p class="note">${note}</p>`)}
<div class="verdict">
<figure class="seen"><img src="${imageUri(p.image)}" width="${p.image.width}" height="${p.image.height}" alt="${name} as the network saw it"><figcaption>As the network saw it: ${seen}</figcaption></figure>
<div><dl class="cards">
${card("Class", p.class, percent(p.probability, 1))}
${p.decidedAfter === undefined ? undefined : card("Decided after", `${p.decidedAfter} of ${p.timeSteps}`, p.timeSteps === 1 ? "time step" : "time steps")}
${card("Mean firing rate", percent(p.firingRate, 1), "of all neurons and steps")}
${card("Synaptic operations", short(total.synOps), `${short(total.macs)} MACs, ${short(total.acs)} ACs`)}
${card("Energy", energy(total.energy), `estimate; ${ratio(p.energy)} as an ANN`)}
</dl>
${scoresTable(p)}</div>
</div>
${p.interim && p.interim.length > 1 ? interimTable(p, p.interim) : undefined}
<p class="rule">Computed by ${device}.</p>`;
}

function scoresTable({ ranking }: Prediction): Markup {
  const shown = ranking.slice(0, MOST_CLASSES);
  return html`<table class="scores">
<caption>${shown.length < ranking.length ? `The likeliest of ${count(ranking.length)} classes` : "All classes"}: softmax of the logits' mean over time</caption>
<tbody>${shown.map(
    (s, i) =>
      html`<tr class="${i === 0 ? "first" : ""}"><th scope="row">${s.class}</th><td><div class="meter">${bar(s.probability, 1)}<b>${percent(s.probability, 1)}</b></div></td></tr>`,
  )}</tbody></table>`;
}

function interimTable(p: Prediction, interim: NonNullable<Prediction["interim"]>): Markup {
  const own = interim.at(-1)?.index;
  return html`<h3 class="next">Decision over time</h3>
<p class="rule">What the network would have said had it been stopped after so many steps: the mean of the logits until then.</p>
<table class="scores">
<thead><tr><th scope="col" class="name">After</th><th scope="col" class="name">Class</th><th scope="col" class="name">Probability of ${p.class}</th></tr></thead>
<tbody>${interim.map(
    (s, t) =>
      html`<tr class="${s.index === own ? "first" : ""}"><th scope="row">${t + 1} ${t ? "steps" : "step"}</th><td class="name">${s.class}${s.index === own ? undefined : html`<small>${percent(s.probability, 1)}</small>`}</td><td><div class="meter">${bar(s.ofFinal, 1)}<b>${percent(s.ofFinal, 1)}</b></div></td></tr>`,
  )}</tbody></table>`;
}

/** Layers by the part of the network that they are in: `block.0` of `block.0.attn.q_lif`. */
function parts(layers: readonly LayerSpikes[]): { part: string; layers: LayerSpikes[] }[] {
  const groups = new Map<string, LayerSpikes[]>();
  for (const l of layers) {
    const part = /^[^.]+(?:\.\d+)?/.exec(l.layer)?.[0] ?? "";
    groups.set(part, [...(groups.get(part) ?? []), l]);
  }
  return [...groups].map(([part, layers]) => ({ part, layers }));
}

/** A layer's path in a part. */
function within(part: string, layer: string): string {
  return layer.startsWith(`${part}.`) ? layer.slice(part.length + 1) : layer;
}

/** Each part of the network as something that opens; `openAll` or the first and last are open. */
function grouped(layers: readonly LayerSpikes[], body: (layers: readonly LayerSpikes[], part: string) => Markup): Markup[] {
  const groups = parts(layers);
  return groups.map(({ part, layers }, i) => {
    const open = groups.length <= MOST_OPEN || i === 0 || i === groups.length - 1;
    const summary = html`<summary>${part} (${layers.length} ${layers.length === 1 ? "layer" : "layers"})</summary>`;
    return open
      ? html`<details class="group" open>${summary}${body(layers, part)}</details>\n`
      : html`<details class="group">${summary}${body(layers, part)}</details>\n`;
  });
}

function mapsSection({ layers, timeSteps }: Prediction): Markup | undefined {
  const shown = layers.filter((l) => l.maps);
  if (!shown.length) return undefined;
  const steps = Array.from({ length: timeSteps }, (_, t) => t);
  const row = ({ layer, raster: { rate, ofNeurons }, maps }: LayerSpikes, part: string) => {
    if (!maps) return undefined;
    const { width, height } = maps;
    const max = Math.max(...maps.steps.map((map) => Math.max(...map)));
    const mean = Array.from(
      { length: width * height },
      (_, i) => maps.steps.reduce((sum, map) => sum + (map[i] as number), 0) / maps.steps.length,
    );
    const cell = (map: readonly number[], when: string) =>
      html`<td><img src="${heatUri(map, width, height, max)}" width="${width}" height="${height}" alt="${layer}, ${when}: ${percent(average(map), 1)} firing" title="${when}: ${percent(average(map), 1)} firing"></td>`;
    return html`<tr><th scope="row" title="${layer}">${breakable(within(part, layer))}<small>${count(ofNeurons)} neurons, ${percent(rate, 1)} firing, peak ${percent(max, 0)}</small></th>${maps.steps.map((map, t) => cell(map, `t = ${t}`))}${cell(mean, "all steps")}</tr>`;
  };
  return html`<p>The image goes through the network from top to bottom, and again at each time step from left to right. A map shows where a layer fires: the share of its channels that have a spike at each position, from none (dark) to the layer's peak (yellow).</p>
${grouped(shown, (inPart, part) =>
  scrolling(
    `Where the layers of ${part} fire`,
    "spikes",
    html`<th scope="col">Layer</th>${steps.map((t) => html`<th scope="col">t = ${t}</th>`)}<th scope="col">All steps</th>`,
    html`<tbody>${inPart.map((l) => row(l, part))}</tbody>`,
  ),
)}`;
}

const average = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / (values.length || Number.NaN);

function attentionSection({ attention: maps, image }: Prediction, name: string): Markup | undefined {
  const [first] = maps;
  if (!first) return undefined;
  return html`<p>${first.legend.text} They lie over the image. Both maps of a block share one scale.</p>
<div class="samples over">${maps.map((a) => html`<div class="sample">${attention(a, name, image)}</div>`)}</div>`;
}

function rastersSection({ layers }: Prediction, name: string): Markup {
  return html`<p>Every layer with neurons, in the order of the network. In each panel time runs to the right (one column a step), neurons downwards; a mark is a spike.</p>
${grouped(layers, (inPart, part) => html`<div class="sample">${inPart.map((l) => raster({ ...l.raster, layer: within(part, l.layer) }, name))}</div>`)}`;
}
