/**
 * `npx tsx bench/fit.ts [ROUNDS]`: measures the pieces of work of products with spikes (packages/core/src/runtime/costs.ts) on this
 * machine, each instruction set forced, fits their prices, and prints the table to paste there, with what its choices lose against
 * the better implementation at each point.
 */
import { backward, type DeviceName, init, nn, noGrad, rand, randn, scope, snn } from "spikeloom";
import { LANES, mostEventBits, type Prices, type ProductShape, workOf } from "../packages/core/src/runtime/costs.ts";
import { forceImplementations } from "../packages/core/src/runtime/implementations.ts";
import { addonIsas, findAddon } from "../packages/node/src/addon.ts";

type Operation = "spikeProduct" | "spikeProductGradWeight";

interface Point {
  shape: ProductShape;
  density: number;
  bits: number;
  /** Milliseconds, the least of several runs. */
  event: number;
  dense: number;
}

/** [images, size, channels in, channels out, kernel]: large and small, 1 x 1 and more, few channels and many. */
const SHAPES = [
  [2, 32, 64, 64, 3],
  [4, 8, 256, 256, 3],
  [4, 32, 16, 128, 3],
  [1, 16, 512, 512, 1],
  [1, 64, 128, 32, 1],
  [8, 16, 32, 32, 5],
  [2, 16, 128, 128, 3],
] as const;
const DENSITIES = [0.05, 0.2, 0.4, 0.6, 0.8, 1];

/** Milliseconds that the processor worked: what else runs here does not count. */
function time(fn: () => void): number {
  const start = process.cpuUsage();
  fn();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

/** Both implementations of both operations at every point, interleaved. */
export function measurePoints(rounds: number): Record<Operation, Point[]> {
  const points: Record<Operation, Point[]> = { spikeProduct: [], spikeProductGradWeight: [] };
  for (const [n, size, ci, co, kernel] of SHAPES)
    for (const density of DENSITIES)
      scope(() => {
        const x = rand([n, size, size, ci]).lt(density).toSpikes();
        const weight = randn([kernel, kernel, ci, co]);
        const gradient = randn([n, size, size, co]);
        const padding = kernel >> 1;
        weight.requiresGrad = true;
        const y = nn.conv2d(x, weight, null, { padding });
        const runs = {
          spikeProduct: () => noGrad(() => scope(() => void nn.conv2d(x, weight, null, { padding }))),
          spikeProductGradWeight: () => {
            backward(y, { gradient, retainGraph: true });
            weight.grad?.dispose();
            weight.grad = null;
          },
        };
        const bits = snn.spikeStats(x).sum;
        const shape = { n, h: size, w: size, ci, oh: size, ow: size, co, kh: kernel, kw: kernel };
        for (const operation of ["spikeProduct", "spikeProductGradWeight"] as const) {
          const point: Point = { shape, density, bits, event: Number.POSITIVE_INFINITY, dense: Number.POSITIVE_INFINITY };
          for (let round = 0; round <= rounds; round++)
            for (const name of ["event", "dense"] as const) {
              forceImplementations({ [operation]: name });
              const ms = time(runs[operation]);
              if (round > 0) point[name] = Math.min(point[name], ms);
            }
          points[operation].push(point);
        }
      });
  forceImplementations({});
  return points;
}

/** Non-negative a, b that make a p + b q nearest to t, relative to t. */
function fit2(rows: readonly (readonly [number, number, number])[]): [number, number] {
  let [pp, pq, qq, p1, q1] = [0, 0, 0, 0, 0];
  for (const [p, q, t] of rows) {
    pp += (p / t) ** 2;
    pq += (p / t) * (q / t);
    qq += (q / t) ** 2;
    p1 += p / t;
    q1 += q / t;
  }
  const det = pp * qq - pq * pq;
  const [a, b] = [(p1 * qq - q1 * pq) / det, (q1 * pp - p1 * pq) / det];
  if (a < 0) return [0, q1 / qq];
  return b < 0 ? [p1 / pp, 0] : [a, b];
}

/** Prices in nanoseconds that explain the points best. */
export function fitPrices(operation: Operation, points: readonly Point[], lanes: number): Prices {
  const rows = points.map((p) => ({ ...p, work: workOf(operation, p.shape, 1, lanes) }));
  const [add, visit] = fit2(rows.map(({ work, bits, event }) => [work.add * bits, work.visit, event * 1e6]));
  const [multiply, copy] = fit2(rows.map(({ work, dense }) => [work.multiply, work.copy, dense * 1e6]));
  const short = (x: number) => Number(x.toPrecision(3));
  return { add: short(add), visit: short(visit), multiply: short(multiply), copy: short(copy) };
}

/** The whole fit, one thread, every instruction set here; prints as it goes. */
export async function fitTable(rounds = 5): Promise<void> {
  const path = findAddon();
  const sets: [DeviceName, string][] = [
    ...(path === undefined ? [] : addonIsas(path).map((isa): [DeviceName, string] => ["native", isa])),
    ["wasm", "simd128"],
  ];
  const only = process.env.SPIKELOOM_ISA;
  delete process.env.SPIKELOOM_ISA;
  for (const [device, isa] of sets) {
    if (only !== undefined && only !== isa) continue;
    await init({ device, threads: 1, native: path, seed: 0, ...(device === "native" ? { isa } : {}) });
    const points = measurePoints(rounds);
    console.log(`  ${isa}: {`);
    for (const operation of ["spikeProduct", "spikeProductGradWeight"] as const) {
      const prices = fitPrices(operation, points[operation], LANES[isa] ?? 4);
      console.log(`    ${operation}: ${JSON.stringify(prices).replace(/"/g, "").replace(/:/g, ": ").replace(/,/g, ", ")},`);
    }
    console.log("  },");
    for (const operation of ["spikeProduct", "spikeProductGradWeight"] as const) {
      const prices = fitPrices(operation, points[operation], LANES[isa] ?? 4);
      for (const p of points[operation]) {
        const chosen = p.bits <= mostEventBits(prices, operation, p.shape, 1, LANES[isa] ?? 4) ? "event" : "dense";
        const loss = p[chosen] / Math.min(p.event, p.dense) - 1;
        const { n, h, ci, co, kh } = p.shape;
        console.error(
          `${isa} ${operation} ${kh}x${kh} ${ci}->${co} [${n}, ${h}, ${h}] ${p.density}: event ${p.event.toFixed(2)} ms, dense ${p.dense.toFixed(2)} ms, ${chosen}${loss > 0.02 ? ` (loses ${(100 * loss).toFixed(0)} %)` : ""}`,
        );
      }
    }
  }
}

if (process.argv[1]?.endsWith("fit.ts")) await fitTable(Number(process.argv[2] ?? 5));
