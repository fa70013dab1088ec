/** The report's style sheet and its one script. Plain text: nothing of a run gets in here. */
import { HEAT_GRADIENT } from "./image.ts";

export const STYLE = `
:root { color-scheme: light dark; --page: #f5f6f8; --card: #fff; --ink: #1a2029; --soft: #5a6473; --line: #dde1e7; --accent: #2457c5;
  --good: #1a7f4b; --bad: #c2410c; --s1: #2457c5; --s2: #c2570c; --spike: #1a2029; --bar: #4b7bec; --track: #e9ecf1; --shade: #1a20293d; }
@media (prefers-color-scheme: dark) {
  :root { --page: #101419; --card: #181e26; --ink: #e6eaf0; --soft: #9aa5b4; --line: #2c3541; --accent: #7aa5ff;
    --good: #4cc38a; --bad: #f0883e; --s1: #7aa5ff; --s2: #f0a35e; --spike: #e6eaf0; --bar: #5b8af5; --track: #262f3a; --shade: #000c; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main, header, footer { max-width: 1260px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 32px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
header p { margin: 6px 0 0; color: var(--soft); }
nav { margin: 16px 0 0; display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: .92rem; }
a { color: var(--accent); text-underline-offset: 3px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px 24px 24px; margin: 20px 0; }
h2 { font-size: 1.2rem; margin: 0 0 4px; }
h3 { font-size: .95rem; margin: 0; font-weight: 600; } h3.next { margin-top: 18px; }
section > p { margin: 0 0 14px; color: var(--soft); max-width: 78ch; font-size: .93rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 12px 0 18px; }
.cards div { border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.cards dt { font-size: .82rem; color: var(--soft); }
.cards dd { margin: 2px 0 0; font-size: 1.45rem; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums; }
.cards small { display: block; font-size: .8rem; font-weight: 400; color: var(--soft); }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 4px 28px; margin: 0; font-size: .9rem; }
.facts div { display: flex; justify-content: space-between; gap: 12px; border-bottom: 1px dotted var(--line); padding: 3px 0; }
.facts dt { color: var(--soft); white-space: nowrap; }
.facts dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 20px 28px; margin-top: 12px; }
figure { margin: 0; }
figcaption { font-size: .9rem; font-weight: 600; }
.chart svg { display: block; width: 100%; height: auto; touch-action: pan-y; }
.chart text { font-size: 11px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart path { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
path.s1 { stroke: var(--s1); } path.s2 { stroke: var(--s2); stroke-dasharray: 6 3; }
circle.s1 { fill: var(--s1); } circle.s2 { fill: var(--s2); }
.grid line { stroke: var(--line); stroke-width: 1; } line.base { stroke: var(--soft); stroke-width: 1; }
.hover line { stroke: var(--soft); stroke-dasharray: 2 2; } .hover rect { fill: var(--card); stroke: var(--line); }
.hover text { fill: var(--ink); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 2px 0 0; padding: 0; font-size: .82rem; color: var(--soft); }
.legend i { display: inline-block; width: 20px; margin-right: 6px; vertical-align: 4px; border-top: 3px solid var(--s1); }
.legend i.s2 { border-top: 3px dashed var(--s2); }
.scroll { overflow-x: auto; scrollbar-width: thin; scrollbar-color: var(--soft) var(--track);
  background: linear-gradient(90deg, var(--card) 30%, transparent) 0 0 / 48px 100% no-repeat local, linear-gradient(270deg, var(--card) 30%, transparent) 100% 0 / 48px 100% no-repeat local,
    linear-gradient(90deg, var(--shade), transparent) 0 0 / 16px 100% no-repeat scroll, linear-gradient(270deg, var(--shade), transparent) 100% 0 / 16px 100% no-repeat scroll; }
.scroll:focus-visible, svg:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: 0 0 8px; position: sticky; left: 0; width: fit-content; max-width: calc(100vw - 60px); }
th, td { padding: 4px 10px; text-align: right; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); vertical-align: bottom; }
tbody th { text-align: left; font-weight: 500; }
th.name, td.name { text-align: left; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tfoot > tr > * { border-top: 2px solid var(--line); font-weight: 650; }
.wide { width: 100%; } .wide small { display: block; font-size: .78rem; font-weight: 400; color: var(--soft); }
.wide tbody th { position: sticky; left: 0; background: var(--card); min-width: 150px; max-width: 46vw; white-space: normal; overflow-wrap: anywhere; }
details { margin-top: 14px; } summary { cursor: pointer; font-size: .9rem; color: var(--soft); } details .scroll { margin-top: 8px; }
.matrix td, .matrix thead th { text-align: center; min-width: 46px; padding: 7px 6px; }
.matrix tbody td { border: 1px solid var(--line); }
.matrix td.hit { background: color-mix(in srgb, var(--good) calc(var(--v) * 45%), transparent); }
.matrix td.miss { background: color-mix(in srgb, var(--bad) calc(var(--v) * 70%), transparent); }
.matrix td.none { color: var(--soft); opacity: .55; }
.matrix td.recall { border: 0; padding-left: 14px; }
.meter { display: flex; align-items: center; gap: 8px; min-width: 84px; }
.meter span { flex: 1; height: 11px; background: var(--track); border-radius: 2px; overflow: hidden; }
.meter i { display: block; height: 100%; width: calc(var(--v) * 100%); background: var(--bar); }
.meter b { font-weight: 400; min-width: 46px; text-align: right; }
.rates td { padding: 3px 8px; } .rates .mean { min-width: 190px; } .rates .mean i { background: var(--accent); } .rates .mean b { font-weight: 600; }
.rule { margin: 4px 0 12px; color: var(--soft); max-width: 100ch; font-size: .86rem; }
.rules { margin: 8px 0 0; font-size: .84rem; } .rules div { padding: 8px 0; border-top: 1px solid var(--line); }
.rules dt { font-weight: 600; } .rules dd { margin: 2px 0 0; max-width: 110ch; } .rules small { color: var(--soft); font-size: inherit; }
.words { max-width: 820px; } .words tbody th { max-width: 62vw; }
.samples { display: flex; flex-wrap: wrap; gap: 28px 40px; margin-top: 16px; }
.sample { display: flex; flex-wrap: wrap; gap: 16px 14px; align-items: flex-start; }
.digit { width: 98px; } .digit img { width: 96px; height: auto; display: block; }
.sample figcaption { font-weight: 400; font-size: .78rem; line-height: 1.4; color: var(--soft); overflow-wrap: anywhere; margin-top: 3px; }
.sample figcaption strong { display: block; color: var(--ink); font-size: .8rem; font-weight: 600; }
.wrong { color: var(--bad); }
img { image-rendering: pixelated; }
.digit img, .map img { border: 1px solid var(--line); border-radius: 3px; }
.raster { width: 98px; } .raster svg { display: block; border: 1px solid var(--line); background: var(--page); }
.raster path { stroke: var(--spike); stroke-width: 1; } .raster path.steps { stroke: var(--line); vector-effect: non-scaling-stroke; }
.raster .t { display: flex; justify-content: space-between; font-size: .7rem; color: var(--soft); width: 92px; }
.block { display: grid; gap: 4px; } .maps { display: flex; gap: 10px; }
.map img { width: 112px; height: auto; display: block; }
.over .map img { width: min(196px, 40vw); } .over { gap: 28px 36px; }
.verdict { display: grid; grid-template-columns: 242px 1fr; gap: 20px 28px; margin-top: 12px; align-items: start; }
.verdict .cards { margin: 0 0 10px; } .verdict > div { min-width: 0; }
.seen img { display: block; width: 100%; height: auto; border: 1px solid var(--line); border-radius: 8px; }
.seen figcaption { font-weight: 400; font-size: .84rem; color: var(--soft); margin-top: 6px; overflow-wrap: anywhere; }
.scores { width: 100%; } .scores .meter { min-width: 120px; } .scores td:last-child { width: 62%; } .scores .first { font-weight: 650; } .scores .first i { background: var(--accent); }
.scores small { display: block; color: var(--soft); } .scores tbody th { max-width: 40vw; min-width: 66px; overflow-wrap: anywhere; white-space: normal; }
.note { border-left: 3px solid var(--s2); padding: 2px 0 2px 12px; margin: 0 0 12px; font-size: .93rem; }
.spikes td { padding: 3px 4px; } .spikes thead th { text-align: left; padding: 4px; } .spikes img { display: block; width: 84px; height: auto; border-radius: 3px; }
.spikes tbody th { position: sticky; left: 0; background: var(--card); min-width: 276px; max-width: 34vw; white-space: normal; overflow-wrap: anywhere; }
.spikes caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); padding: 0; }
.spikes small { display: block; font-size: .76rem; font-weight: 400; color: var(--soft); }
.spikes tbody tr + tr > * { border-top: 0; }
.group > summary { color: var(--ink); font-weight: 600; } .group .sample { margin-top: 10px; }
.scale { display: flex; align-items: center; gap: 8px; font-size: .74rem; color: var(--soft); }
.scale i { flex: 1; height: 8px; border-radius: 2px; background: ${HEAT_GRADIENT}; }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; overflow-x: auto; font-size: .84rem; line-height: 1.45; margin: 8px 0 0; }
footer { color: var(--soft); font-size: .84rem; padding-bottom: 40px; }
@media (max-width: 600px) {
  main, header, footer { padding-left: 12px; padding-right: 12px; } header { padding-top: 20px; }
  section { padding: 16px 14px 18px; margin: 12px 0; }
  .cards { grid-template-columns: 1fr 1fr; gap: 8px; } .cards dd { font-size: 1.2rem; }
  .chart text { font-size: 14px; } .matrix td, .matrix thead th { min-width: 34px; padding: 6px 3px; }
  .verdict { grid-template-columns: 1fr; } .seen { max-width: 242px; } .spikes img { width: 40px; }
  .spikes tbody th { min-width: 92px; padding-right: 4px; padding-left: 0; } .spikes td, .spikes thead th { padding: 2px; } .spikes thead th { font-size: .74rem; }
  .scores .meter { min-width: 0; }
  .sample { gap: 14px 12px; } .wide thead th { white-space: normal; }
}
@media print { body { background: none; } section { break-inside: avoid; border: 0; } nav { display: none; } }
`;

/** Shows the values of the point nearest to the pointer (or, by the arrow keys, of one point after another). */
export const SCRIPT = `
for (const svg of document.querySelectorAll("svg[data-hover]")) {
  const data = JSON.parse(svg.dataset.hover), box = svg.viewBox.baseVal, longest = data.s.reduce((a, s) => (s.p.length > a.length ? s.p : a), []);
  const make = (tag, parent, attributes, text) => {
    const e = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", tag));
    for (const k in attributes) e.setAttribute(k, attributes[k]);
    if (text) e.textContent = text;
    return e;
  };
  let group = null, at = -1;
  const hide = () => { group?.remove(); group = null; };
  const show = (x) => {
    hide();
    group = make("g", svg, { class: "hover", "pointer-events": "none" });
    const near = data.s.map((s) => s.p.reduce((a, p) => (Math.abs(p[0] - x) < Math.abs(a[0] - x) ? p : a)));
    const lead = near.reduce((a, p) => (Math.abs(p[0] - x) < Math.abs(a[0] - x) ? p : a));
    make("line", group, { x1: lead[0], x2: lead[0], y1: 14, y2: box.height - 40 });
    const label = make("g", group, {}), back = make("rect", label, { rx: 4 });
    const lines = [data.x + " " + lead[3]];
    near.forEach((p, i) => {
      if (Math.abs(p[0] - lead[0]) > 24) return;
      make("circle", group, { cx: p[0], cy: p[1], r: 4, class: "s" + data.c[i] });
      lines.push(data.s[i].n + ": " + p[2]);
    });
    lines.forEach((line, i) => make("text", label, { x: 8, y: 16 + 16 * i }, line));
    const size = label.getBBox(), width = size.width + 16, x0 = lead[0] + 10 + width > box.width ? lead[0] - 10 - width : lead[0] + 10;
    back.setAttribute("width", width); back.setAttribute("height", 16 * lines.length + 8);
    label.setAttribute("transform", "translate(" + Math.max(0, x0) + " 18)");
  };
  const move = (e) => { const r = svg.getBoundingClientRect(); show(((e.clientX - r.left) / r.width) * box.width); };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.tabIndex = 0;
  svg.addEventListener("keydown", (e) => {
    const d = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : 0;
    if (!d) return;
    e.preventDefault();
    at = Math.min(longest.length - 1, Math.max(0, at + d));
    show(longest[at][0]);
  });
}
`;
