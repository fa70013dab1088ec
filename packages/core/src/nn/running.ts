/** Which modules' forwards run now, the innermost last: who asks an operation. Not for programs, which have hooks. */
import type { Module } from "./module.ts";

export const running: Module[] = [];
