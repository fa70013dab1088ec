/**
 * MS-ResNet-18 for 32 x 32 images, as bench/peers/peer_pytorch.py writes it: membrane shortcuts, every block neuron - convolution - batch
 * norm twice. A workload of the benchmark, not of the zoo. Field names are the peer's state-dict keys.
 */
import { nn, snn, type Tensor } from "spikeloom";

/** tau 2, decay on the input, hard reset to 0, detached, surrogate sigmoid alpha 4. */
const neuron = () => new snn.LIF({ tau: 2, detachReset: true, surrogate: snn.surrogate.sigmoid({ alpha: 4 }) });

const convNorm = (cin: number, cout: number, kernel: number, stride = 1, keepOutput = true) =>
  new nn.Sequential(new nn.Conv2d(cin, cout, kernel, { stride, padding: kernel >> 1, bias: false, keepOutput }), new nn.BatchNorm2d(cout));

class Block extends nn.Module {
  c1: nn.Sequential;
  c2: nn.Sequential;
  s1 = neuron();
  s2 = neuron();
  down: nn.Sequential | null;

  constructor(cin: number, cout: number, stride: number) {
    super();
    this.c1 = convNorm(cin, cout, 3, stride, cin > 128);
    this.c2 = convNorm(cout, cout, 3, 1, cout > 128);
    this.down = stride !== 1 || cin !== cout ? convNorm(cin, cout, 1, stride) : null;
  }

  /** Membranes [T, B, H, W, Cin] -> [T, B, H / stride, W / stride, Cout]. */
  forward(x: Tensor): Tensor {
    const y = this.c2.forward(this.s2.forward(this.c1.forward(this.s1.forward(x))));
    return y.add(this.down ? this.down.forward(x) : x);
  }
}

const BLOCKS = [
  [64, 128, 1],
  [128, 128, 1],
  [128, 128, 1],
  [128, 256, 2],
  [256, 256, 1],
  [256, 256, 1],
  [256, 512, 2],
  [512, 512, 1],
] as const;

export class MSResNet18 extends nn.Module {
  stem = convNorm(3, 64, 3);
  blocks = BLOCKS.map(([cin, cout, stride]) => new Block(cin, cout, stride));
  lif = neuron();
  fc = new nn.Linear(512, 10);
  readonly steps: number;

  constructor(steps = 4) {
    super();
    this.steps = steps;
  }

  /** Images [B, H, W, 3], shown T times, -> logits [B, 10]. */
  forward(images: Tensor): Tensor {
    const h = nn.inTurn([this.stem, ...this.blocks], snn.repeat(images, this.steps));
    return this.fc.forward(this.lif.forward(h).mean([2, 3])).mean(0);
  }
}
