/** Plain tables on a terminal. */

export interface Column<Row> {
  head: string;
  /** Numbers stand to the right. */
  right?: boolean;
  cell(row: Row): string;
}

/** Lines of a table: heads, a rule, rows; columns as wide as they need. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = [columns.map((c) => c.head), ...rows.map((row) => columns.map((c) => c.cell(row)))];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => (line[i] as string).length)));
  const line = (parts: readonly string[]) =>
    parts
      .map((part, i) => (columns[i]?.right ? part.padStart(widths[i] as number) : part.padEnd(widths[i] as number)))
      .join("  ")
      .trimEnd();
  return [line(cells[0] as string[]), widths.map((w) => "-".repeat(w)).join("  "), ...cells.slice(1).map(line)].join("\n");
}
