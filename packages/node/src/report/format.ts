/** Numbers as people read them. None of these fails: what is not finite is a dash. */

const DASH = "–";

/** 0.98512 -> "98.51 %". */
export function percent(value: number | null | undefined, digits = 2): string {
  return finite(value) ? `${(100 * value).toFixed(digits)} %` : DASH;
}

/** 1234567 -> "1 234 567" with narrow spaces that do not break. */
export function count(value: number | null | undefined): string {
  return finite(value) ? String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f") : DASH;
}

const LARGE = ["", " k", " M", " G", " T", " P"];

/** 1234567 -> "1.23 M". */
export function short(value: number | null | undefined): string {
  return finite(value) ? scaled(value, LARGE) : DASH;
}

/** Picojoules in microjoules, always, so that all energies can be compared at sight: 2.4e6 -> "2.40 µJ", 3.1e9 -> "3 100 µJ". */
export function energy(pj: number | null | undefined): string {
  if (!finite(pj)) return DASH;
  const uj = pj / 1e6;
  const size = Math.abs(uj);
  if (size >= 99.95) return `${count(uj)} µJ`;
  if (size >= 0.0995) return `${uj.toFixed(size >= 9.995 ? 1 : 2)} µJ`;
  return `${Number(uj.toPrecision(2)).toFixed(uj ? Math.max(0, 1 - Math.floor(Math.log10(size))) : 0)} µJ`;
}

/** A ratio: 3.14 -> "3.1×". */
export function times(ratio: number | null | undefined): string {
  if (!finite(ratio) || ratio < 0) return DASH;
  return `${ratio.toFixed(ratio < 0.0995 ? 3 : ratio < 0.995 ? 2 : ratio < 9.95 ? 1 : 0)}×`;
}

function scaled(value: number, units: readonly string[]): string {
  let i = 0;
  while (i < units.length - 1 && Math.abs(value) >= 999.5) {
    value /= 1000;
    i++;
  }
  if (i === 0 && Number.isInteger(value)) return value + (units[0] as string);
  const digits = Math.abs(value) >= 99.5 ? 0 : Math.abs(value) >= 9.95 ? 1 : 2;
  return value.toFixed(digits) + units[i];
}

/** 187.4 -> "3 min 7 s". */
export function duration(seconds: number | null | undefined): string {
  if (!finite(seconds)) return DASH;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** 123456789 -> "118 MiB". */
export function bytes(value: number): string {
  if (value < 2 ** 10) return `${Math.round(value)} B`;
  if (value < 2 ** 20) return `${(value / 2 ** 10).toFixed(1)} KiB`;
  const mib = value / 2 ** 20;
  return mib < 1000 ? `${mib.toFixed(mib < 9.95 ? 1 : 0)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}

/** A plain number in four significant digits; tiny and huge ones with an exponent. */
export function plain(value: number | null | undefined): string {
  if (!finite(value)) return DASH;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6))
    return value
      .toExponential(2)
      .replace(/\.?0+e/, "e")
      .replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

function finite(value: number | null | undefined): value is number {
  return typeof value === "number" && Number.isFinite(value);
}
