/**
 * numpy's .npy, versions 1 to 3 read, version 1 written (numpy.lib.format describes it): a magic string, a header that is a
 * Python dict literal, then the elements. The literal is read by a parser of exactly what numpy writes; nothing is evaluated.
 */
import { checkBytes } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import {
  bytesOfElements,
  countElements,
  DAMAGED,
  type DType,
  elementsFromBytes,
  expectArray,
  gather,
  ITEM_BYTES,
  malformed,
  type NdArray,
  ndArray,
} from "./array.ts";

const MAGIC = "\x93NUMPY";
// Only structured dtypes, which are not read here, need long headers.
const MAX_HEADER_BYTES = 65535;

const DTYPE_OF: ReadonlyMap<string, DType> = new Map([
  ["b1", "bool"],
  ["i1", "i8"],
  ["u1", "u8"],
  ["i2", "i16"],
  ["u2", "u16"],
  ["i4", "i32"],
  ["u4", "u32"],
  ["i8", "i64"],
  ["f2", "f16"],
  ["f4", "f32"],
  ["f8", "f64"],
]);
const CODE_OF = new Map([...DTYPE_OF].map(([code, dtype]) => [dtype, code]));

/**
 * Read a .npy file. The result is in C order whatever the file's order, and shares memory with `bytes` where it can.
 * @param name the file's name, for messages
 * @throws FormatError when anything contradicts the format, or for a dtype without a counterpart here (complex, strings, records, ...)
 */
export function decode(bytes: Uint8Array, name = "npy"): NdArray {
  checkBytes(name, bytes);
  if (bytes.length < 10) throw malformed(name, 0, "at least 10 bytes", `${bytes.length}`, DAMAGED);
  const magic = latin1(bytes.subarray(0, 6));
  if (magic !== MAGIC) throw malformed(name, 0, "the magic \\x93NUMPY", JSON.stringify(magic), "Is this a .npy file?");
  const major = bytes[6]!;
  const minor = bytes[7]!;
  if (major < 1 || major > 3 || minor !== 0) throw malformed(name, 6, "version 1.0, 2.0 or 3.0", `${major}.${minor}`);
  const start = major === 1 ? 10 : 12;
  if (bytes.length < start) throw malformed(name, 8, "a header length of 4 bytes", `${bytes.length - 8}`, DAMAGED);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = major === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (headerLength > MAX_HEADER_BYTES) throw malformed(name, 8, `a header of at most ${MAX_HEADER_BYTES} bytes`, `${headerLength}`);
  const end = start + headerLength;
  if (end > bytes.length) throw malformed(name, 8, `${headerLength} bytes of header`, `${bytes.length - start}`, DAMAGED);
  const header = new HeaderParser(latin1(bytes.subarray(start, end)), name, start).parse();

  const order = header.descr[0]!;
  const dtype = DTYPE_OF.get(header.descr.slice(1));
  if (!dtype || !"<>=|".includes(order) || (order === "|" && ITEM_BYTES[dtype] > 1)) {
    throw malformed(
      name,
      start,
      `a dtype among ${[...DTYPE_OF.keys()].join(", ")}`,
      `'${header.descr}'`,
      "Convert it with numpy's astype.",
    );
  }
  const count = countElements(header.shape);
  if (count === undefined) throw malformed(name, start, "a shape of at most 64 axes and 2^50 elements", `(${header.shape.join(", ")})`);
  const size = count * ITEM_BYTES[dtype];
  if (bytes.length - end !== size) {
    throw malformed(name, end, `${size} bytes of ${dtype} (${header.shape.join(", ")})`, `${bytes.length - end}`, DAMAGED);
  }
  const data = elementsFromBytes(dtype, bytes.subarray(end), order !== ">", name, end);
  if (!header.fortranOrder || header.shape.length < 2) return { dtype, shape: header.shape, data };
  const strides: number[] = [];
  let stride = 1;
  for (const length of header.shape) {
    strides.push(stride);
    stride *= length;
  }
  return { dtype, shape: header.shape, data: gather(data, header.shape, strides) };
}

/**
 * Write a .npy file: version 1, C order, little-endian, the data at a multiple of 64 bytes. numpy has no bf16: it is
 * written as float32, which holds the same values.
 * @throws SpikeloomError for an array whose parts disagree
 */
export function encode(array: NdArray): Uint8Array {
  expectArray("npy", array);
  const { dtype, shape, data } = ndArray(array.dtype === "bf16" ? "f32" : array.dtype, array.shape, array.data, "npy array");
  const descr = `${ITEM_BYTES[dtype] === 1 ? "|" : "<"}${CODE_OF.get(dtype)}`;
  const dims = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${dims}), }`;
  const end = Math.ceil((10 + dict.length + 1) / 64) * 64;
  if (end - 10 > MAX_HEADER_BYTES) throw new SpikeloomError(`npy array: expected a shape that fits the header, found [${dims}].`);
  const body = bytesOfElements({ dtype, shape, data });
  const out = new Uint8Array(end + body.length);
  const text = `${MAGIC}\x01\x00\0\0${dict.padEnd(end - 11)}\n`;
  for (let i = 0; i < end; i++) out[i] = text.charCodeAt(i);
  new DataView(out.buffer).setUint16(8, end - 10, true);
  out.set(body, end);
  return out;
}

interface Header {
  readonly descr: string;
  readonly fortranOrder: boolean;
  readonly shape: number[];
}

/** Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`: these three keys, once each, in any order. */
class HeaderParser {
  private at = 0;
  private readonly text: string;
  private readonly name: string;
  private readonly offset: number;

  constructor(text: string, name: string, offset: number) {
    this.text = text;
    this.name = name;
    this.offset = offset;
  }

  parse(): Header {
    let descr: string | undefined;
    let fortranOrder: boolean | undefined;
    let shape: number[] | undefined;
    this.take("{");
    while (!this.accept("}")) {
      const key = this.string();
      this.take(":");
      if (key === "descr" && descr === undefined) descr = this.string();
      else if (key === "fortran_order" && fortranOrder === undefined) fortranOrder = this.boolean();
      else if (key === "shape" && shape === undefined) shape = this.tuple();
      else this.fail("the keys 'descr', 'fortran_order' and 'shape' once each", JSON.stringify(key));
      if (!this.accept(",")) {
        this.take("}");
        break;
      }
    }
    this.skip();
    if (this.at < this.text.length) this.fail("nothing but blanks after the header's dict");
    if (descr === undefined || fortranOrder === undefined || shape === undefined) {
      this.fail("the keys 'descr', 'fortran_order' and 'shape'", "not all of them");
    }
    return { descr, fortranOrder, shape };
  }

  private string(): string {
    this.skip();
    const quote = this.text[this.at];
    if (quote === "[") this.fail("a plain dtype", "a structured one", "Save each of its fields as an array of its own.");
    if (quote !== "'" && quote !== '"') this.fail("a quoted string");
    const close = this.text.indexOf(quote, this.at + 1);
    if (close < 0) this.fail("a closing quote", "none");
    const value = this.text.slice(this.at + 1, close);
    if (!/^[\w<>=|]+$/.test(value)) this.fail("a string of letters and digits");
    this.at = close + 1;
    return value;
  }

  private boolean(): boolean {
    const [word] = this.match(/True|False/y, "True or False");
    return word === "True";
  }

  private tuple(): number[] {
    const values: number[] = [];
    this.take("(");
    while (!this.accept(")")) {
      // Python 2 wrote long integers with an L.
      const [, digits] = this.match(/(\d{1,16})(?!\d)L?/y, "a whole number below 10^16");
      values.push(Number(digits));
      if (!this.accept(",")) {
        if (values.length === 1) this.fail("a comma, as in a Python tuple of one");
        this.take(")");
        break;
      }
    }
    return values;
  }

  private match(pattern: RegExp, expected: string): RegExpExecArray {
    this.skip();
    pattern.lastIndex = this.at;
    const match = pattern.exec(this.text);
    if (!match) this.fail(expected);
    this.at = pattern.lastIndex;
    return match;
  }

  private accept(character: string): boolean {
    this.skip();
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private take(character: string): void {
    if (!this.accept(character)) this.fail(`'${character}'`);
  }

  private skip(): void {
    while (" \t\r\n".includes(this.text[this.at] ?? ".")) this.at++;
  }

  private fail(
    expected: string,
    found = JSON.stringify(this.text.slice(this.at, this.at + 20) || "the header's end"),
    mend = DAMAGED,
  ): never {
    throw malformed(this.name, this.offset + this.at, expected, found, mend);
  }
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}
