/** How far a converted model agrees with the one that it was made from. */
import * as v from 'valibot';
import type { PoolKind } from '../backend/operations/pool.ts';
import type { Tensor } from '../backend/tensor.ts';
import { countSchema } from '../io/schemas.ts';
import type { Encoder } from '../models/encoder.ts';
import type { HeadOutput } from '../models/head_output.ts';
import type { Context } from '../nn/parameter.ts';
import { LeafCounts, leafUseSchema, watchLeaves } from '../training/leaf_use.ts';
import { cosine } from '../training/metrics.ts';
import { type AnswerTo, pooled } from './answers.ts';
import { Moments } from './moments.ts';
import type { TextsOfOneLength } from './texts.ts';

export const agreementSchema = v.object({
  /**
   * For each of the student's blocks the share of the variance of the teacher's hidden state that the student's has: 1 - squared error over
   * the squared distances from the features' means (R2). 1 is the same, 0 no more than the mean.
   */
  states: v.array(v.number()),
  /** The same of the texts' vectors, the last hidden states pooled. */
  vectors: v.number(),
  /** The same of the logits, of models that answer with them. */
  logits: v.optional(v.number()),
  /** Mean over the texts of the cosine between both vectors. */
  cosine: v.number(),
  /** How each block's tokens spread over the leaves of its trees; none without trees, nor where a run was saved before this was kept. */
  layers: v.optional(v.array(leafUseSchema), []),
  /** Tokens compared. */
  tokens: countSchema,
});

/** On texts that neither was trained on. */
export type Agreement = v.InferOutput<typeof agreementSchema>;

/**
 * `map`: the teacher's block for each of the student's; `pooling`: how a text's tokens become its vector; `logits`: of models that answer
 * with them; batches without padding. `infer` runs work on scratch memory that is reset before each call.
 */
export async function measureAgreement(
  infer: <Result>(work: (context: Context) => Promise<Result>) => Promise<Result>,
  teacher: Encoder,
  student: Encoder,
  options: { map: readonly number[]; pooling: PoolKind; logits?: { teacher: AnswerTo; student: AnswerTo } },
  batches: readonly TextsOfOneLength[],
): Promise<Agreement> {
  const { map, pooling, logits } = options;
  const { hiddenSize: width, feedforward } = student.config;
  // The hidden states and, last, the vectors.
  const errors = [...map, -1].map(() => new SquaredErrors());
  const logitErrors = new SquaredErrors();
  const counts = new LeafCounts(feedforward);
  let [cosines, texts, tokens] = [0, 0, 0];
  for (const batch of batches) {
    const { expected, found, answers } = await infer(async (context) => {
      const theirs = teacher.forward(context, batch, { hiddenStates: true });
      const [own, leaves] = await watchLeaves(context, (watched) => student.forward(watched, batch, { hiddenStates: true }));
      counts.add(leaves);
      const { batch: count, length } = batch;
      const vectorsOf = (input: Tensor) => pooled(context, input, { batch: count, length, kind: pooling }).output;
      const read = (tensors: readonly Tensor[]) => Promise.all(tensors.map((tensor) => context.device.read(tensor)));
      const rowsOf = async ({ output }: HeadOutput) => ({ values: await context.device.read(output), width: output.shape[1] });
      const wanted = map.map((block) => theirs.hiddenStates[block + 1]);
      return {
        expected: await read([...wanted, vectorsOf(theirs.output)]),
        found: await read([...own.hiddenStates.slice(1), vectorsOf(own.output)]),
        answers: logits && (await Promise.all([logits.teacher(context, theirs, batch), logits.student(context, own, batch)].map(rowsOf))),
      };
    });
    for (const [i, values] of expected.entries()) errors[i].add(values, found[i], width);
    if (answers) logitErrors.add(answers[0].values, answers[1].values, answers[0].width);
    const vector = (values: readonly Float32Array[], text: number) => values[map.length].subarray(text * width, (text + 1) * width);
    for (let text = 0; text < batch.batch; text++) cosines += cosine(vector(expected, text), vector(found, text));
    texts += batch.batch;
    tokens += batch.batch * batch.length;
  }
  const r2 = errors.map((error) => error.r2);
  return {
    states: r2.slice(0, -1),
    vectors: r2[map.length],
    ...(logits && { logits: logitErrors.r2 }),
    cosine: cosines / texts,
    layers: counts.uses,
    tokens,
  };
}

/** Squared errors of rows that come in parts, against the squared distances from the columns' means. */
class SquaredErrors {
  private moments?: Moments;
  private sum = 0;

  add(expected: Float32Array, found: Float32Array, width: number): void {
    this.moments ??= new Moments(width);
    this.moments.add(expected);
    for (let i = 0; i < expected.length; i++) this.sum += (expected[i] - found[i]) ** 2;
  }

  get r2(): number {
    if (!this.moments) return Number.NaN;
    const { rows, variance } = this.moments;
    const distances = rows * variance.reduce((sum, value) => sum + value, 0);
    // Of rows that are all alike there is no more to know than their mean.
    if (distances === 0) return this.sum === 0 ? 1 : 0;
    return 1 - this.sum / distances;
  }
}
