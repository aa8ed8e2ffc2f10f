/** What a distillation compares beside hidden states. */
import type { PoolKind } from '../backend/operations/pool.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { Answer } from '../models/answer.ts';
import type { Model } from '../models/checkpoint.ts';
import type { EncoderActivations } from '../models/encoder.ts';
import type { Run } from '../nn/parameter.ts';
import type { TextsOfOneLength } from './texts.ts';

/** A model's answer to texts that its encoder has read. */
export type AnswerTo = (run: Run, encoded: EncoderActivations, texts: TextsOfOneLength) => Answer;

/**
 * The texts' pooled vectors [texts, width] if it is said how they are pooled; else, of a masked language model, the logits
 * [predicted positions, vocabulary], of a classifier those [texts, labels], of an encoder nothing.
 */
export function answerTo(model: Model, pooling?: PoolKind): AnswerTo | undefined {
  if (pooling) return (run, { output }, { batch, length }) => pooled(run, output, { batch, length, kind: pooling });
  if (model.task === 'masked-lm') return (run, encoded, { predicted }) => model.answer(run, encoded, predicted);
  if (model.task === 'sequence-classification') return (run, encoded) => model.answer(run, encoded);
  return undefined;
}

/** Texts' vectors [texts, width] from their tokens' [tokens, width], without padding. */
export function pooled(run: Run, input: Tensor, options: { batch: number; length: number; kind: PoolKind }): Answer {
  const { backend, arena } = run;
  const shape = [options.batch, input.shape[1]];
  const output = arena.tensor('pooled', shape);
  const selected = run.training && options.kind === 'max' ? arena.tensor('pooled positions', shape, 'i32') : undefined;
  backend.pool({ ...options, input, output, selected });
  return {
    output,
    backward(gradOutput) {
      const gradInput = arena.tensor('output gradient', input.shape);
      backend.poolBackward({ ...options, gradOutput, gradInput, input, output, selected });
      return gradInput;
    },
  };
}
