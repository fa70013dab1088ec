// The same in Node. Arguments: folder of the files, file of weights to classify with (or -), file to write the trained weights to (or -).
import { readFileSync, writeFileSync } from "node:fs";
import { scenario } from "./scenario.js";

const [folder, weights, out] = process.argv.slice(2);
const read = (path) => new Uint8Array(readFileSync(path));
const { file, ...result } = await scenario({
  images: read(`${folder}/images`),
  labels: read(`${folder}/labels`),
  ...(weights === "-" ? {} : { weights: read(weights) }),
  ...(process.env.EPOCHS ? { epochs: Number(process.env.EPOCHS), steps: Infinity } : {}),
});
if (out !== "-") writeFileSync(out, file);
console.log(JSON.stringify(result));
