/**
 * Python pickles as inert values. A pickle is a program for a stack machine that may import and call anything; here every name is a
 * name and every call a record of it, unless the caller's allow-list knows better, and nothing is ever run. Protocols 0 to 5, as
 * CPython's pickletools describes them. No step recurses, and every length is compared with the bytes that are there.
 */
import { FormatError } from "../runtime/error.ts";
import { DAMAGED, malformed } from "./array.ts";

/** A class or function that a pickle names, `module.name`. */
export class PickledName {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** What a pickle would make by calling a name: an object of an unknown class, or the result of an unknown function. */
export class PickledObject {
  readonly name: string;
  readonly args: unknown;
  /** What its attributes would be set from: mostly a Map by name. */
  state: unknown;
  /** What it would hold, were it a dictionary or a list. */
  readonly items = new Map<unknown, unknown>();
  readonly elements: unknown[] = [];

  constructor(name: string, args: unknown) {
    this.name = name;
    this.args = args;
  }
}

/** The allow-list: what calls and references to things outside the pickle stand for. */
export interface PickleRules {
  /** The value of a call, or undefined for an inert record of it. @throws FormatError for arguments that cannot be */
  call?(name: string, args: readonly unknown[]): unknown;
  persistent?(id: unknown): unknown;
}

/** The bytes end within the pickle: there may be more of them in the file. */
export class PickleCut extends FormatError {
  /** Bytes that it needs at least. */
  readonly needed: number;
  constructor(message: string, needed: number) {
    super(message);
    this.needed = needed;
  }
}

/** Objects that one pickle may make: forty times those of a checkpoint of the largest model with its optimiser. */
const MAX_OBJECTS = 2 ** 22;
/** Entries of lists, dictionaries, calls and the memo: a few bytes may ask for a copy of a long list, and a packed file has many bytes. */
const MAX_ENTRIES = 2 ** 23;
const MAX_STACK = 2 ** 24;
/** Integers of more bytes than this are nobody's size, count or seed. */
const MAX_INTEGER_BYTES = 1024;
const MAX_LINE = 65536;
const MARK = Symbol("mark");

/**
 * Read one pickle: lists, tuples and sets become arrays, dictionaries Maps, bytes Uint8Arrays; integers beyond 2^53 bigints.
 * The same object twice in the pickle is the same object here, also inside itself.
 * @param at where `bytes` stand in the file, for messages
 * @returns the value, and the length of its pickle
 * @throws PickleCut where the bytes end too early, FormatError for anything else that no pickle is
 */
export function unpickle(bytes: Uint8Array, rules: PickleRules, name: string, at = 0): { value: unknown; length: number } {
  return new Unpickler(bytes, rules, name, at).run();
}

class Unpickler {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly rules: PickleRules;
  private readonly name: string;
  private readonly from: number;
  private at = 0;
  private opened = 0;
  private objects = 0;
  private entries = 0;
  private readonly stack: unknown[] = [];
  private readonly memo = new Map<number, unknown>();

  constructor(bytes: Uint8Array, rules: PickleRules, name: string, from: number) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.rules = rules;
    this.name = name;
    this.from = from;
  }

  run(): { value: unknown; length: number } {
    for (;;) {
      this.opened = this.at;
      const op = this.u8();
      if (op === 0x2e /* . STOP */) {
        const value = this.pop();
        return { value, length: this.at };
      }
      this.step(op);
    }
  }

  private step(op: number): void {
    switch (op) {
      case 0x80: {
        const version = this.u8();
        if (version > 5) this.fail("a pickle of protocol 0 to 5", `protocol ${version}`);
        return;
      }
      case 0x95: // FRAME: a hint for readers of streams
        this.take(8);
        return;
      case 0x28: // ( MARK
        this.push(MARK);
        return;
      case 0x30: // 0 POP
        this.value();
        this.stack.pop();
        return;
      case 0x31: // 1 POP_MARK
        this.marked();
        return;
      case 0x32: // 2 DUP
        this.push(this.peek());
        return;

      case 0x4e: // N
        this.push(null);
        return;
      case 0x88:
        this.push(true);
        return;
      case 0x89:
        this.push(false);
        return;
      case 0x49: {
        // I: protocol 0 writes booleans as 00 and 01
        const text = this.line();
        this.push(text === "00" ? false : text === "01" ? true : this.integer(text));
        return;
      }
      case 0x4c: // L
        this.push(this.integer(this.line().replace(/L$/, "")));
        return;
      case 0x4a: // J BININT
        this.push(this.view.getInt32(this.take(4), true));
        return;
      case 0x4b: // K BININT1
        this.push(this.u8());
        return;
      case 0x4d: // M BININT2
        this.push(this.view.getUint16(this.take(2), true));
        return;
      case 0x8a: // LONG1
        this.push(this.long(this.u8()));
        return;
      case 0x8b: // LONG4
        this.push(this.long(this.view.getInt32(this.take(4), true)));
        return;
      case 0x46: {
        const text = this.line();
        const value = Number(text.replace(/^(-?)inf$/i, "$1Infinity"));
        if (Number.isNaN(value) && text !== "nan") this.fail("a number", JSON.stringify(text.slice(0, 40)));
        this.push(value);
        return;
      }
      case 0x47: // G BINFLOAT
        this.push(this.view.getFloat64(this.take(8), false));
        return;

      case 0x53: {
        const text = this.line();
        const quoted = /^(['"])(.*)\1$/.exec(text)?.[2];
        if (quoted === undefined) this.fail("a quoted string", JSON.stringify(text.slice(0, 40)));
        this.push(unescaped(quoted as string));
        return;
      }
      case 0x56: // V UNICODE
        this.push(unescaped(this.line()));
        return;
      case 0x55: // U SHORT_BINSTRING: of Python 2
        this.push(this.text(this.u8()));
        return;
      case 0x54: // T BINSTRING
        this.push(this.text(this.size4()));
        return;
      case 0x8c: // SHORT_BINUNICODE
        this.push(this.text(this.u8()));
        return;
      case 0x58: // X BINUNICODE
        this.push(this.text(this.size4()));
        return;
      case 0x8d: // BINUNICODE8
        this.push(this.text(this.size8()));
        return;
      case 0x43: // C SHORT_BINBYTES
        this.push(this.raw(this.u8()));
        return;
      case 0x42: // B BINBYTES
        this.push(this.raw(this.size4()));
        return;
      case 0x8e: // BINBYTES8
      case 0x96: // BYTEARRAY8
        this.push(this.raw(this.size8()));
        return;

      case 0x5d: // ] EMPTY_LIST
      case 0x29: // ) EMPTY_TUPLE
      case 0x8f: // EMPTY_SET
        this.make([]);
        return;
      case 0x6c: // l LIST
      case 0x74: // t TUPLE
      case 0x91: // FROZENSET
        this.make(this.marked());
        return;
      case 0x85: // TUPLE1 to 3
      case 0x86:
      case 0x87: {
        const values: unknown[] = [];
        for (let i = op - 0x84; i > 0; i--) values.unshift(this.pop());
        this.make(values);
        return;
      }
      case 0x7d: // } EMPTY_DICT
        this.make(new Map());
        return;
      case 0x64: {
        // d DICT
        const dictionary = new Map();
        this.setItems(dictionary, this.marked());
        this.make(dictionary);
        return;
      }
      case 0x61: {
        // a APPEND
        const value = this.pop();
        this.spend(1);
        this.append([value]);
        return;
      }
      case 0x65: // e APPENDS
      case 0x90: // ADDITEMS
        this.append(this.marked());
        return;
      case 0x73: {
        // s SETITEM
        const value = this.pop();
        const key = this.pop();
        this.spend(1);
        this.setItems(this.peek(), [key, value]);
        return;
      }
      case 0x75: {
        // u SETITEMS
        const pairs = this.marked();
        this.setItems(this.peek(), pairs);
        return;
      }

      case 0x70: // p PUT
        this.put(Number(this.integer(this.line())));
        return;
      case 0x71: // q BINPUT
        this.put(this.u8());
        return;
      case 0x72: // r LONG_BINPUT
        this.put(this.size4());
        return;
      case 0x94: // MEMOIZE
        this.put(this.memo.size);
        return;
      case 0x67: // g GET
        this.get(Number(this.integer(this.line())));
        return;
      case 0x68: // h BINGET
        this.get(this.u8());
        return;
      case 0x6a: // j LONG_BINGET
        this.get(this.size4());
        return;

      case 0x63: {
        // c GLOBAL
        const module = this.line();
        this.make(this.global(module, this.line()));
        return;
      }
      case 0x93: {
        // STACK_GLOBAL
        const name = this.pop();
        this.make(this.global(this.pop(), name));
        return;
      }
      case 0x52: // R REDUCE
      case 0x81: {
        // NEWOBJ
        const args = this.pop();
        this.call(this.pop(), args);
        return;
      }
      case 0x92: {
        // NEWOBJ_EX: its arguments by name come last
        const named = this.pop();
        const args = this.pop();
        this.call(this.pop(), named instanceof Map && named.size ? [...this.list(args), named] : args);
        return;
      }
      case 0x69: {
        // i INST
        const module = this.line();
        const made = this.global(module, this.line());
        this.call(made, this.marked());
        return;
      }
      case 0x6f: {
        // o OBJ
        const [made, ...args] = this.marked();
        this.call(made, args);
        return;
      }
      case 0x62: {
        // b BUILD. Attributes of anything but an unknown object (an OrderedDict's _metadata, a tensor's hooks) say nothing of its values.
        const state = this.pop();
        const target = this.peek();
        if (target instanceof PickledObject) target.state = state;
        return;
      }
      case 0x50: // P PERSID
        this.persistent(this.line());
        return;
      case 0x51: // Q BINPERSID
        this.persistent(this.pop());
        return;
      default:
        this.fail("an instruction of a pickle", `byte ${op}`, "Is this a PyTorch file?");
    }
  }

  private global(module: unknown, name: unknown): PickledName {
    if (typeof module !== "string" || typeof name !== "string" || module.length + name.length > 1000)
      return this.fail("a module and a name", `${typeof module} and ${typeof name}`);
    return new PickledName(`${module}.${name}`);
  }

  private call(callee: unknown, args: unknown): void {
    const given = this.list(args);
    // What is called may copy what it is given.
    this.spend(given.reduce<number>((n, value) => n + (Array.isArray(value) ? value.length : 0), given.length));
    const name =
      callee instanceof PickledName ? callee.name : callee instanceof PickledObject ? `${callee.name.slice(0, 1000)}()` : undefined;
    if (name === undefined) this.fail("a name to call", kindOf(callee));
    const value = callee instanceof PickledName ? this.rules.call?.(name, given) : undefined;
    this.make(value === undefined ? new PickledObject(name, given) : value);
  }

  private persistent(id: unknown): void {
    if (!this.rules.persistent) this.fail("a pickle that stands for itself", "a reference to something outside of it");
    this.make(this.rules.persistent(id));
  }

  private append(values: readonly unknown[]): void {
    const target = this.peek();
    const list = Array.isArray(target) ? target : target instanceof PickledObject ? target.elements : undefined;
    if (!list) this.fail("a list to append to", kindOf(target));
    for (const value of values) list.push(value);
  }

  private setItems(target: unknown, pairs: readonly unknown[]): void {
    const map = target instanceof Map ? target : target instanceof PickledObject ? target.items : undefined;
    if (!map) this.fail("a dictionary to fill", kindOf(target));
    if (pairs.length % 2) this.fail("a value for each key", "a key alone");
    for (let i = 0; i < pairs.length; i += 2) map.set(pairs[i], pairs[i + 1]);
  }

  private put(index: number): void {
    if (!(index >= 0)) this.fail("a place in the memo", String(index));
    // A place takes about as much memory as four entries of a list.
    this.spend(4);
    this.memo.set(index, this.peek());
  }

  private get(index: number): void {
    if (!this.memo.has(index)) this.fail("a place in the memo that was filled", String(index));
    this.push(this.memo.get(index));
  }

  private push(value: unknown): void {
    if (this.stack.length >= MAX_STACK) this.fail(`at most ${MAX_STACK} values on the stack`, "more");
    this.stack.push(value);
  }

  private make(value: unknown): void {
    if (++this.objects > MAX_OBJECTS) this.fail(`at most ${MAX_OBJECTS} objects`, "more");
    this.push(value);
  }

  private spend(entries: number): void {
    this.entries += entries;
    if (this.entries > MAX_ENTRIES) this.fail(`at most ${MAX_ENTRIES} entries of lists and dictionaries`, "more");
  }

  private value(): void {
    if (!this.stack.length) this.fail("a value on the stack", "none");
  }

  private peek(): unknown {
    this.value();
    const value = this.stack.at(-1);
    return value === MARK ? this.fail("a value on the stack", "a mark") : value;
  }

  private pop(): unknown {
    const value = this.peek();
    this.stack.pop();
    return value;
  }

  /** What stands above the last mark, taken with it. */
  private marked(): unknown[] {
    const mark = this.stack.lastIndexOf(MARK);
    if (mark < 0) this.fail("a mark on the stack", "none");
    this.spend(this.stack.length - mark);
    const values = this.stack.splice(mark + 1);
    this.stack.pop();
    return values;
  }

  private list(value: unknown): unknown[] {
    return Array.isArray(value) ? value : this.fail("a tuple of arguments", kindOf(value));
  }

  private take(length: number): number {
    const at = this.at;
    if (at + length > this.bytes.length) {
      const { message } = malformed(this.name, this.from + at, `${length} bytes more of a pickle`, `${this.bytes.length - at}`, DAMAGED);
      throw new PickleCut(message, at + length);
    }
    this.at += length;
    return at;
  }

  private u8(): number {
    return this.bytes[this.take(1)] as number;
  }

  private size4(): number {
    return this.view.getUint32(this.take(4), true);
  }

  private size8(): number {
    const size = this.view.getBigUint64(this.take(8), true);
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) this.fail("a length within the file", `${size}`);
    return Number(size);
  }

  /** A copy, so that a small value does not keep the pickle. */
  private raw(length: number): Uint8Array {
    const at = this.take(length);
    return this.bytes.slice(at, at + length);
  }

  private text(length: number): string {
    const at = this.take(length);
    return TEXT.decode(this.bytes.subarray(at, at + length));
  }

  private line(): string {
    const end = this.bytes.indexOf(10, this.at);
    const length = (end < 0 ? this.bytes.length : end) - this.at;
    if (length > MAX_LINE) this.fail(`a line of at most ${MAX_LINE} bytes`, "a longer one");
    if (end < 0) this.take(length + 1);
    const text = this.text(length);
    this.at++;
    return text;
  }

  private integer(text: string): number | bigint {
    if (!/^-?\d{1,1000}$/.test(text)) this.fail("a whole number", JSON.stringify(text.slice(0, 40)));
    return plain(BigInt(text));
  }

  private long(length: number): number | bigint {
    if (!(length >= 0 && length <= MAX_INTEGER_BYTES)) this.fail(`an integer of at most ${MAX_INTEGER_BYTES} bytes`, `one of ${length}`);
    const at = this.take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.bytes[at + i] as number);
    return plain(length ? BigInt.asIntN(8 * length, value) : 0n);
  }

  private fail(expected: string, found: string, mend = DAMAGED): never {
    throw malformed(this.name, this.from + this.opened, expected, found, mend);
  }
}

const TEXT = new TextDecoder("utf-8", { ignoreBOM: true });

function plain(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Python's escapes: those of both protocol-0 strings. */
function unescaped(text: string): string {
  return text.replace(/\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U00([01][0-9a-f]{5}|0[0-9a-f]{5})|([\\'"nrt]))/gi, (whole, x, u, wide, c) => {
    if (c) return ({ n: "\n", r: "\r", t: "\t" } as Record<string, string>)[c] ?? c;
    const code = Number.parseInt(x ?? u ?? wide, 16);
    return code > 0x10ffff ? whole : String.fromCodePoint(code);
  });
}

function kindOf(value: unknown): string {
  if (value === MARK) return "a mark";
  if (value === null || value === undefined) return "nothing";
  if (value instanceof PickledObject || value instanceof PickledName) return value.name.slice(0, 100);
  return Array.isArray(value) ? "a list" : value instanceof Map ? "a dictionary" : `a ${typeof value}`;
}
