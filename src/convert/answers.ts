/** What a distillation compares beside hidden states. */
import type { PoolKind } from '../backend/operations/pool.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { Model } from '../models/checkpoint.ts';
import type { HeadOutput } from '../models/head_output.ts';
import type { TransformerActivations } from '../models/transformer.ts';
import type { Context } from '../nn/parameter.ts';
import type { TextsOfOneLength } from './texts.ts';

/** A model's answer to texts that its encoder has read. */
export type AnswerTo = (context: Context, encoded: TransformerActivations, texts: TextsOfOneLength) => HeadOutput;

/**
 * The texts' pooled vectors [texts, width] if it is said how they are pooled; else, of a masked language model, the logits
 * [predicted positions, vocabulary], of a classifier those [texts, labels], of an encoder nothing.
 */
export function answerTo(model: Model, pooling?: PoolKind): AnswerTo | undefined {
  if (pooling) return (context, { output }, { batch, length }) => pooled(context, output, { batch, length, kind: pooling });
  if (model.task === 'masked-lm') return (context, encoded, { predicted }) => model.answer(context, encoded, predicted);
  if (model.task === 'sequence-classification') return (context, encoded) => model.answer(context, encoded);
  return undefined;
}

/** Texts' vectors [texts, width] from their tokens' [tokens, width], without padding. */
export function pooled(context: Context, input: Tensor, options: { batch: number; length: number; kind: PoolKind }): HeadOutput {
  const { device, arena } = context;
  const shape = [options.batch, input.shape[1]];
  const output = arena.tensor('pooled', shape);
  const selected = context.training && options.kind === 'max' ? arena.tensor('pooled positions', shape, 'i32') : undefined;
  device.pool({ ...options, input, output, selected });
  return {
    output,
    backward(gradOutput) {
      const gradInput = arena.tensor('output gradient', input.shape);
      device.poolBackward({ ...options, gradOutput, gradInput, input, output, selected });
      return gradInput;
    },
  };
}
