import { nativeBuilt, paritySuite } from "./suite.ts";

paritySuite("wasm");
if (nativeBuilt) paritySuite("native");
