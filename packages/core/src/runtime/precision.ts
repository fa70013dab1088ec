/**
 * How exact products are where the machine has matrix units, which multiply bf16: a float32 is the exact sum of three bf16, so that
 * three products give a float32 result, two about 2e-6 and one about 4e-3 of relative error. Names are those of PyTorch's
 * `set_float32_matmul_precision`. Without matrix units all three mean float32.
 */
import { kindOf } from "./check.ts";
import { nearest, SpikeloomError } from "./error.ts";

/** Name -> bf16 terms of a float32 operand, the default first. */
export const MATMUL_TERMS: Readonly<Record<MatmulPrecision, number>> = { highest: 3, high: 2, medium: 1 };

export type MatmulPrecision = "highest" | "high" | "medium";

let precision: MatmulPrecision = "highest";

/**
 * A precision, checked.
 * @param where what names it in the message: `init`, or a variable
 * @throws SpikeloomError for an unknown name
 */
export function checkPrecision(where: string, value: unknown): MatmulPrecision {
  if (typeof value === "string" && Object.hasOwn(MATMUL_TERMS, value)) return value as MatmulPrecision;
  const names = Object.keys(MATMUL_TERMS);
  const near = nearest(String(value), names);
  throw new SpikeloomError(
    `${where}: matmulPrecision must be one of ${names.join(", ")}, found ${kindOf(value)}${near ? `, did you mean "${near}"?` : ""}`,
  );
}

/** Set by `init`. */
export function setMatmulPrecision(value: MatmulPrecision): void {
  precision = value;
}

/** The precision of the run: `MATMUL_TERMS[matmulPrecision()]` is the number of bf16 terms. */
export function matmulPrecision(): MatmulPrecision {
  return precision;
}
