/**
 * What a step minimises: from a batch to a loss. Classification by labels, the same with a teacher beside them, and whatever else a model can
 * be trained for (a reconstruction of what was hidden from it).
 */
import { type DistillationOptions, distillationLoss } from "../nn/losses.ts";
import { Module } from "../nn/module.ts";
import { checkOptions, kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { show } from "../tensor/shape.ts";
import { noGrad } from "../tensor/tape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type ClassificationLoss, classificationLoss } from "./losses.ts";

/** The outcome of a batch. */
export interface Outcome {
  /** A scalar. */
  loss: Tensor;
  /** [B, K], or [T, B, K]: what accuracy is counted by. None where the model names no classes. */
  logits?: Tensor | undefined;
}

/** How a model is trained. Its draws come from the engine's random streams, so that a resumed run goes on bit for bit. */
export interface Objective {
  /**
   * Loss of a batch. Called within a scope; the model is in training mode, or, in a test of an objective without classes, in evaluation mode.
   * @param x [B, H, W, C] or [T, B, H, W, C]
   * @param y i32 [B] class numbers, or f32 [B, K] where the batch was mixed
   */
  loss(model: Module, x: Tensor, y: Tensor): Outcome;
  /** The model names no classes: a test is the mean of this loss. Default false: it is that of a classifier, whatever is trained on. */
  readonly unlabelled?: boolean | undefined;
}

const perItem = (logits: Tensor): Tensor => (logits.rank === 3 ? mean(logits, 0) : logits);

/** Learn from labels: `classificationLoss` of what the model gives. */
export function classification(loss: ClassificationLoss = {}): Objective {
  return {
    loss(model, x, y) {
      const logits = model.forward(x) as unknown;
      if (!(logits instanceof Tensor))
        throw new SpikeloomError(
          Array.isArray(logits)
            ? "training: the model has a head for distillation, which learns from a teacher only, and there is none. Give a teacher (train.teacher), or make the model without that head"
            : `training: the model's forward must give logits [B, K] or [T, B, K], found ${kindOf(logits)}`,
        );
      return { loss: classificationLoss(logits, y, loss), logits };
    },
  };
}

export interface Distillation extends DistillationOptions {
  /** Gives logits [B, K] (or [T, B, K], averaged) for the student's own input; it is never trained. */
  teacher: Module;
  /** How labels are learnt from; with mixed targets too. */
  loss?: ClassificationLoss | undefined;
}

/**
 * Learn from labels and a teacher that sees the same batch: `distillationLoss` over `classificationLoss`. A model that gives two heads' logits in
 * training, [logits, logits of the distillation head], learns from labels with the first and from the teacher with the second; one that gives
 * a single tensor with that.
 * @throws SpikeloomError for settings that `distillationLoss` refuses, and, in a step, where teacher and student name other classes
 */
export function distillation(settings: Distillation): Objective {
  checkOptions("distillation", settings, ["teacher", "loss", "kind", "alpha", "temperature"]);
  const { teacher, loss: labels, ...options } = settings;
  if (!(teacher instanceof Module)) throw new SpikeloomError(`distillation: teacher must be a model (nn.Module), found ${kindOf(teacher)}`);
  return {
    loss(model, x, y) {
      const restore = teacher.modes();
      teacher.eval();
      let target: Tensor;
      try {
        target = noGrad(() => perItem(teacher.forward(x) as Tensor));
      } finally {
        restore();
      }
      const output = model.forward(x) as Tensor | [Tensor, Tensor];
      const [logits, student] = Array.isArray(output) ? output : [output, output];
      const heard = perItem(student);
      if (heard.shape.join() !== target.shape.join())
        throw new SpikeloomError(
          `distillation: the teacher gives logits ${show(target.shape)} and the student ${show(heard.shape)}: both must name the same classes`,
        );
      return { loss: distillationLoss(classificationLoss(logits, y, labels), heard, target, options), logits };
    },
  };
}
