/** Line charts as inline SVG: axes with round ticks, a legend, values under the pointer (style.ts has the script). */
import { html, type Markup } from "./html.ts";

export interface Series {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number | null | undefined }[];
  /** Draw each point: for few points, such as one an epoch. */
  readonly marks?: boolean;
}

export interface Chart {
  readonly title: string;
  readonly xLabel: string;
  readonly series: readonly Series[];
  readonly format: (y: number) => string;
  /** The y axis begins at 0, or is logarithmic (where all values are > 0 and far apart); else it fits the values. */
  readonly scale?: "zero" | "log";
}

const WIDTH = 460;
const HEIGHT = 250;
const LEFT = 62;
const RIGHT = 12;
const TOP = 14;
const BOTTOM = 40;
/** Drawn points of a series; more are averaged into so many. */
const MOST_POINTS = 300;

/** The chart as a figure, or undefined when no series has a point. */
export function lineChart({ title, xLabel, series, format, scale }: Chart): Markup | undefined {
  const drawn = series.map((s) => ({ ...s, points: thin(s.points) })).filter((s) => s.points.length > 0);
  const all = drawn.flatMap((s) => s.points);
  if (!all.length) return undefined;
  const xs = all.map((p) => p.x);
  const ys = all.map((p) => p.y);
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const log = scale === "log" && low > 0 && high / low > 5;
  const x0 = Math.min(0, ...xs);
  const xTicks = ticks(x0, Math.max(...xs), 6);
  // The last step ends just before the last epoch does: the axis goes on to the tick.
  const x1 = (xTicks.at(-1) as number) - Math.max(...xs) < 0.03 * (Math.max(...xs) - x0) ? (xTicks.at(-1) as number) : Math.max(...xs);
  const yTicks = log ? logTicks(low, high) : ticks(scale === "zero" ? 0 : low, high, 5);
  const at = log ? Math.log10 : (y: number) => y;
  const [y0, y1] = [at(Math.min(yTicks[0] as number, low)), at(Math.max(yTicks.at(-1) as number, high))];
  const px = (x: number) => round(LEFT + ((x - x0) / (x1 - x0 || 1)) * (WIDTH - LEFT - RIGHT));
  const py = (y: number) => round(HEIGHT - BOTTOM - ((at(y) - y0) / (y1 - y0 || 1)) * (HEIGHT - TOP - BOTTOM));
  const last = drawn.map((s) => `${s.name} ends at ${format((s.points.at(-1) as { y: number }).y)}`).join(", ");
  const hover = drawn.map((s) => ({ n: s.name, p: s.points.map((p) => [px(p.x), py(p.y), format(p.y), String(Number(p.x.toFixed(2)))]) }));
  const colour = (s: Series) => series.findIndex((other) => other.name === s.name) + 1;
  const colours = drawn.map(colour);
  return html`<figure class="chart">
<figcaption>${title}${log ? " (logarithmic)" : undefined}</figcaption>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}: ${last}" data-hover="${JSON.stringify({ x: xLabel, s: hover, c: colours })}">
<g class="grid">${yTicks.map((y) => html`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${py(y)}" y2="${py(y)}"/>`)}</g>
<g class="ticks">${yTicks.map((y) => html`<text x="${LEFT - 7}" y="${py(y) + 4}" text-anchor="end">${format(y)}</text>`)}${xTicks
    .filter((x) => x <= x1)
    .map((x) => html`<text x="${px(x)}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${String(x)}</text>`)}</g>
<text class="axis" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${xLabel}</text>
<line class="base" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}"/>
${drawn.map(
  (s) =>
    html`<path class="s${colour(s)}" d="M${s.points.map((p) => `${px(p.x)} ${py(p.y)}`).join("L")}"/>${
      s.marks || s.points.length === 1
        ? s.points.map(
            (p) =>
              html`<circle class="s${colour(s)}" cx="${px(p.x)}" cy="${py(p.y)}" r="3.2"><title>${s.name}, ${xLabel} ${p.x}: ${format(p.y)}</title></circle>`,
          )
        : undefined
    }`,
)}
</svg>
<ul class="legend">${drawn.map((s) => html`<li><i class="s${colour(s)}"></i>${s.name}</li>`)}</ul>
</figure>`;
}

/** Points with a finite y, averaged in runs of equal length where there are too many. */
function thin(points: Series["points"]): { x: number; y: number }[] {
  const good = points.filter((p): p is { x: number; y: number } => Number.isFinite(p.x) && typeof p.y === "number" && Number.isFinite(p.y));
  if (good.length <= MOST_POINTS) return good;
  return Array.from({ length: MOST_POINTS }, (_, i) => {
    const run = good.slice(Math.floor((i * good.length) / MOST_POINTS), Math.floor(((i + 1) * good.length) / MOST_POINTS));
    const mean = (pick: (p: { x: number; y: number }) => number) => run.reduce((sum, p) => sum + pick(p), 0) / run.length;
    return { x: mean((p) => p.x), y: mean((p) => p.y) };
  });
}

/** Round numbers (1, 2 or 5 times a power of ten apart) that enclose low..high, about `wanted` of them. */
export function ticks(low: number, high: number, wanted: number): number[] {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= raw * 0.999) as number);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: Math.max(1, last - first) + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** 1, 2 and 5 times powers of ten that enclose low..high; powers of ten alone where that is enough. */
function logTicks(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low));
  const count = Math.ceil(Math.log10(high)) - first + 1;
  const all = Array.from({ length: count }, (_, i) => 10 ** (first + i)).flatMap((p) => (count > 5 ? [p] : [p, 2 * p, 5 * p]));
  const rounded = all.map((y) => Number(y.toPrecision(3)));
  return rounded.slice(
    Math.max(
      0,
      rounded.findLastIndex((y) => y <= low),
    ),
    rounded.findIndex((y) => y >= high) + 1,
  );
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
