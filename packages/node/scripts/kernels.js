// Puts the kernel sources into the package while it is packed (`add`), for `spikeloom native build`, and takes them out
// again (`remove`), so that a clone has them once.
import { cpSync, existsSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const from = fileURLToPath(new URL("../../../kernels/", import.meta.url));
const to = fileURLToPath(new URL("../kernels/", import.meta.url));

rmSync(to, { recursive: true, force: true });
if (process.argv[2] === "add") {
  if (!existsSync(`${from}generated/kernel_table.h`)) throw new Error("kernels/generated is not there: run `npm run build` first");
  cpSync(from, to, { recursive: true, filter: (path) => !path.endsWith(".ts") && !path.endsWith("wasm.cpp") });
}
