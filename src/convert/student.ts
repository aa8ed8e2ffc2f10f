/** The network that is trained to answer as another does: the same but for its feedforward layers, or with fewer blocks. */
import type { Device } from '../backend/device.ts';
import { createModel, encoderOf, type Model } from '../models/checkpoint.ts';
import type { FeedforwardConfig, ModelConfig } from '../models/config.ts';
import type { Encoder } from '../models/encoder.ts';
import { familyOf } from '../models/families/families.ts';
import { Session } from '../models/session.ts';
import { DenseFeedforward } from '../nn/dense_feedforward.ts';
import type { Parameter } from '../nn/parameter.ts';
import { mean } from '../training/statistics.ts';
import type { AnswerTo } from './answers.ts';
import type { CenteredFeedforward } from './centered_feedforward.ts';
import { Centering } from './centering.ts';
import { type LayerStatistics, startBlock } from './initial_values.ts';
import { Moments } from './moments.ts';
import type { TextsOfOneLength } from './texts.ts';

/** What the teacher's feedforward layers take in and give, and how far its hidden states vary: by these the student's start is scaled. */
export interface TeacherStatistics {
  blocks: LayerStatistics[];
  /** Of each hidden state, the embedding's output first: mean over the features of their variances. */
  stateVariance: number[];
  /** The same of what it answers; 0 if it does not. */
  answerVariance: number;
}

/** Measures a teacher (not prepared, for it has to keep what lies between) on some text. */
export async function measureTeacher(
  teacher: Encoder,
  batches: readonly TextsOfOneLength[],
  answerTo?: AnswerTo,
): Promise<TeacherStatistics> {
  const { numHiddenLayers: layers, hiddenSize: width } = teacher.config;
  const { device } = teacher.parameters[0].value;
  using session = new Session(device);
  const moments = () => new Moments(width);
  const [inputs, outputs] = [0, 1].map(() => Array.from({ length: layers }, moments));
  const states = Array.from({ length: layers + 1 }, moments);
  let answers: Moments | undefined;
  for (const batch of batches)
    await session.pass(async ({ device, arena }) => {
      const context = { device, arena, training: true }; // what lies between is kept
      const activations = teacher.forward(context, batch);
      const { hiddenStates, blocks } = activations;
      const answer = answerTo?.(context, activations, batch).output;
      if (answer) {
        answers ??= new Moments(answer.shape[1]);
        answers.add(await device.read(answer));
      }
      for (const [i, state] of hiddenStates.entries()) states[i].add(await device.read(state));
      for (const [i, { norm1, norm2, output }] of blocks.entries()) {
        if (!norm2) throw new Error('the teacher has no feedforward layers');
        // What joins the stream is what the stream is after it, less what it was before.
        const [input, before, after] =
          teacher.blocks[i].placement === 'pre' ? [norm2.output, norm2.input, output] : [norm1.output, norm1.output, norm2.input];
        inputs[i].add(await device.read(input));
        const without = await device.read(before);
        outputs[i].add((await device.read(after)).map((value, at) => value - without[at]));
      }
    });
  return {
    blocks: inputs.map((input, i) => ({
      inputMean: input.mean,
      inputVariance: input.variance,
      outputMean: outputs[i].mean,
      outputVariance: mean(outputs[i].variance),
    })),
    stateVariance: states.map(({ variance }) => mean(variance)),
    answerVariance: answers ? mean(answers.variance) : 0,
  };
}

/** Which of the teacher's blocks each of a student's `layers` stands for: evenly spread, the last one always among them. */
export function blockMap(teacherLayers: number, layers: number): number[] {
  return Array.from({ length: layers }, (_, block) => Math.round(((block + 1) * teacherLayers) / layers) - 1);
}

/** The configuration of a student with other feedforward layers, or fewer blocks. */
export function studentConfig(teacher: ModelConfig, options: { feedforward: FeedforwardConfig; layers: number }): ModelConfig {
  const { feedforward, layers } = options;
  const { dense, trees } = familyOf(teacher).modelTypes;
  return { ...teacher, family: feedforward.kind === 'dense' ? dense : trees, feedforward, numHiddenLayers: layers };
}

/**
 * A student: what it has in common with the teacher is copied, its feedforward layers start at random, scaled by `statistics` of the teacher's blocks so that
 * logits vary around 0 (every split begins even) and outputs are small. The mean of the teacher's layer joins
 * from the start: by the bias of a dense layer, or, as trees have none, by the norm before it (post-norm only).
 * @returns the model, the parameters that are new, and what folds the model, whose new layers are to be trained on centered inputs, into the plain one
 */
export async function createStudent(
  teacher: Model,
  statistics: readonly LayerStatistics[],
  options: { feedforward: FeedforwardConfig; layers: number; seed: number; device: Device },
): Promise<{ model: Model; added: Parameter[]; centering: Centering }> {
  const { seed, device, layers } = options;
  const config = studentConfig(teacher.config, options);
  const model = createModel(teacher.task, config, device, seed);
  const map = blockMap(teacher.config.numHiddenLayers, layers);
  const originals = counterparts(teacher, model, map);
  const added: Parameter[] = [];
  for (const parameter of model.parameters) {
    const { value } = parameter;
    const original = originals.get(parameter)?.value;
    if (original && `${original.shape}` === `${value.shape}`) device.write(value, await device.read(original));
    else added.push(parameter);
  }
  const { blocks } = encoderOf(model);
  const centered: (CenteredFeedforward | undefined)[] = [];
  for (const [i, source] of map.entries()) centered.push(await startBlock(blocks[i], statistics[source], { config, added, seed }));
  return { model, added, centering: new Centering(encoderOf(model), centered) };
}

/** For each of the student's parameters that its teacher has as well, the teacher's: of the block that a block stands for, of the layer of the same place. */
function counterparts(teacher: Model, student: Model, map: readonly number[]): Map<Parameter, Parameter> {
  const pairs = new Map<Parameter, Parameter>();
  const pair = (own: readonly Parameter[] = [], theirs: readonly Parameter[] = []) =>
    own.forEach((parameter, i) => {
      if (theirs[i]) pairs.set(parameter, theirs[i]);
    });
  const [mine, original] = [encoderOf(student), encoderOf(teacher)];
  pair(mine.embedding.parameters, original.embedding.parameters);
  for (const [i, source] of map.entries()) {
    const [own, theirs] = [mine.blocks[i].layers, original.blocks[source].layers];
    pair(own.attention.parameters, theirs.attention.parameters);
    pair(own.norm1.parameters, theirs.norm1.parameters);
    pair(own.norm2?.parameters, theirs.norm2?.parameters);
    if (own.feedforward instanceof DenseFeedforward) pair(own.feedforward.parameters, theirs.feedforward?.parameters);
  }
  pair(mine.finalNorm?.parameters, original.finalNorm?.parameters);
  const [head, theirHead] = [student, teacher].map((model) => headParameters(model));
  pair(head, theirHead);
  return pairs;
}

/** What comes after the encoder. */
function headParameters(model: Model): Parameter[] {
  const ofEncoder = new Set(encoderOf(model).parameters);
  return model.parameters.filter((parameter) => !ofEncoder.has(parameter));
}
