/** The distillation loss against its definition in float64, its gradients, and what it says of wrong arguments. */
import { beforeAll, expect, it } from "vitest";
import { init, memoryInfo, nn, type Tensor, tensor } from "../../src/index.ts";

beforeAll(async () => {
  await init({ device: "reference", seed: 3 });
});

const STUDENT = [
  [0.5, -1.25, 2],
  [1, 0.25, -0.5],
];
const TEACHER = [
  [-1, 3, 0.5],
  [0.75, 0.5, 2.5],
];
const [B, K] = [2, 3];

function softmax(z: readonly number[], tau: number): number[] {
  const e = z.map((v) => Math.exp(v / tau));
  const all = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / all);
}

function leaf(values: number[][]): Tensor {
  const t = tensor(values);
  t.requiresGrad = true;
  return t;
}

it.each([1, 2.5])("soft at temperature %d: KL of the softened distributions, over items and classes", (tau) => {
  const [student, teacher, base] = [leaf(STUDENT), leaf(TEACHER), leaf([[3]])];
  const loss = nn.distillationLoss(base, student, teacher, { kind: "soft", alpha: 0.25, temperature: tau });
  let kl = 0;
  const grad: number[] = [];
  for (let b = 0; b < B; b++) {
    const [s, t] = [softmax(STUDENT[b] as number[], tau), softmax(TEACHER[b] as number[], tau)];
    for (let k = 0; k < K; k++) {
      kl += (t[k] as number) * Math.log((t[k] as number) / (s[k] as number));
      // d KL / d z = (p_S - p_T) / tau
      grad.push((0.25 * tau * ((s[k] as number) - (t[k] as number))) / (B * K));
    }
  }
  expect(loss.itemSync()).toBeCloseTo(0.75 * 3 + (0.25 * tau ** 2 * kl) / (B * K), 12);
  loss.backward();
  const found = student.grad?.dataSync() as Float64Array;
  grad.forEach((g, i) => {
    expect(found[i]).toBeCloseTo(g, 12);
  });
  expect(base.grad?.itemSync()).toBeCloseTo(0.75, 12);
  expect(teacher.grad).toBeNull();
});

it("hard: the teacher's likeliest class is the label", () => {
  const loss = nn.distillationLoss(tensor(1), tensor(STUDENT), tensor(TEACHER), { alpha: 0.4 });
  const nll = -Math.log(softmax(STUDENT[0] as number[], 1)[1] as number) - Math.log(softmax(STUDENT[1] as number[], 1)[2] as number);
  expect(loss.itemSync()).toBeCloseTo(0.6 + (0.4 * nll) / B, 12);
});

it("gives back all memory but its result's", () => {
  const [student, teacher, base] = [tensor(STUDENT), tensor(TEACHER), tensor(1)];
  const before = memoryInfo().used;
  for (const kind of ["hard", "soft"] as const) nn.distillationLoss(base, student, teacher, { kind }).dispose();
  expect(memoryInfo().used).toBe(before);
});

it("says what is wrong", () => {
  const [student, base] = [tensor(STUDENT), tensor(1)];
  expect(() => nn.distillationLoss(student, student, student)).toThrow("distillationLoss: base must be a loss: one number, found [2, 3]");
  expect(() => nn.distillationLoss(base, student, tensor([1, 2]))).toThrow(/teacher.*\[2, 3\]/);
  expect(() => nn.distillationLoss(base, student, student, { alpha: 2 })).toThrow("alpha must be in [0, 1], found 2");
  expect(() => nn.distillationLoss(base, student, student, { kind: "softly" as "soft" })).toThrow('kind must be "hard" or "soft"');
});
