import type { Device } from '../backend/device.ts';
import type { Precision } from '../backend/prepared_weight.ts';
import { ReferenceDevice } from '../backend/reference.ts';
import { InputError } from '../errors.ts';
import { encoderOf, loadModel } from '../models/checkpoint.ts';
import { crammedBertConfig, describeFeedforward, type FeedforwardConfig, type ModelConfig } from '../models/config.ts';
import { Encoder } from '../models/encoder.ts';
import { ParameterFactory } from '../models/parameter_factory.ts';
import { Session } from '../models/session.ts';
import { DenseFeedforward } from '../nn/dense_feedforward.ts';
import type { Norm } from '../nn/layer_norm.ts';
import type { Linear } from '../nn/linear.ts';
import type { Parameter } from '../nn/parameter.ts';
import { exportParameter } from '../nn/parameter_arrays.ts';
import { type Contestant, contest } from './contest.ts';
import { type BlockWeights, concatenate, type EncoderShape, encoderGraph } from './onnx_graphs.ts';
import type { OnnxRuntime } from './peers.ts';
import type { Timing } from './timing.ts';
import { checkFinite } from './work.ts';

export interface ModelBenchmarkOptions {
  /** Of BERT's form. Its feedforward part is one of the two that are compared. */
  config: ModelConfig;
  /** A checkpoint's folder whose weights and configuration are these; random weights without it. */
  model?: string;
  /** The other feedforward part, whose weights are random. */
  other: FeedforwardConfig;
  /** Tokens a sequence. */
  length: number;
  /** Sequences a call. */
  batches: readonly number[];
  dtypes: readonly Precision[];
  rounds: number;
  roundMilliseconds: number;
  onnxRuntime?: OnnxRuntime;
}

export interface ModelRow {
  name: string;
  dtype: Precision;
  batch: number;
  milliseconds: Timing;
  /**
   * Difference of a measured call's output from the same weights' in f32, root of mean squares over that of the output: dense from our dense
   * encoder's, trees from the reference backend's, the first sequences alone.
   */
  relativeError: number;
}

/** The reference backend takes seconds for each. */
const checkedSequences = 2;

/**
 * Times a whole encoder of BERT's form (post-norm, biases, learned positions): ours with fast feedforward trees and with dense layers,
 * onnxruntime's dense with the same weights. Ours begin at token ids; onnxruntime at the embedding's output.
 * @throws InputError if the model cannot be read
 */
export async function benchmarkModel(device: Device, options: ModelBenchmarkOptions): Promise<ModelRow[]> {
  const { length, onnxRuntime, dtypes, config, other } = options;
  const rows: ModelRow[] = [];
  const [dense, trees] = config.feedforward.kind === 'dense' ? [config.feedforward, other] : [other, config.feedforward];
  if (dense.kind !== 'dense' || trees.kind !== 'fff')
    throw new InputError(`${options.model ?? 'the model'} has no feedforward layers to measure, expected trees or dense ones`);
  using session = new Session(device);
  const ids = (batch: number, seed: number) =>
    Int32Array.from({ length: batch * length }, (_, i) => (i * 7919 + seed * 104729) % config.vocabSize);
  const encoderWith = (feedforward: FeedforwardConfig, dtype?: Precision, on = device) =>
    options.model !== undefined && feedforward === config.feedforward
      ? loadEncoder(options.model, on, dtype)
      : createEncoder(formOf(config, feedforward), on, dtype);
  const referenceOutput = async (feedforward: FeedforwardConfig) => {
    using reference = new ReferenceDevice();
    using encoder = await encoderWith(feedforward, undefined, reference);
    using session = new Session(reference);
    const batch = Math.min(checkedSequences, Math.max(...options.batches));
    return await session.pass((context) => reference.read(encoder.forward(context, { batch, length, ids: ids(batch, 0) }).output));
  };
  const expectedOfTrees = await referenceOutput(trees);
  // What the others are compared with, and the weights that they get.
  using plain = await encoderWith(dense);
  const weights = onnxRuntime && (await weightsOf(plain));
  const encoders: { name: string; dtype: Precision; encoder: Encoder; isDense: boolean }[] = [];
  for (const dtype of dtypes) {
    encoders.push({ name: `ours ${describeFeedforward(trees)}`, dtype, isDense: false, encoder: await encoderWith(trees, dtype) });
    encoders.push({ name: `ours dense-${dense.neurons}`, dtype, isDense: true, encoder: await encoderWith(dense, dtype) });
  }
  const precisions = (['f32', 'i8'] as const).filter((precision) => dtypes.includes(precision));
  try {
    for (const batch of options.batches) {
      const [embedded, expectedOfDense] = await session.pass(async (context) => {
        const { hiddenStates, output } = plain.forward(context, { batch, length, ids: ids(batch, 0) }, { hiddenStates: true });
        return [await device.read(hiddenStates[0]), await device.read(output)];
      });
      const contestants: {
        name: string;
        dtype: Precision;
        contestant: Contestant;
        output: () => Promise<Float32Array>;
        expected: Float32Array;
        release?: () => Promise<void>;
      }[] = [];
      for (const { name, dtype, encoder, isDense } of encoders) {
        let call = 0;
        const forward = (seed: number) =>
          session.pass((context) => device.read(encoder.forward(context, { batch, length, ids: ids(batch, seed) }).output));
        const contestant: Contestant = {
          async run(times) {
            for (let i = 0; i < times; i++) await forward(++call);
          },
        };
        const expected = isDense ? expectedOfDense : expectedOfTrees;
        contestants.push({ name, dtype, contestant, output: () => forward(0), expected });
      }
      for (const precision of weights && onnxRuntime ? precisions : []) {
        const session = await (onnxRuntime as OnnxRuntime).session(
          encoderGraph({ ...shapeOf(config), neurons: dense.neurons }, precision, weights as BlockWeights[]),
          device.threads,
        );
        const call = () => session.run({ x: { values: embedded, shape: [batch, length, config.hiddenSize] } });
        const contestant: Contestant = {
          async run(times) {
            for (let i = 0; i < times; i++) await call();
          },
          rest: session.rest,
        };
        contestants.push({
          name: `${(onnxRuntime as OnnxRuntime).name} dense-${dense.neurons}`,
          dtype: precision,
          contestant,
          output: call,
          expected: expectedOfDense,
          release: session.release,
        });
      }
      const timings = await contest(
        contestants.map(({ contestant }) => contestant),
        options,
      );
      for (const [i, { name, dtype, output, expected, release }] of contestants.entries()) {
        const error = relativeError(`${name} ${dtype}`, await output(), expected);
        rows.push({ name, dtype, batch, milliseconds: timings[i], relativeError: error });
        await release?.();
      }
    }
  } finally {
    for (const { encoder } of encoders) encoder.dispose();
  }
  return rows;
}

/** A configuration for {@link benchmarkModel} of random weights. */
export function benchmarkConfig(shape: EncoderShape & { length: number }): ModelConfig {
  const { layers, width, heads, neurons, length } = shape;
  return crammedBertConfig({
    family: 'bert',
    vocabSize: 1000,
    hiddenSize: width,
    numHiddenLayers: layers,
    numAttentionHeads: heads,
    maxPositionEmbeddings: length,
    typeVocabSize: 2,
    bias: { queryKeyValue: true, dense: true },
    feedforward: { kind: 'dense', neurons },
  });
}

const formOf = (config: ModelConfig, feedforward: FeedforwardConfig): ModelConfig => ({
  ...config,
  family: feedforward.kind === 'dense' ? 'bert' : 'ultrafastbert',
  feedforward,
});

const shapeOf = ({ hiddenSize: width, numAttentionHeads: heads, layerNormEps: normEpsilon }: ModelConfig) => ({
  width,
  heads,
  normEpsilon,
});

async function loadEncoder(folder: string, device: Device, dtype?: Precision): Promise<Encoder> {
  const model = await loadModel(folder, device, { dtype });
  const encoder = encoderOf(model);
  for (const parameter of model.parameters) if (!encoder.parameters.includes(parameter)) parameter.dispose();
  return encoder;
}

/** Random weights, the same each time. */
function createEncoder(config: ModelConfig, device: Device, dtype?: Precision): Encoder {
  const factory = new ParameterFactory(device);
  const encoder = new Encoder(config, factory);
  for (const parameter of factory.parameters) {
    factory.initialize(parameter, 1);
    if (dtype) parameter.prepare(dtype);
  }
  return encoder;
}

async function weightsOf(encoder: Encoder): Promise<BlockWeights[]> {
  const read = async (parameter: Parameter) => concatenate((await exportParameter(parameter)).map(({ values }) => values));
  const affine = async (weight: Parameter, bias?: Parameter) => {
    if (!bias) throw new Error('a linear layer has no bias');
    return { weight: await read(weight), bias: await read(bias) };
  };
  const linear = ({ weight, bias }: Linear) => affine(weight, bias);
  const norm = ({ gamma, beta }: Norm) => affine(gamma, beta);
  const blocks: BlockWeights[] = [];
  for (const { layers } of encoder.blocks) {
    const { attention, norm1, feedforward, norm2 } = layers;
    if (!(feedforward instanceof DenseFeedforward) || !norm2) throw new Error('the encoder has no dense feedforward layers');
    blocks.push({
      queryKeyValue: await linear(attention.queryKeyValue),
      attentionDense: await linear(attention.dense),
      norm1: await norm(norm1),
      up: await linear(feedforward.up),
      down: await linear(feedforward.down),
      norm2: await norm(norm2),
    });
  }
  return blocks;
}

/** Of what both have, from the start. */
function relativeError(name: string, output: Float32Array, expected: Float32Array): number {
  checkFinite(name, output);
  let [differences, squares] = [0, 0];
  for (let i = 0; i < Math.min(output.length, expected.length); i++) {
    differences += (output[i] - expected[i]) ** 2;
    squares += expected[i] ** 2;
  }
  return Math.sqrt(differences / squares);
}
