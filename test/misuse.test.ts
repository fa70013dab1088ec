/**
 * Misuse that the types forbid and JavaScript allows: whatever is given wrongly, the answer is a SpikeloomError that says what,
 * expected, found and the mend, never a TypeError from deep inside.
 */
import { beforeAll, describe, expect, it } from "vitest";
import * as spikeloom from "../packages/core/src/index.ts";
import {
  applyMany,
  argsort,
  backward,
  checkpoint,
  defineOp,
  empty,
  formats,
  full,
  grad,
  init,
  keep,
  nn,
  noGrad,
  npy,
  npz,
  ones,
  rand,
  randn,
  SpikeloomError,
  safetensors,
  scope,
  snn,
  sort,
  type Tensor,
  tensor,
  topk,
  truncNormal,
  uniform,
  zeros,
} from "../packages/core/src/index.ts";

// The point of this file is to give what the types forbid.
// biome-ignore lint/suspicious/noExplicitAny: see above
type Anything = any;

/** What stands where something else belongs. */
const WRONG: readonly Anything[] = [
  undefined,
  null,
  true,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  -1,
  0,
  2.5,
  2 ** 40,
  12n,
  "relu",
  [],
  [1, "a"],
  [[1], [1, 2]],
  [-1, 2],
  {},
  { strid: 2 },
  new Map(),
  new Float32Array(3),
  () => 1,
  new Date(0),
];

interface Call {
  // biome-ignore lint/complexity/noBannedTypes: any function or class
  f: Function;
  args: () => Anything[];
}

const call = (f: Anything, args: () => Anything[]): Call => ({ f, args });
const image = () => ones([1, 4, 4, 2]);
const spikes = () => tensor([[[1, 0, 1]], [[0, 1, 1]]]).toSpikes();
const index = () => tensor(new Int32Array([0, 1]));
const parameter = () => new nn.Parameter(ones([2, 2]));
const linearState = () => new nn.Linear(2, 2).stateDict();
const double = defineOp({
  name: "double",
  forward: (_ctx, inputs) => inputs.map((x) => x.mul(2)),
  backward: (_ctx, grads) => grads.map((g) => g?.mul(2) ?? null),
});

/** Right calls of every public function that takes something, by name: each of their arguments is replaced by everything in WRONG. */
const CALLS: Readonly<Record<string, Call>> = {
  tensor: call(tensor, () => [[1, 2], [2], "f32"]),
  empty: call(empty, () => [[2], "f32"]),
  full: call(full, () => [[2], 1]),
  ones: call(ones, () => [[2]]),
  zeros: call(zeros, () => [[2]]),
  rand: call(rand, () => [[2], { stream: "a" }]),
  randn: call(randn, () => [[2], { mean: 1, std: 1, stream: "a" }]),
  uniform: call(uniform, () => [[2], { low: 0, high: 1 }]),
  truncNormal: call(truncNormal, () => [[2], { mean: 0, std: 1, a: -2, b: 2 }]),
  keep: call(keep, () => [ones([2])]),
  scope: call(scope, () => [() => 1]),
  noGrad: call(noGrad, () => [() => 1]),
  backward: call(backward, () => [parameter().sum(), { gradient: full([], 1), retainGraph: true }]),
  grad: call(
    (f: Anything, x: Anything) => grad(f)(x),
    () => [(x: Tensor) => x.square().sum(), ones([2])],
  ),
  checkpoint: call(checkpoint, () => [(x: Tensor) => x.square(), ones([2])]),
  defineOp: call(
    (op: Anything, x: Anything) => defineOp(op)(x, undefined),
    () => [{ name: "a", forward: () => ones([1]), backward: () => [] }, [ones([1])]],
  ),
  applyMany: call(applyMany, () => [{ name: "a", forward: () => ones([1]), backward: () => [] }, [ones([1])], undefined]),
  "a defined op": call(double, () => [[ones([2])], undefined]),
  ...Object.fromEntries(
    Object.entries<Anything[]>({
      add: [1],
      sub: [1],
      mul: [1],
      div: [1],
      pow: [2],
      maximum: [1],
      minimum: [1],
      neg: [],
      abs: [],
      square: [],
      sqrt: [],
      exp: [],
      log: [],
      tanh: [],
      sigmoid: [],
      relu: [],
      clamp: [0, 1],
      eq: [1],
      ne: [1],
      lt: [1],
      le: [1],
      gt: [1],
      ge: [1],
      sum: [0, true],
      mean: [0, true],
      max: [0, true],
      min: [0, true],
      argmax: [0, true],
      argmin: [0, true],
      norm: [0, true],
      reshape: [[4]],
      permute: [[1, 0]],
      transpose: [0, 1],
      slice: [0, [0, 1]],
      squeeze: [],
      unsqueeze: [0],
      expand: [[3, 2, 2]],
      split: [1, 0],
      to: ["i32"],
      toSpikes: [{ planes: 1, scale: 1 }],
      toDense: [],
      clone: [],
      detach: [],
      set: [[1, 2, 3, 4]],
      alias: [[4]],
    }).map(([name, args]) => [
      `x.${name}`,
      call(
        (...given: Anything[]) => (ones([2, 2]) as Anything)[name](...given),
        () => args,
      ),
    ]),
  ),
  "x.matmul": call(
    (other: Anything, options: Anything) => ones([2, 2]).matmul(other, options),
    () => [ones([2, 2]), { transposeA: true }],
  ),
  "x.backward": call(
    (options: Anything) => parameter().sum().backward(options),
    () => [{ retainGraph: true }],
  ),
  "nn.conv2d": call(nn.conv2d, () => [
    image(),
    ones([3, 3, 2, 4]),
    ones([4]),
    { stride: 1, padding: 1, dilation: 1, groups: 1, keepOutput: true },
  ]),
  "nn.conv1d": call(nn.conv1d, () => [
    ones([1, 4, 2]),
    ones([3, 2, 4]),
    ones([4]),
    { stride: 1, padding: 1, dilation: 1, groups: 1, keepOutput: true },
  ]),
  "nn.dropout": call(nn.dropout, () => [ones([2]), 0.5, { training: true, stream: "a" }]),
  "nn.maxPool2d": call(nn.maxPool2d, () => [image(), 2, { stride: 2, padding: 0, dilation: 1, ceilMode: true }]),
  "nn.avgPool2d": call(nn.avgPool2d, () => [image(), 2, { stride: 2, padding: 0, ceilMode: true, countIncludePad: true }]),
  "nn.adaptiveAvgPool2d": call(nn.adaptiveAvgPool2d, () => [image(), 2]),
  "nn.globalAvgPool2d": call(nn.globalAvgPool2d, () => [image()]),
  "nn.batchNorm": call(nn.batchNorm, () => [
    ones([2, 2]),
    ones([2]),
    ones([2]),
    ones([2]),
    ones([2]),
    { training: true, momentum: 0.1, eps: 1e-5 },
  ]),
  "nn.layerNorm": call(nn.layerNorm, () => [ones([2, 2]), [2], ones([2]), ones([2]), 1e-5]),
  "nn.rmsNorm": call(nn.rmsNorm, () => [ones([2, 2]), [2], ones([2]), 1e-5]),
  "nn.groupNorm": call(nn.groupNorm, () => [image(), 2, ones([2]), ones([2]), { eps: 1e-5, spatial: 2 }]),
  "nn.BatchNorm1d": call(nn.BatchNorm1d, () => [2, { eps: 1e-5, momentum: 0.1, affine: true, trackRunningStats: true }]),
  "nn.BatchNorm2d": call(nn.BatchNorm2d, () => [2, { eps: 1e-5 }]),
  "nn.LayerNorm": call(nn.LayerNorm, () => [[2], { eps: 1e-5, affine: true, bias: true }]),
  "nn.RMSNorm": call(nn.RMSNorm, () => [[2], { eps: 1e-5, affine: true }]),
  "nn.GroupNorm": call(nn.GroupNorm, () => [2, 2, { eps: 1e-5, affine: true, spatial: 2 }]),
  "nn.crossEntropy": call(nn.crossEntropy, () => [ones([2, 2]), index(), { labelSmoothing: 0.1, reduction: "mean" }]),
  "nn.distillationLoss": call(nn.distillationLoss, () => [
    ones([]),
    ones([2, 2]),
    ones([2, 2]),
    { kind: "soft", alpha: 0.5, temperature: 2 },
  ]),
  "nn.mse": call(nn.mse, () => [ones([2]), ones([2]), { reduction: "mean" }]),
  "nn.bceWithLogits": call(nn.bceWithLogits, () => [ones([2]), ones([2]), { reduction: "mean" }]),
  sort: call(sort, () => [ones([2, 2]), { descending: true }]),
  argsort: call(argsort, () => [ones([2, 2]), { descending: true }]),
  topk: call(topk, () => [ones([2, 2]), 1, { largest: true }]),
  "nn.softmax": call(nn.softmax, () => [ones([2]), 0]),
  "nn.logSoftmax": call(nn.logSoftmax, () => [ones([2]), 0]),
  "nn.flatten": call(nn.flatten, () => [image(), 1]),
  "nn.AdaptiveAvgPool2d": call(nn.AdaptiveAvgPool2d, () => [2]),
  "nn.AvgPool2d": call(nn.AvgPool2d, () => [2, { stride: 2 }]),
  "nn.MaxPool2d": call(nn.MaxPool2d, () => [2, { stride: 2 }]),
  "nn.Conv1d": call(nn.Conv1d, () => [2, 4, 3, { padding: 1 }]),
  "nn.Conv2d": call(nn.Conv2d, () => [2, 4, 3, { padding: 1 }]),
  "nn.Dropout": call(nn.Dropout, () => [0.5]),
  "nn.DropPath": call(nn.DropPath, () => [0.5, { axis: 0 }]),
  "nn.sinCosPositions": call(nn.sinCosPositions, () => [4, 2, 3]),
  "nn.Embedding": call(nn.Embedding, () => [3, 2]),
  "nn.Flatten": call(nn.Flatten, () => [1]),
  "nn.Linear": call(nn.Linear, () => [2, 3, { bias: true }]),
  "nn.ModuleList": call(nn.ModuleList, () => [[new nn.ReLU()]]),
  "nn.inTurn": call(nn.inTurn, () => [[new nn.ReLU()], image()]),
  "nn.Sequential": call(nn.Sequential, () => [new nn.ReLU()]),
  "nn.Parameter": call(nn.Parameter, () => [ones([2]), null]),
  "nn.StateBuffer": call(nn.StateBuffer, () => [ones([2]), true]),
  "a layer's forward": call(
    (x: Anything) => new nn.Sequential(new nn.Conv2d(2, 2, 3), new nn.MaxPool2d(2)).forward(x),
    () => [image()],
  ),
  "an embedding's forward": call(
    (x: Anything) => new nn.Embedding(3, 2).forward(x),
    () => [index()],
  ),
  "a linear layer's forward": call(
    (x: Anything) => new nn.Linear(2, 3).forward(x),
    () => [ones([2])],
  ),
  "net.loadStateDict": call(
    (state: Anything, options: Anything) => new nn.Linear(2, 2).loadStateDict(state, options),
    () => [linearState(), { strict: true }],
  ),
  "net.loadStateDict of an entry": call(
    (entry: Anything) => new nn.Linear(2, 2).loadStateDict(linearState().set("weight", entry)),
    () => [linearState().get("weight")],
  ),
  "net.loadStateDict of data": call(
    (shape: Anything, data: Anything) => new nn.Linear(2, 2).loadStateDict(linearState().set("weight", { dtype: "f32", shape, data })),
    () => [[2, 2], new Float32Array(4)],
  ),
  "net.train": call(
    (on: Anything) => new nn.Linear(2, 2).train(on),
    () => [true],
  ),
  "nn.parameterFrom": call(nn.parameterFrom, () => [new Float32Array(4), [2, 2], null]),
  "nn.withForwardHook": call(nn.withForwardHook, () => [() => undefined, () => 1]),
  "nn.withTaps": call(nn.withTaps, () => [() => undefined, () => 1]),
  "nn.init.constant_": call(nn.init.constant_, () => [parameter(), 1]),
  "nn.init.zeros_": call(nn.init.zeros_, () => [parameter()]),
  "nn.init.ones_": call(nn.init.ones_, () => [parameter()]),
  "nn.init.uniform_": call(nn.init.uniform_, () => [parameter(), 0, 1]),
  "nn.init.normal_": call(nn.init.normal_, () => [parameter(), { mean: 0, std: 1 }]),
  "nn.init.truncNormal_": call(nn.init.truncNormal_, () => [parameter(), { mean: 0, std: 1, a: -2, b: 2 }]),
  "nn.init.fans": call(nn.init.fans, () => [parameter()]),
  "nn.init.kaimingUniform_": call(nn.init.kaimingUniform_, () => [parameter(), { a: 0, mode: "fanIn" }]),
  "nn.init.kaimingNormal_": call(nn.init.kaimingNormal_, () => [parameter(), { a: 0, mode: "fanIn" }]),
  "nn.init.xavierUniform_": call(nn.init.xavierUniform_, () => [parameter(), 1]),
  "nn.init.xavierNormal_": call(nn.init.xavierNormal_, () => [parameter(), 1]),
  "nn.init.defaultInit_": call(nn.init.defaultInit_, () => [parameter(), parameter()]),
  "nn.init.uninitialised": call(nn.init.uninitialised, () => [[2], null]),
  "nn.init.withoutDraws": call(nn.init.withoutDraws, () => [() => 1]),
  "snn.and": call(snn.and, () => [spikes(), spikes()]),
  "snn.andRows": call(snn.andRows, () => [spikes(), spikes()]),
  "snn.countRows": call(snn.countRows, () => [spikes(), true]),
  "snn.isBinary": call(snn.isBinary, () => [spikes()]),
  "snn.spikeStats": call(snn.spikeStats, () => [spikes()]),
  "snn.repeat": call(snn.repeat, () => [ones([2]), 2]),
  "formats.ndArray": call(formats.ndArray, () => ["f32", [2], new Float32Array(2), "a"]),
  "formats.permute": call(formats.permute, () => [formats.ndArray("f32", [2, 1], new Float32Array(2)), [1, 0]]),
  "formats.toFloat32": call(formats.toFloat32, () => [formats.ndArray("f32", [2], new Float32Array(2))]),
  "formats.toFloat64": call(formats.toFloat64, () => [formats.ndArray("f32", [2], new Float32Array(2))]),
  "formats.readZip": call(formats.readZip, () => [formats.writeZip(new Map([["a", Uint8Array.of(1)]])), { name: "a", maxBytes: 9 }]),
  "formats.writeZip": call(formats.writeZip, () => [new Map([["a", Uint8Array.of(1)]])]),
  "formats.writeZip of an entry": call(
    (data: Anything) => formats.writeZip(new Map([["a", data]])),
    () => [Uint8Array.of(1)],
  ),
  "npy.decode": call(npy.decode, () => [npy.encode(formats.ndArray("u8", [2], new Uint8Array(2))), "a"]),
  "npy.encode": call(npy.encode, () => [formats.ndArray("f32", [2], new Float32Array(2))]),
  "npz.decode": call(npz.decode, () => [formats.writeZip(new Map()), { name: "a", maxBytes: 9 }]),
  "npz.encode": call(npz.encode, () => [new Map([["a", formats.ndArray("f32", [2], new Float32Array(2))]])]),
  "npz.encode of an array": call(
    (a: Anything) => npz.encode(new Map([["a", a]])),
    () => [formats.ndArray("f32", [1], new Float32Array(1))],
  ),
  "safetensors.decode": call(safetensors.decode, () => [safetensors.encode(new Map()), "a"]),
  "safetensors.load": call(safetensors.load, () => [safetensors.encode(new Map()), "a"]),
  "safetensors.encode": call(safetensors.encode, () => [new Map(), { a: "b" }]),
  "safetensors.save": call(safetensors.save, () => [new Map(), { a: "b" }]),
  "safetensors.encode of an array": call(
    (a: Anything) => safetensors.encode(new Map([["a", a]])),
    () => [formats.ndArray("f32", [1], new Float32Array(1))],
  ),
};

/** What nobody can call wrongly, and what is tested beside its own code. */
const ELSEWHERE = [
  "init engineInfo memoryInfo random nearest denseViews resetDenseViews isRecording",
  "Tensor Context SpikeloomError FormatError SettingError Rng Stream",
  "nn.Module nn.Identity nn.ReLU nn.GELU nn.SiLU nn.Sigmoid nn.Tanh nn.isDouble nn.tap nn.tapping nn.toFile nn.fromFile nn.likeFile",
].flatMap((names) => names.split(" "));

const message = (name: string, wrong: () => unknown, words: RegExp | string) => ({ name, wrong, words });

/** What a message says of the mistakes that people make. */
const MESSAGES = [
  message(
    "an unknown option of a layer",
    () => new nn.Conv2d(1, 1, 3, { strid: 2 } as Anything),
    'Conv2d: there is no option "strid", did you mean "stride"? (one of stride, padding, dilation, groups, bias, keepOutput)',
  ),
  message(
    "an unknown option of an op",
    () => nn.maxPool2d(image(), 2, { ceil: true } as Anything),
    /maxPool2d: there is no option "ceil".*ceilMode/,
  ),
  message(
    "options as a number",
    () => new nn.Conv2d(1, 1, 3, 2 as Anything),
    "Conv2d: options must be an object with stride, padding, dilation, groups, bias, keepOutput, found 2",
  ),
  message(
    "an array for a tensor",
    () => ones([2]).add([1, 2] as Anything),
    /add: the second argument must be a Tensor, such as tensor\(\[1, 2\]\) makes, found an array of 2/,
  ),
  message(
    "nothing for a tensor",
    () => new nn.Linear(2, 2).forward(undefined as Anything),
    "linear: the input must be a Tensor, such as tensor([1, 2]) makes, found undefined",
  ),
  message(
    "an array for a convolution's input",
    () => new nn.Conv2d(1, 1, 1).forward([[1]] as Anything),
    /conv2d: x must be a Tensor.*found an array of 1/,
  ),
  message("a negative size", () => zeros([2, -1]), "tensor: every size of the shape must be an integer >= 0, found [2, -1]"),
  message("a fraction of a size", () => new nn.Linear(2.5, 1), "Linear: inFeatures must be an integer >= 1, found 2.5"),
  message("a size as text", () => new nn.Linear("2" as Anything, 1), 'Linear: inFeatures must be an integer >= 1, found "2"'),
  message("a shape as a number", () => zeros(2 as Anything), "tensor: the shape must be a list, such as [2, 3], found 2"),
  message("NaN for a probability", () => new nn.Dropout(Number.NaN), "Dropout: p must be in [0, 1], found NaN"),
  message(
    "NaN for a stride",
    () => nn.conv2d(image(), ones([1, 1, 2, 1]), null, { stride: Number.NaN }),
    "conv2d: stride must be an integer >= 1, or two, found NaN",
  ),
  message("a jagged array", () => tensor([[1, 2], [3]]), "tensor: nested arrays must be all of shape [2], found [1]"),
  message("text among numbers", () => tensor([1, "2"] as Anything), 'tensor: nested arrays must be of numbers, found "2"'),
  message(
    "an object as data",
    () => tensor({ length: 2 } as Anything),
    "tensor: the data must be a number, nested arrays of numbers, or a typed array, found an object",
  ),
  message("an unknown dtype", () => ones([1]).to("float32" as Anything), 'cast: dtype must be f32, i32, u8 or bool, found "float32"'),
  message("too many values", () => ones([2]).set([1, 2, 3]), "set: values must be 2 numbers for shape [2], found an array of 3"),
  message(
    "an object for a state dict",
    () => new nn.Linear(1, 1).loadStateDict({ weight: [1] } as Anything),
    "loadStateDict: the state must be a Map from keys to { shape, data }, as stateDict() and safetensors.load give, found an object",
  ),
  message(
    "tensors in a state dict",
    () => new nn.Linear(2, 2).loadStateDict(linearState().set("weight", ones([2, 2]) as Anything)),
    /state dict: "weight" must be \{ shape: .*found a Tensor/,
  ),
  message(
    "a file as text",
    () => safetensors.decode("net.safetensors" as Anything),
    /safetensors: the file must be given as its bytes, a Uint8Array .*found "net.safetensors"/,
  ),
  message(
    "a file as a buffer",
    () => npy.decode(new ArrayBuffer(8) as Anything),
    /npy: the file must be given as its bytes, a Uint8Array \(new Uint8Array\(buffer\).*found an ArrayBuffer/,
  ),
  message(
    "an object of arrays",
    () => safetensors.encode({} as Anything),
    "safetensors: expected a Map by name (new Map(Object.entries(...)) of an object), found an object",
  ),
  message(
    "an operation without backward",
    () => defineOp({ name: "a", forward: () => ones([1]) } as Anything),
    "defineOp: backward must be a function, found undefined",
  ),
  message(
    "an operation with a misspelt part",
    () => defineOp({ name: "a", foward: () => ones([1]), backward: () => [] } as Anything),
    'defineOp: there is no option "foward", did you mean "forward"?',
  ),
  message(
    "one tensor where an operation takes a list",
    () => double(ones([1]) as Anything),
    "double: inputs must be a list, such as [2, 3], found a Tensor",
  ),
  message(
    "a backward that gives too few gradients",
    () => {
      const add = defineOp({ name: "plus", forward: (_ctx, [a, b]) => a!.add(b!), backward: (_ctx, [g]) => [g!] });
      add([parameter(), parameter()]).sum().backward();
    },
    "plus: backward must give a list of 2 gradients, one an input (null where none flows), found an array of 1",
  ),
  message(
    "a forward that returns no tensor",
    () => defineOp({ name: "a", forward: () => 1 as Anything, backward: () => [] })([]),
    "a: what forward returns must be a Tensor, such as tensor([1, 2]) makes, found 1",
  ),
  message(
    "a module as text",
    () => new nn.Sequential("relu" as Anything),
    'Sequential: module 0 must be a Module, such as new nn.ReLU(), found "relu"',
  ),
  message(
    "a class instead of a module",
    () => new nn.Sequential(nn.ReLU as Anything),
    "Sequential: module 0 must be a Module, such as new nn.ReLU(), found the function ReLU",
  ),
  message(
    "an asynchronous scope",
    () => scope(async () => 1),
    "scope: the function must be synchronous, found one that returns a promise. Read values after the scope",
  ),
  message(
    "a freed tensor",
    () => {
      const x = ones([2]);
      x.dispose();
      x.add(1);
    },
    "a tensor of shape [2] is used after it was freed: return it from scope(), or keep() it",
  ),
];

/** Calls a function, or makes one of a class; gives what it throws. */

async function thrownBy({ f }: Call, args: readonly Anything[]): Promise<unknown> {
  try {
    const made = scope(() => {
      const result = /^class\b/.test(Function.prototype.toString.call(f)) ? Reflect.construct(f, args) : f(...args);
      // A promise may not leave a scope.
      return result instanceof Promise ? { promise: result } : result;
    });
    await (made as Anything)?.promise;
    return undefined;
  } catch (error) {
    return error;
  }
}

it("operations before init say what is missing", () => {
  const wanted = "the engine is not started: call `await init()` first";
  for (const f of [() => tensor([1]), () => zeros([1]), () => randn([1]), () => new nn.Linear(1, 1), () => new nn.Conv2d(1, 1, 1)])
    expect(f).toThrow(new SpikeloomError(wanted));
});

it("unknown options of init, and a tensor of an earlier one", async () => {
  await expect(init({ devise: "wasm" } as Anything)).rejects.toThrow('init: there is no option "devise", did you mean "device"?');
  await expect(init({ device: 3 } as Anything)).rejects.toThrow("init: unknown device 3 (one of reference, wasm, native, auto)");
  await expect(init({ threads: Number.NaN })).rejects.toThrow("init: threads must be an integer from 1 to 256, got NaN");
  await init({ device: "reference" });
  const old = ones([1]);
  await init({ device: "wasm", threads: 1 });
  expect(() => old.add(1)).toThrow(new SpikeloomError("a tensor of an earlier init() is used: its device is gone"));
});

describe("what the types forbid", () => {
  beforeAll(async () => {
    await init({ device: "wasm", threads: 1 });
  });

  it.each(MESSAGES)("$name", ({ wrong, words }) => {
    expect(() => scope(wrong)).toThrow(SpikeloomError);
    expect(() => scope(wrong)).toThrow(words);
  });

  it("has a call of every public function", () => {
    const functions = (space: object, prefix: string) =>
      Object.entries(space).flatMap(([name, value]) => (typeof value === "function" ? [prefix + name] : []));
    const all = [
      ...functions(spikeloom, ""),
      ...functions(nn, "nn."),
      ...functions(nn.init, "nn.init."),
      ...functions(formats, "formats."),
      ...[...functions(npy, "npy."), ...functions(npz, "npz."), ...functions(safetensors, "safetensors.")],
    ];
    expect(all.filter((name) => !Object.hasOwn(CALLS, name) && !ELSEWHERE.includes(name))).toEqual([]);
  });

  for (const [name, right] of Object.entries(CALLS)) {
    it(`${name}: no wrong argument gives another error than a SpikeloomError`, async () => {
      expect(await thrownBy(right, right.args())).toBeUndefined();
      for (let i = 0; i < Math.max(1, right.args().length); i++)
        for (const wrong of WRONG) {
          const args = right.args();
          args[i] = wrong;
          const error = await thrownBy(right, args);
          if (error === undefined) continue;
          if (!(error instanceof SpikeloomError))
            throw new Error(
              `argument ${i} = ${wrong === null ? null : typeof wrong === "object" ? JSON.stringify(wrong) : String(wrong)}`,
              { cause: error },
            );
        }
    });
  }
});
