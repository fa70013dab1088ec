/**
 * Code blocks of the documentation, as the test runs them. A comment before a block may say how:
 *
 *     <!-- test: file=recipe.yml -->   write the block to that file before anything of its page runs
 *     <!-- test: continues -->         the block belongs to the program of the block before it
 *     <!-- test: types -->             type-check only: it is for a page or worker
 *     <!-- test: fails -->             every command must end with an error
 *     <!-- test: in=NAME -->           the commands run in a folder of that name
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";

export interface Block {
  page: string;
  /** Line of its first line of code. */
  line: number;
  language: string;
  code: string;
  notes: ReadonlyMap<string, string>;
}

/** All fenced blocks of a page. @throws where a fence is not closed or a note is unknown */
export function blocksOf(page: string, text: string): Block[] {
  const blocks: Block[] = [];
  const lines = text.split("\n");
  let notes = new Map<string, string>();
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] as string;
    const note = /^<!-- test: (.*) -->$/.exec(line);
    if (note) {
      notes = new Map((note[1] as string).split(/\s+/).map((word) => word.split("=", 2) as [string, string]));
      for (const key of notes.keys())
        if (!["file", "continues", "types", "fails", "in"].includes(key)) throw new Error(`${page}:${i + 1}: unknown note "${key}"`);
      continue;
    }
    const fence = /^(\s*)```(\S*)\s*$/.exec(line);
    if (!fence) {
      if (line.trim() !== "") notes = new Map();
      continue;
    }
    const end = lines.findIndex((l, k) => k > i && l.trimEnd() === `${fence[1]}\`\`\``);
    if (end < 0) throw new Error(`${page}:${i + 1}: the code block has no end`);
    const code = lines.slice(i + 1, end).map((l) => l.slice((fence[1] as string).length));
    blocks.push({ page, line: i + 2, language: fence[2] as string, code: `${code.join("\n")}\n`, notes });
    notes = new Map();
    i = end;
  }
  return blocks;
}

/** Every page of documentation below the root, by its path. */
export function pages(root: string): Map<string, string> {
  const found: string[] = [];
  const walk = (folder: string) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (["node_modules", "build", "dist", "runs", "fixtures"].includes(entry.name) || entry.name.startsWith(".")) continue;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (entry.name.endsWith(".md")) found.push(path);
    }
  };
  walk(root);
  return new Map(found.sort().map((path) => [relative(root, path), readFileSync(path, "utf8")]));
}

/** Commands of a shell block: lines without comments, continued ones joined. */
export function commandsOf(code: string): string[] {
  return code
    .replace(/\\\n\s*/g, " ")
    .split("\n")
    .map((line) => line.replace(/\s#\s.*$/, "").trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}
