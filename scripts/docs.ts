/**
 * `npm run docs`: writes docs/commands.md from the command's own help, then typedoc (typedoc.json) makes the API reference, HTML in
 * build/api. That both are in order is tested in test/docs/.
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { helpPages } from "../packages/node/src/program.ts";

/** docs/commands.md as the command is now. */
export function commandsPage(): string {
  const sections = helpPages().map(({ name, text }) => `## ${name}\n\n\`\`\`text\n${text}\n\`\`\`\n`);
  return `# The command

Every command's help, written here by \`npm run docs\`.

${sections.join("\n")}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  writeFileSync(fileURLToPath(new URL("../docs/commands.md", import.meta.url)), commandsPage());
