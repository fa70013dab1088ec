#!/usr/bin/env node
// The `spikeloom` command. It stands beside dist/ so that installing a clone, not built yet, links it.
import "../dist/cli.js";
