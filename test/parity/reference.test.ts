import { paritySuite } from "./suite.ts";

paritySuite("reference");
