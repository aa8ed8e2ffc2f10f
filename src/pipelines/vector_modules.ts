/** What sentence-transformers does to a text's vector behind the pooling: dense layers, norms, scaling. */
import * as v from 'valibot';
import { joinPath } from '#platform';
import { normalDistribution } from '../backend/reference/gelu.ts';
import { InputError, quoted } from '../errors.ts';
import { kindOf } from '../io/files.ts';
import { pickledError, pickledWeights } from '../io/model_files.ts';
import { readSafetensors, type SafetensorsFile } from '../io/safetensors.ts';

/** A module as its folder describes it. */
export type VectorModule =
  | { kind: 'normalize' }
  | { kind: 'layerNorm'; folder: string }
  | { kind: 'dense'; folder: string; inputs: number; outputs: number; bias: boolean; residual: boolean; activation: Activation };

/** Changes a vector into the next one. */
export type VectorStep = (vector: Float32Array) => Float32Array;

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const softplus = (x: number) => (x > 20 ? x : Math.log1p(Math.exp(x)));
const clamp = (x: number, least: number, most: number) => Math.min(Math.max(x, least), most);
/** SELU's two constants. */
const [seluScale, seluAlpha] = [1.0507009873554805, 1.6732632423543772];
/** All of torch.nn that need be told nothing; Softmax, Softmin and LogSoftmax are of all values together. */
const activations = {
  Identity: (x: number) => x,
  Tanh: Math.tanh,
  Sigmoid: sigmoid,
  ReLU: (x: number) => Math.max(x, 0),
  ReLU6: (x: number) => clamp(x, 0, 6),
  /** Of a dense layer: with the slope that it has learnt. */
  PReLU: (x: number) => (x < 0 ? 0.25 * x : x),
  /** In training its slope is drawn from 1/8 to 1/3. */
  RReLU: (x: number) => (x < 0 ? (x * (1 / 8 + 1 / 3)) / 2 : x),
  LeakyReLU: (x: number) => (x < 0 ? 0.01 * x : x),
  GELU: (x: number) => x * normalDistribution(x),
  SiLU: (x: number) => x * sigmoid(x),
  Mish: (x: number) => x * Math.tanh(softplus(x)),
  ELU: (x: number) => (x < 0 ? Math.expm1(x) : x),
  CELU: (x: number) => (x < 0 ? Math.expm1(x) : x),
  SELU: (x: number) => seluScale * (x < 0 ? seluAlpha * Math.expm1(x) : x),
  Softplus: softplus,
  Softsign: (x: number) => x / (1 + Math.abs(x)),
  LogSigmoid: (x: number) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x))),
  Hardtanh: (x: number) => clamp(x, -1, 1),
  Hardsigmoid: (x: number) => clamp(x / 6 + 0.5, 0, 1),
  Hardswish: (x: number) => x * clamp(x / 6 + 0.5, 0, 1),
  Tanhshrink: (x: number) => x - Math.tanh(x),
  Softshrink: (x: number) => x - clamp(x, -0.5, 0.5),
  Hardshrink: (x: number) => (Math.abs(x) > 0.5 ? x : 0),
  Softmax: undefined,
  Softmin: undefined,
  LogSoftmax: undefined,
};
/** A class of torch.nn, by its own name. */
export type Activation = keyof typeof activations;

const widest = 2 ** 16;
const width = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(widest));
/** The vectors that a module changes: of the tokens, or the one that the pooling gives. */
const vectors = v.nullish(
  v.picklist(['sentence_embedding', 'token_embeddings'], '"sentence_embedding", what the pooling gives, or "token_embeddings"'),
);
const places = { module_input_name: vectors, module_output_name: vectors };
export const denseSchema = v.looseObject({
  in_features: width,
  out_features: width,
  bias: v.nullish(v.boolean(), true),
  activation_function: v.nullish(v.string()),
  use_residual: v.nullish(v.boolean(), false),
  ...places,
});
export const normalizeSchema = v.looseObject(places);

/**
 * Whether a module changes the vectors of the tokens, by its config.json, which `source` names.
 * @throws InputError if it makes one of the other
 */
export function isOfTokens(
  { module_input_name: from, module_output_name: to }: { module_input_name?: string | null; module_output_name?: string | null },
  source: string,
): boolean {
  const input = from ?? 'sentence_embedding';
  if ((to ?? input) !== input)
    throw new InputError(`${source}: 'module_output_name' is ${quoted(to)}, expected ${quoted(input)}, as 'module_input_name' is`);
  return input === 'token_embeddings';
}

/**
 * The activation that a dotted name of Python says; undefined if it is none of torch, which sentence-transformers takes for none named.
 * @throws InputError if it is another one of torch; `source` names the file.
 */
export function activationOf(name: string, source: string): Activation | undefined {
  if (!name.startsWith('torch.')) return undefined;
  const own = name.split('.').at(-1) as string;
  if (Object.hasOwn(activations, own)) return own as Activation;
  throw new InputError(
    `${source}: the activation ${quoted(name)} is not supported, expected one of ${Object.keys(activations).join(', ')}`,
  );
}

export function activate(activation: Activation, values: Float32Array): Float32Array {
  const each = activations[activation];
  if (each) return values.map(each);
  const signed = activation === 'Softmin' ? values.map((value) => -value) : values;
  const largest = signed.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const powers = Array.from(signed, (value) => Math.exp(value - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  if (activation === 'LogSoftmax') return signed.map((value) => value - largest - Math.log(sum));
  return Float32Array.from(powers, (power) => power / sum);
}

/**
 * Reads a module's weights. `inputs`: numbers of the vector that comes in.
 * @throws InputError naming the file if they are missing, damaged or of another shape
 */
export async function openVectorModule(module: VectorModule, inputs: number): Promise<VectorStep> {
  if (module.kind === 'normalize') return normalized;
  const { folder } = module;
  const path = joinPath(folder, 'model.safetensors');
  if ((await kindOf(path)) === 'missing') {
    if ((await kindOf(joinPath(folder, pickledWeights))) === 'file') throw pickledError(folder, folder);
    // Of a model of the hub the file is not here that would tell.
    throw new InputError(
      `${folder}: lacks model.safetensors, the weights of this module; models whose modules have them in ${pickledWeights} alone, which can run code when it is opened, are not downloaded: save such a model anew with sentence-transformers, which writes model.safetensors`,
    );
  }
  await using file = await readSafetensors(path);
  if (module.kind === 'layerNorm') {
    const [weight, bias] = [await read(file, 'norm.weight', [inputs]), await read(file, 'norm.bias', [inputs])];
    return (vector) => layerNorm(vector, weight, bias);
  }
  const { outputs, activation, residual } = module;
  if (module.inputs !== inputs)
    throw new InputError(`${joinPath(folder, 'config.json')}: 'in_features' is ${module.inputs}, expected ${inputs}, as many as come in`);
  const weight = await read(file, 'linear.weight', [outputs, inputs]);
  const bias = module.bias ? await read(file, 'linear.bias', [outputs]) : undefined;
  const around = residual && inputs !== outputs ? await read(file, 'residual.weight', [outputs, inputs]) : undefined;
  const slope = activation === 'PReLU' ? (await read(file, 'activation_function.weight', [1]))[0] : undefined;
  const activated = (values: Float32Array) =>
    slope === undefined ? activate(activation, values) : values.map((value) => (value < 0 ? slope * value : value));
  return (vector) => {
    const output = activated(linear(vector, weight, bias));
    if (!residual) return output;
    const added = around ? linear(vector, around) : vector;
    return output.map((value, i) => value + added[i]);
  };
}

async function read(file: SafetensorsFile, name: string, shape: readonly number[]): Promise<Float32Array> {
  if (!file.has(name)) throw new InputError(`${file.source}: lacks the tensor '${name}' [${shape}]`);
  const found = file.info(name).shape;
  if (`${found}` !== `${shape}`) throw new InputError(`${file.source}: tensor '${name}' is [${found}], expected [${shape}]`);
  return await file.read(name);
}

/** weight [outputs, inputs]. Sums are in double precision. */
function linear(vector: Float32Array, weight: Float32Array, bias?: Float32Array): Float32Array {
  const inputs = vector.length;
  return Float32Array.from({ length: weight.length / inputs }, (_, row) => {
    let sum = bias?.[row] ?? 0;
    for (let i = 0, at = row * inputs; i < inputs; i++, at++) sum += weight[at] * vector[i];
    return sum;
  });
}

/** torch.nn.LayerNorm with its own epsilon. */
function layerNorm(vector: Float32Array, weight: Float32Array, bias: Float32Array): Float32Array {
  const mean = vector.reduce((sum, value) => sum + value, 0) / vector.length;
  const variance = vector.reduce((sum, value) => sum + (value - mean) ** 2, 0) / vector.length;
  const scale = 1 / Math.sqrt(variance + 1e-5);
  return vector.map((value, i) => (value - mean) * scale * weight[i] + bias[i]);
}

/** Of length 1; what is all zeros stays so. */
export function normalized(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  return length > 0 ? vector.map((value) => value / length) : vector;
}
