/** Plots of the sweeps: panels of lines over two logarithmic axes, written as SVG by hand. */

export interface Series {
  label: string;
  x: number[];
  y: number[];
  /** Drawn thin and broken: a guide, not a measurement of its own. */
  broken?: boolean;
}

export interface Panel {
  title: string;
  x: string;
  y: string;
  series: Series[];
  /** Points worth a ring and a word. */
  marks: { x: number; y: number; text: string }[];
}

const WIDTH = 440;
/** Of the area inside the axes. */
const INNER = 250;
/** Above the axes stand the title and a line for each series; `top` is the part without those lines. */
const MARGIN = { left: 58, right: 14, top: 28, bottom: 44 };
const LINE = 15;
const COLOURS = ["#0b6e99", "#d1495b", "#2e933c", "#8d5a97", "#b07d12", "#444444"];

const escaped = (text: string) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const fixed = (v: number) => Number(v.toFixed(1));

/** A number as an axis shows it. */
export function tick(value: number): string {
  return value >= 1000 ? `${value / 1000}k` : String(Number(value.toPrecision(2)));
}

/** 1, 2, 5 times powers of ten inside a range; only powers of ten where it is wide. */
export function ticks(low: number, high: number): number[] {
  const steps = Math.log10(high / low) > 2.2 ? [1] : [1, 2, 5];
  const out: number[] = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    for (const s of steps) {
      const v = Number((s * 10 ** e).toPrecision(3));
      if (v >= low * 0.999 && v <= high * 1.001) out.push(v);
    }
  return out;
}

function extent(values: readonly number[]): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return [low / 1.12, high * 1.12];
}

function drawPanel({ title, x, y, series, marks }: Panel, legend: number): string {
  const [x0, x1] = extent(series.flatMap((s) => s.x));
  const [y0, y1] = extent(series.flatMap((s) => s.y));
  const inner = { width: WIDTH - MARGIN.left - MARGIN.right, height: INNER };
  const top = MARGIN.top + LINE * legend;
  const px = (v: number) => fixed(MARGIN.left + (Math.log(v / x0) / Math.log(x1 / x0)) * inner.width);
  const py = (v: number) => fixed(top + inner.height - (Math.log(v / y0) / Math.log(y1 / y0)) * inner.height);
  const bottom = top + inner.height;
  const right = MARGIN.left + inner.width;
  const parts = [`<text x="${MARGIN.left}" y="18" font-weight="600">${escaped(title)}</text>`];
  for (const v of ticks(x0, x1))
    parts.push(
      `<path d="M${px(v)} ${top}V${bottom}" class="grid"/><text x="${px(v)}" y="${bottom + 15}" text-anchor="middle">${tick(v)}</text>`,
    );
  for (const v of ticks(y0, y1))
    parts.push(
      `<path d="M${MARGIN.left} ${py(v)}H${right}" class="grid"/><text x="${MARGIN.left - 6}" y="${py(v) + 4}" text-anchor="end">${tick(v)}</text>`,
    );
  parts.push(
    `<rect x="${MARGIN.left}" y="${top}" width="${inner.width}" height="${inner.height}" fill="none" stroke="#888"/>`,
    `<text x="${MARGIN.left + inner.width / 2}" y="${bottom + 36}" text-anchor="middle">${escaped(x)}</text>`,
    `<text x="14" y="${top + inner.height / 2}" text-anchor="middle" transform="rotate(-90 14 ${top + inner.height / 2})">${escaped(y)}</text>`,
  );
  series.forEach((s, i) => {
    const colour = COLOURS[i % COLOURS.length] as string;
    const points = s.x.map((v, j) => [px(v), py(s.y[j] as number)] as const);
    const dash = s.broken ? ' stroke-dasharray="5 4"' : "";
    parts.push(
      `<polyline points="${points.map((p) => p.join(",")).join(" ")}" fill="none" stroke="${colour}" stroke-width="${s.broken ? 1.2 : 1.8}"${dash}/>`,
    );
    if (!s.broken) for (const [cx, cy] of points) parts.push(`<circle cx="${cx}" cy="${cy}" r="2.4" fill="${colour}"/>`);
    const at = MARGIN.top + LINE * i + 6;
    parts.push(
      `<path d="M${MARGIN.left} ${at - 4}h18" stroke="${colour}" stroke-width="2"${dash}/><text x="${MARGIN.left + 24}" y="${at}">${escaped(s.label)}</text>`,
    );
  });
  for (const mark of marks)
    parts.push(
      `<circle cx="${px(mark.x)}" cy="${py(mark.y)}" r="5.5" fill="none" stroke="#000"/><text x="${px(mark.x)}" y="${py(mark.y) + 19}" text-anchor="middle">${escaped(mark.text)}</text>`,
    );
  return parts.join("\n");
}

/** The panels side by side, `columns` in a row. */
export function plot(title: string, panels: readonly Panel[], columns: number): string {
  const rows = Math.ceil(panels.length / columns);
  const legend = Math.max(...panels.map((panel) => panel.series.length));
  const each = MARGIN.top + LINE * legend + INNER + MARGIN.bottom;
  const [width, height] = [WIDTH * columns, each * rows + 30];
  const placed = panels.map(
    (panel, i) =>
      `<g transform="translate(${(i % columns) * WIDTH} ${30 + Math.floor(i / columns) * each})">\n${drawPanel(panel, legend)}\n</g>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="11">
<style>.grid{stroke:#e3e3e3}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="12" y="20" font-size="14" font-weight="600">${escaped(title)}</text>
${placed.join("\n")}
</svg>
`;
}

/** Where two curves over the same rising x meet: x and y of each crossing, straight lines between points on logarithmic axes. */
export function crossings(a: Series, b: Series): { x: number; y: number }[] {
  const out: { x: number; y: number }[] = [];
  const gap = (i: number) => Math.log((a.y[i] as number) / (b.y[i] as number));
  for (let i = 0; i + 1 < Math.min(a.x.length, b.x.length); i++) {
    const [from, to] = [gap(i), gap(i + 1)];
    // A point on both curves ends a piece and begins the next: it counts at the end.
    if (from === 0 || from * to > 0) continue;
    const share = from / (from - to);
    const between = (list: number[]) => (list[i] as number) * ((list[i + 1] as number) / (list[i] as number)) ** share;
    out.push({ x: between(a.x), y: between(a.y) });
  }
  return out;
}

/** Slope of log y over log x by least squares: 1 where time grows in proportion. */
export function exponent({ x, y }: Series): number {
  const [u, v] = [x.map(Math.log), y.map(Math.log)];
  const mean = (list: number[]) => list.reduce((sum, value) => sum + value, 0) / list.length;
  const [mu, mv] = [mean(u), mean(v)];
  const covariance = u.reduce((sum, value, i) => sum + (value - mu) * ((v[i] as number) - mv), 0);
  return covariance / u.reduce((sum, value) => sum + (value - mu) ** 2, 0);
}
