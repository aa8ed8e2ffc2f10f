/** The network that is trained to answer as another does: the same but for its feedforward layers, or with fewer blocks. */
import { Arena } from '../backend/arena.ts';
import type { Device } from '../backend/device.ts';
import { createModel, encoderOf, type Model } from '../models/checkpoint.ts';
import type { FeedforwardConfig, ModelConfig } from '../models/config.ts';
import type { Encoder } from '../models/encoder.ts';
import { familyOf, withoutPrefix } from '../models/families/families.ts';
import type { NamedArray, Parameter } from '../nn/parameter.ts';
import { exportParameter, importParameter } from '../nn/parameter_arrays.ts';
import { mean } from '../training/statistics.ts';
import type { AnswerTo } from './answers.ts';
import { type CenteredLayer, Centering } from './centering.ts';
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
  using arena = new Arena(device);
  const moments = () => new Moments(width);
  const [inputs, outputs] = [0, 1].map(() => Array.from({ length: layers }, moments));
  const states = Array.from({ length: layers + 1 }, moments);
  let answers: Moments | undefined;
  for (const batch of batches) {
    arena.reset();
    const run = { device, arena, training: true };
    const activations = teacher.forward(run, batch);
    const { hiddenStates, blocks } = activations;
    const answer = answerTo?.(run, activations, batch).output;
    if (answer) {
      answers ??= new Moments(answer.shape[1]);
      answers.add(await device.read(answer));
    }
    for (const [i, state] of hiddenStates.entries()) states[i].add(await device.read(state));
    for (const [i, { norm1, norm2, output }] of blocks.entries()) {
      if (!norm2) throw new Error('the teacher has no feedforward layers');
      // What joins the stream is what the stream is after it, less what it was before.
      const [input, before, after] =
        familyOf(teacher.config).normPlacement === 'pre' ? [norm2.output, norm2.input, output] : [norm1.output, norm1.output, norm2.input];
      inputs[i].add(await device.read(input));
      const without = await device.read(before);
      outputs[i].add((await device.read(after)).map((value, at) => value - without[at]));
    }
  }
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
  const bare = (name: string) => withoutPrefix(name, familyOf(config));
  const known = new Map<string, NamedArray>();
  for (const parameter of teacher.parameters) for (const array of await exportParameter(parameter)) known.set(bare(array.name), array);
  const added: Parameter[] = [];
  for (const parameter of model.parameters) {
    const arrays = parameter.layout.tensors.map(({ name, shape }) => {
      const source = known.get(ofTeacher(bare(name), map));
      return source && `${source.shape}` === `${shape}` ? { ...source, name } : undefined;
    });
    if (arrays.every((array) => array !== undefined)) importParameter(parameter, arrays);
    else added.push(parameter);
  }
  const parameters = new Map(model.parameters.flatMap((parameter) => parameter.layout.tensors.map(({ name }) => [bare(name), parameter])));
  const centered: (CenteredLayer | undefined)[] = [];
  for (const [block, source] of map.entries())
    centered.push(await startBlock(block, statistics[source], { config, parameters, added, seed }));
  return { model, added, centering: new Centering(encoderOf(model), centered) };
}

/** Of a parameter of the student, what the teacher calls its own: names of a block's have its number. */
const ofTeacher = (name: string, map: readonly number[]) =>
  name.replace(/^((?:encoder|transformer)\.layers?\.)(\d+)\./, (_, before, block) => `${before}${map[Number(block)]}.`);
