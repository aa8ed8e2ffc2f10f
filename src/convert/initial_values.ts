/** How the feedforward layers of a student start. */

import { type ModelConfig, neuronsOf } from '../models/config.ts';
import { familyOf, withoutPrefix } from '../models/families/families.ts';
import type { Block } from '../nn/block.ts';
import { DenseFeedforward } from '../nn/dense_feedforward.ts';
import { FastFeedforward } from '../nn/fast_feedforward.ts';
import { ParallelFeedforward } from '../nn/parallel_feedforward.ts';
import type { Parameter, StoredTensor } from '../nn/parameter.ts';
import { exportParameter, importParameter } from '../nn/parameter_arrays.ts';
import { hashText, normalValues } from '../nn/random.ts';
import { CenteredFeedforward, foldedBiases, type InputWeights } from './centered_feedforward.ts';

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
  /** Of its parameters, those that are not the teacher's. */
  added: readonly Parameter[];
  seed: number;
}

/** Deviation of logits at the start. 0.3 came further than 1 in the first tenth of a fit, and as far at its end. */
const initialLogit = 0.3;
/** By this the output weights are scaled as if neurons gave 1: with logits as small as these, outputs start at a twentieth of the teacher's deviation. */
const initialOutput = 0.3;

/** The trees of a block, and the dense layer, if it has them. */
function layersOf({ layers: { feedforward } }: Block): { trees?: FastFeedforward; dense?: DenseFeedforward } {
  if (feedforward instanceof ParallelFeedforward) return { trees: feedforward.trees, dense: feedforward.alwaysOn };
  if (feedforward instanceof FastFeedforward) return { trees: feedforward };
  return feedforward instanceof DenseFeedforward ? { dense: feedforward } : {};
}

/**
 * Gives a block's new parameters their initial values (see `createStudent`); returns what is to be put around its feedforward layer to
 * train that on centered inputs, if all of it has biases.
 */
export async function startBlock(block: Block, statistics: LayerStatistics, student: Student): Promise<CenteredFeedforward | undefined> {
  const inputMean = await joinMean(block, statistics, student);
  const { config, added, seed } = student;
  const { hiddenSize: width } = config;
  const { trees, dense } = layersOf(block);
  const deviation = (initialOutput * Math.sqrt(statistics.outputVariance)) / Math.sqrt(Math.max(1, neuronsOf(config.feedforward).used));
  // The checkpoint's name of a tensor, which a prefix does not change, picks its random values, as in ParameterFactory: a seed gives the
  // same weights whatever else the model has. Naming tensors by structure would change what every seed gives.
  const hashOf = ({ name }: StoredTensor) => hashText(withoutPrefix(name, familyOf(config)));

  const started: { weight: Parameter; bias?: Parameter; values: Float32Array }[] = [];
  const start = (weight: Parameter, bias: Parameter | undefined, weightOut = weight) => {
    const [into] = weight.layout.tensors;
    const [out] = weightOut.layout.tensors.slice(-1);
    const [neurons] = into.shape;
    const [valuesIn, valuesOut] = [
      weightsIn(neurons, statistics, seed, hashOf(into)),
      normalValues(neurons * width, deviation, seed, hashOf(out)),
    ];
    if (weightOut === weight) write(weight, valuesIn, valuesOut);
    else {
      write(weight, valuesIn);
      write(weightOut, valuesOut);
    }
    if (bias) write(bias, new Float32Array(bias.value.size));
    started.push({ weight, bias, values: valuesIn });
  };
  if (trees) start(trees.nodes, trees.bias);
  if (dense && added.includes(dense.up.weight)) start(dense.up.weight, dense.up.bias, dense.down.weight);
  const weights = started.filter((layer): layer is InputWeights & typeof layer => layer.bias !== undefined);
  const { feedforward } = block.layers;
  if (feedforward && weights.length === started.length)
    return started.length > 0 ? new CenteredFeedforward(feedforward, inputMean, weights) : undefined;
  // A layer without biases cannot be trained around another origin, nor one beside it.
  for (const { bias, values } of weights) write(bias, foldedBiases(values, new Float32Array(bias.value.size), inputMean));
  return undefined;
}

/**
 * Lets the mean of the teacher's output join from the start: by the bias of a new dense layer or, as trees have none, in a post-norm block by
 * the norm before them. Returns the mean of what the new layer will take in, which that norm has moved.
 */
async function joinMean(block: Block, { inputMean, outputMean }: LayerStatistics, { added }: Student): Promise<Float64Array> {
  const { dense } = layersOf(block);
  if (dense?.down.bias) {
    if (added.includes(dense.down.weight)) write(dense.down.bias, Float32Array.from(outputMean));
    return inputMean;
  }
  const { beta } = block.layers.norm1;
  if (block.placement === 'pre' || !beta) return inputMean;
  const [{ values }] = await exportParameter(beta);
  write(
    beta,
    values.map((value, i) => value + outputMean[i]),
  );
  return inputMean.map((mean, i) => mean + outputMean[i]);
}

/** Neurons whose logits vary around 0, by about `initialLogit`. */
function weightsIn(neurons: number, { inputVariance: variance }: LayerStatistics, seed: number, stream: number): Float32Array {
  const width = variance.length;
  const deviation = initialLogit / Math.sqrt(variance.reduce((sum, value) => sum + value, 1e-6));
  return normalValues(neurons * width, deviation, seed, stream);
}

function write(parameter: Parameter, ...values: Float32Array[]): void {
  importParameter(
    parameter,
    parameter.layout.tensors.map(({ name, shape }, i) => ({ name, shape, values: values[i] })),
  );
}
