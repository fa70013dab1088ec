#!/usr/bin/env node
/** The `spikeloom` command. What it understands is in program.ts. */
import { main } from "./program.ts";

process.exitCode = await main(process.argv.slice(2));
