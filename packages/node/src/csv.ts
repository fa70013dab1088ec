/** Tables for programs: comma-separated values (RFC 4180, with plain line ends). */

/**
 * Rows as lines. Numbers have as many digits as they need, at most twelve: sums of products carry noise in the last of sixteen
 * (0.30000000000000004).
 */
export function csv(rows: readonly (readonly unknown[])[]): string {
  return rows.map((row) => row.map(field).join(",")).join("\n");
}

function field(value: unknown): string {
  if (typeof value === "number") return String(Number.isFinite(value) ? Number(value.toPrecision(12)) : value);
  const text = String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
