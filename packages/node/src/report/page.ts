/** The frame of a page that needs nothing else: content policy, style, title, links to its sections. */
import { createHash } from "node:crypto";
import { html, Markup, type Part } from "./html.ts";
import { SCRIPT, STYLE } from "./style.ts";

export interface Section {
  readonly id: string;
  readonly title: string;
  readonly body: Markup | undefined;
}

export interface Page {
  readonly title: string;
  readonly heading: string;
  /** A line below the heading. */
  readonly lead: Part;
  /** One without a body is left out. */
  readonly sections: readonly Section[];
  /** Of spikeloom. */
  readonly version?: string | undefined;
}

/** The page as the text of an HTML file. */
export function renderPage({ title, heading, lead, sections, version }: Page): string {
  const shown = sections.filter((section) => section.body);
  const policy = `default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-${createHash("sha256").update(SCRIPT).digest("base64")}'`;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${new Markup(STYLE)}</style>
</head>
<body>
<header>
<h1>${heading}</h1>
<p>${lead}</p>
<nav aria-label="Sections">${shown.map(({ id, title }) => html`<a href="#${id}">${title}</a>`)}</nav>
</header>
<main>
${shown.map(({ id, title, body }) => html`<section id="${id}" aria-labelledby="${id}-title"><h2 id="${id}-title">${title}</h2>\n${body}</section>\n`)}
</main>
<footer>Written by spikeloom${version ? ` ${version}` : undefined}. Everything is in this file.</footer>
<script>${new Markup(SCRIPT)}</script>
</body>
</html>
`.text;
}
