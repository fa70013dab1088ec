/** Parts that pages share: bars, tables, rasters, attention maps, the energy section. */
import type { measure } from "spikeloom";
import type { ReportAttention, ReportImage, ReportRaster } from "../report-data.ts";
import { count, energy, percent, short, times } from "./format.ts";
import { html, type Markup } from "./html.ts";
import { heatMap, type Pixels, pngUri, scaled, tinted } from "./image.ts";

/** Rows of a raster; layers with more neurons show every k-th. */
const MOST_RASTER_ROWS = 256;

/** A layer's path that may wrap after its dots and underscores. */
export function breakable(path: string): Markup[] {
  return path.split(/(?<=[._])/).map((part) => html`${part}<wbr>`);
}

/** What the network needs beside itself as an ANN: "3.1× less than". */
export function ratio({ total }: measure.EnergyReport): string {
  const factor = total.annEnergy / total.energy;
  if (!(factor > 0) || !Number.isFinite(factor)) return "–";
  return factor >= 1 ? `${times(factor)} less than` : `${times(1 / factor)} more than`;
}

/** A bar whose full length is `top`. */
export function bar(value: number | undefined, top: number): Markup {
  const share = (value ?? 0) / top;
  return html`<span><i style="--v:${(share > 0 ? Math.min(1, share) : 0).toFixed(4)}"></i></span>`;
}

export function imageUri({ pixels, width, height, channels }: ReportImage): string {
  return pngUri(Buffer.from(pixels, "base64"), width, height, channels);
}

/** In colour. */
export function pixelsOf({ pixels, width, height, channels }: ReportImage): Pixels {
  const bytes = Buffer.from(pixels, "base64");
  return {
    width,
    height,
    rgb: channels === 3 ? bytes : Uint8Array.from({ length: 3 * width * height }, (_, i) => bytes[Math.floor(i / 3)] ?? 0),
  };
}

/** Which neurons of a layer fired when. @param of what was shown, in words */
export function raster({ layer, timeSteps, neurons, ofNeurons = neurons, bits, rate: ofAll }: ReportRaster, of: string): Markup {
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
  const rate = percent(ofAll ?? spikes / (timeSteps * neurons || Number.NaN), 1);
  const pixel = Math.max(1, Math.floor(MOST_RASTER_ROWS / rows));
  const steps = Array.from({ length: timeSteps - 1 }, (_, t) => `M${t + 1} 0v${rows}`).join("");
  const what = rows < ofNeurons ? `${count(rows)} of ${count(ofNeurons)} neurons` : `${count(neurons)} neurons`;
  return html`<figure class="raster"><svg width="92" height="${rows * pixel}" viewBox="0 0 ${timeSteps} ${rows}" preserveAspectRatio="none" shape-rendering="crispEdges" role="img" aria-label="Spikes of ${layer} for ${of}: ${what}, ${timeSteps} steps, ${rate} firing"><path class="steps" d="${steps}"/><path d="${marks}"/></svg>
<div class="t" aria-hidden="true"><span>t = 0</span><span>${timeSteps - 1}</span></div>
<figcaption><strong>${breakable(layer)}</strong>${rate} firing<br>${what}</figcaption></figure>`;
}

/** A side of a picture below a map, so that positions of the map and pixels both come out sharp. */
const TINTED_SIDE = 224;

/** A map of a block's attention, over the picture where there is one. @param max the value of the last colour */
export function attentionMap(values: readonly number[], { width, height }: ReportAttention, max: number, over?: ReportImage): Pixels {
  if (!over) return heatMap(values, width, height, max);
  const times = Math.max(1, Math.ceil(TINTED_SIDE / Math.max(over.width, over.height)));
  return tinted(scaled(pixelsOf(over), times * over.width, times * over.height), values, width, height, max);
}

/** One block's maps. @param of what was shown, in words, @param over the picture of it, where maps are to lie over it */
export function attention(maps: ReportAttention, of: string, over?: ReportImage): Markup {
  const { legend, block, width, height, before, after } = maps;
  const max = Math.max(...before, ...after);
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / (values.length || Number.NaN);
  const map = (values: readonly number[], name: string) => {
    const shown = attentionMap(values, maps, max, over);
    return html`<figure class="map"><img src="${pngUri(shown.rgb, shown.width, shown.height, 3)}" width="${shown.width}" height="${shown.height}" alt="${block}, ${name} for ${of}: ${width} x ${height} positions, mean ${percent(mean(values), 1)}"><figcaption>${name}: mean ${percent(mean(values), 1)}</figcaption></figure>`;
  };
  return html`<div class="block"><h3>${block}</h3><div class="maps">${map(before, legend.before)}${map(after, legend.after)}</div><div class="scale"><span>0</span><i></i><span>${percent(max, 0)}</span></div></div>`;
}

/** A table that may be wider than the page. */
export function scrolling(caption: string, kind: string, head: Markup, body: Markup): Markup {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"><table class="${kind}">
<caption>${caption}</caption>
<thead><tr>${head}</tr></thead>
${body}</table></div>`;
}

const heads = (names: readonly string[]) => names.map((h) => html`<th scope="col">${h}</th>`);
/** Three digits, and all of them under the pointer. */
const exact = (n: number) => html`<td title="${count(n)}">${short(n)}</td>`;

/** By every convention, then by layer. */
export function energySection(e: measure.EnergyReport, presets: readonly measure.EnergyReport[]): Markup {
  const { total } = e;
  const largest = Math.max(...e.layers.map((l) => l.energy), Number.MIN_VALUE);
  const shape = (dims: readonly number[]) => dims.join("×");
  const perStep = (rates: readonly number[] | null) =>
    rates ? rates.map((r, t) => `t = ${t}: ${percent(r)}`).join(", ") : "the input is no spike";
  return html`<p>Estimates from counted operations, not measurements${e.samples > 1 ? `: per image, over ${count(e.samples)} images` : ", for this image"}. By the plain rule the same network as an ANN would need ${energy(total.annEnergy)}: this one needs ${ratio(e)} that.</p>
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
