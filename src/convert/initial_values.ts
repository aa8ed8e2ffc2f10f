/** How the feedforward layers of a student start. */
import { exportParameter, importParameter } from '../models/checkpoint.ts';
import { type ModelConfig, neuronsOf } from '../models/config.ts';
import { modelNames } from '../models/names.ts';
import type { Parameter } from '../nn/parameter.ts';
import { hashText, normalValues } from '../nn/random.ts';

/** Of what a feedforward layer of the teacher takes in and gives. */
export interface LayerStatistics {
  /** Of each feature of its input. */
  inputMean: Float64Array;
  inputVariance: Float64Array;
  /** Of each feature of its output, and the variance of an element of it. */
  outputMean: Float64Array;
  outputVariance: number;
}

/** A student under construction. */
export interface Student {
  config: ModelConfig;
  /** By the names of the checkpoint's tensors, without 'bert.'. */
  parameters: ReadonlyMap<string, Parameter>;
  /** Those that are not the teacher's. */
  added: Parameter[];
  seed: number;
}

/** Outputs' deviation at the start, of the teacher's. */
const initialOutput = 0.3;

/** Gives a block's new parameters their initial values; see {@link createStudent}. */
export async function startBlock(block: number, statistics: LayerStatistics, student: Student): Promise<void> {
  const inputMean = await joinMean(block, statistics, student);
  const { config, parameters, added, seed } = student;
  const { hiddenSize: width, family } = config;
  const { up, down, fastFeedforward: trees } = modelNames(family, false).block(block);
  const deviation = (initialOutput * Math.sqrt(statistics.outputVariance)) / Math.sqrt(Math.max(1, neuronsOf(config.feedforward).used));
  const weightsOut = (name: string, neurons: number) => normalValues(neurons * width, deviation, seed, hashText(name));

  const nodes = parameters.get(`${trees}.linear_in.weight`);
  if (nodes) {
    const [, neurons] = nodes.layout.tensors[1].shape;
    const { weights, biases } = neuronsIn(`${trees}.linear_in.weight`, neurons, { ...statistics, inputMean }, seed);
    write(nodes, weights, weightsOut(`${trees}.linear_out.weight`, neurons));
    write(parameters.get(`${trees}.linear_in.bias`) as Parameter, biases);
  }
  const denseLayers = [
    [up, down],
    [`${trees}.dense_in`, `${trees}.dense_out`],
  ];
  for (const [into, out] of denseLayers) {
    const weight = parameters.get(`${into}.weight`);
    if (!weight || !added.includes(weight)) continue;
    const [neurons] = weight.layout.tensors[0].shape;
    const { weights, biases } = neuronsIn(`${into}.weight`, neurons, { ...statistics, inputMean }, seed);
    write(weight, weights);
    const bias = parameters.get(`${into}.bias`);
    if (bias) write(bias, biases);
    write(parameters.get(`${out}.weight`) as Parameter, weightsOut(`${out}.weight`, neurons));
  }
}

/**
 * Lets the mean of the teacher's output join from the start: by the bias of a new dense layer or, as trees have none, in a post-norm block by
 * the norm before them. Returns the mean of what the new layer will take in, which that norm has moved.
 */
async function joinMean(
  block: number,
  { inputMean, outputMean }: LayerStatistics,
  { config, parameters, added }: Student,
): Promise<Float64Array> {
  const { down, norm1, fastFeedforward: trees } = modelNames(config.family, false).block(block);
  for (const dense of [down, `${trees}.dense_out`]) {
    const [weight, bias] = [parameters.get(`${dense}.weight`), parameters.get(`${dense}.bias`)];
    if (!weight || !bias) continue;
    if (added.includes(weight)) {
      write(bias, Float32Array.from(outputMean));
      if (!added.includes(bias)) added.push(bias);
    }
    return inputMean;
  }
  const beta = parameters.get(`${norm1}.bias`);
  if (!beta || config.family === 'crammedBERT') return inputMean;
  const [{ values }] = await exportParameter(beta);
  write(
    beta,
    values.map((value, i) => value + outputMean[i]),
  );
  return inputMean.map((mean, i) => mean + outputMean[i]);
}

/** Neurons whose input varies by about 1 around 0, each feature with an equal say. */
function neuronsIn(name: string, neurons: number, { inputMean, inputVariance }: LayerStatistics, seed: number) {
  const width = inputMean.length;
  const weights = normalValues(neurons * width, 1 / Math.sqrt(width), seed, hashText(name));
  const biases = new Float32Array(neurons);
  for (let neuron = 0; neuron < neurons; neuron++) {
    for (let i = 0; i < width; i++) {
      const at = neuron * width + i;
      weights[at] /= Math.sqrt(inputVariance[i] + 1e-6);
      biases[neuron] -= weights[at] * inputMean[i];
    }
  }
  return { weights, biases };
}

function write(parameter: Parameter, ...values: Float32Array[]): void {
  importParameter(
    parameter,
    parameter.layout.tensors.map(({ name, shape }, i) => ({ name, shape, values: values[i] })),
  );
}
