/** How the feedforward layers of a student start. */

import { type ModelConfig, neuronsOf } from '../models/config.ts';
import { familyOf } from '../models/families/families.ts';
import type { Parameter } from '../nn/parameter.ts';
import { exportParameter, importParameter } from '../nn/parameter_arrays.ts';
import { hashText, normalValues } from '../nn/random.ts';
import { type CenteredLayer, foldedBiases, type InputWeights } from './centering.ts';

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
  /** By the names of the checkpoint's tensors, without the encoder's prefix. */
  parameters: ReadonlyMap<string, Parameter>;
  /** Those that are not the teacher's. */
  added: Parameter[];
  seed: number;
}

/** Deviation of logits at the start. 0.3 came further than 1 in the first tenth of a fit, and as far at its end. */
const initialLogit = 0.3;
/** By this the output weights are scaled as if neurons gave 1: with logits as small as these, outputs start at a twentieth of the teacher's deviation. */
const initialOutput = 0.3;

/** Gives a block's new parameters their initial values (see `createStudent`); returns what is to be trained on centered inputs, if all of it has biases. */
export async function startBlock(block: number, statistics: LayerStatistics, student: Student): Promise<CenteredLayer | undefined> {
  const inputMean = await joinMean(block, statistics, student);
  const { config, parameters, added, seed } = student;
  const { hiddenSize: width } = config;
  const { up, down, fastFeedforward: trees } = familyOf(config).names('').block(block);
  const deviation = (initialOutput * Math.sqrt(statistics.outputVariance)) / Math.sqrt(Math.max(1, neuronsOf(config.feedforward).used));
  const weightsOut = (name: string, neurons: number) => normalValues(neurons * width, deviation, seed, hashText(name));

  const layers: { weight: Parameter; bias?: Parameter; values: Float32Array }[] = [];
  const startLayer = (into: string, out: string, weights: { into: Parameter; out?: Parameter }) => {
    const [{ shape }] = weights.into.layout.tensors;
    const neurons = shape[shape.length - 2];
    const [valuesIn, valuesOut] = [weightsIn(`${into}.weight`, neurons, statistics, seed), weightsOut(`${out}.weight`, neurons)];
    if (weights.out) {
      write(weights.into, valuesIn);
      write(weights.out, valuesOut);
    } else write(weights.into, valuesIn, valuesOut);
    layers.push({ weight: weights.into, bias: parameters.get(`${into}.bias`), values: valuesIn });
  };
  const nodes = parameters.get(`${trees}.linear_in.weight`);
  if (nodes) startLayer(`${trees}.linear_in`, `${trees}.linear_out`, { into: nodes });
  const denseLayers = [
    [up, down],
    [`${trees}.dense_in`, `${trees}.dense_out`],
  ];
  for (const [into, out] of denseLayers) {
    const weight = parameters.get(`${into}.weight`);
    if (weight && added.includes(weight)) startLayer(into, out, { into: weight, out: parameters.get(`${out}.weight`) });
  }
  for (const { bias } of layers) if (bias) write(bias, new Float32Array(bias.value.size));
  const weights = layers.filter((layer): layer is InputWeights & typeof layer => layer.bias !== undefined);
  if (weights.length === layers.length) return layers.length > 0 ? { mean: inputMean, weights } : undefined;
  // A layer without biases cannot be trained around another origin, nor one beside it.
  for (const { bias, values } of weights) write(bias, foldedBiases(values, new Float32Array(bias.value.size), inputMean));
  return undefined;
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
  const { down, norm1, fastFeedforward: trees } = familyOf(config).names('').block(block);
  for (const dense of [down, `${trees}.dense_out`]) {
    const [weight, bias] = [parameters.get(`${dense}.weight`), parameters.get(`${dense}.bias`)];
    if (!weight || !bias) continue;
    if (added.includes(weight)) write(bias, Float32Array.from(outputMean));
    return inputMean;
  }
  const beta = parameters.get(`${norm1}.bias`);
  if (!beta || familyOf(config).normPlacement === 'pre') return inputMean;
  const [{ values }] = await exportParameter(beta);
  write(
    beta,
    values.map((value, i) => value + outputMean[i]),
  );
  return inputMean.map((mean, i) => mean + outputMean[i]);
}

/** Neurons whose logits vary around 0, by about `initialLogit`. */
function weightsIn(name: string, neurons: number, { inputVariance: variance }: LayerStatistics, seed: number): Float32Array {
  const width = variance.length;
  const deviation = initialLogit / Math.sqrt(variance.reduce((sum, value) => sum + value, 1e-6));
  return normalValues(neurons * width, deviation, seed, hashText(name));
}

function write(parameter: Parameter, ...values: Float32Array[]): void {
  importParameter(
    parameter,
    parameter.layout.tensors.map(({ name, shape }, i) => ({ name, shape, values: values[i] })),
  );
}
