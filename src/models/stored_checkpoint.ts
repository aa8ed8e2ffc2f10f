/** A checkpoint folder as it is read: which tensors its file has, and what they must be. */
import { joinPath } from '#platform';
import type { Backend } from '../backend/backend.ts';
import { InputError } from '../errors.ts';
import { readJson } from '../io/files.ts';
import { openWeights } from '../io/model_folder.ts';
import type { SafetensorsFile } from '../io/safetensors.ts';
import type { Parameter, ParameterLayout } from '../nn/parameter.ts';
import type { ModelConfig } from './config.ts';
import { parseConfig } from './config_json.ts';
import { type ModelNames, modelNames } from './names.ts';
import { readParameters } from './read_parameters.ts';

/** crammedBERT's buffers: 1 / sqrt(head size) for every block. */
export function normFactors(config: ModelConfig): { name: string; value: number }[] {
  const names = modelNames(config.family);
  return Array.from({ length: config.layers }, (_, index) => names.block(index).normFactor)
    .filter((name) => name !== undefined)
    .map((name) => ({ name, value: 1 / Math.sqrt(config.hiddenSize / config.heads) }));
}

/** A checkpoint folder, its configuration read and its tensors ready to be read. */
export class Checkpoint {
  readonly names: ModelNames;
  /** The file's tensors that have been asked for. */
  private readonly used = new Set<string>();

  constructor(
    readonly config: ModelConfig,
    readonly file: SafetensorsFile,
    /** What the classifier's head is of, if it is of something else than texts: tokens, say. Then it has the same names, and is left aside. */
    readonly otherHead?: string,
  ) {
    const word = `${modelNames(config.family, false).word}.weight`;
    this.names = modelNames(config.family, config.family !== 'crammedBERT' && !file.has(word));
  }

  /** The head that classifies texts, if there is one. */
  get head(): { tensor: string; outputs: number } | undefined {
    const tensor = `${this.names.classifier}.weight`;
    if (!this.file.has(tensor)) return undefined;
    if (this.otherHead)
      throw this.error(
        `has the head of a ${this.otherHead} by its config.json, expected one that classifies texts, a ...ForSequenceClassification`,
      );
    return { tensor, outputs: this.file.info(tensor).shape[0] };
  }

  /** The name under which the file holds a tensor: its own, or another that means the same. */
  locate(name: string): string | undefined {
    // TensorFlow's names, which the oldest BERT checkpoints still have.
    const candidates = [name, name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')];
    if (name === `${this.names.word}.weight`) candidates.push(`${this.names.decoder}.weight`);
    return candidates.find((candidate) => this.file.has(candidate));
  }

  /** Refuses a parameter whose tensors the file lacks or holds in another shape. */
  admit(layout: ParameterLayout): void {
    for (const { name, shape } of layout.tensors) {
      const location = this.locate(name);
      if (!location) throw this.error(`lacks the tensor '${name}' [${shape}] that config.json calls for`);
      this.checkShape(location, shape);
      this.used.add(location);
    }
  }

  has(layout: ParameterLayout): boolean {
    return layout.tensors.every(({ name }) => this.locate(name) !== undefined);
  }

  /** Reads parameters into the backend; `complete` is called for each when all of it is queued. */
  async read(parameters: readonly Parameter[], backend: Backend, complete: (parameter: Parameter) => void): Promise<void> {
    const locate = (name: string) => this.locate(name) as string;
    try {
      await readParameters(this.file, backend, parameters, locate, complete);
    } catch (error) {
      // The backend does not know which tensor it is that holds what is not finite.
      for (const { layout } of parameters) for (const { name } of layout.tensors) await this.finite(locate(name));
      throw error;
    }
  }

  /** Refuses what the model has no place for, and copies and buffers that say something else than the model does. */
  async checkRest(ignored: RegExp): Promise<void> {
    const { file, names, config } = this;
    const word = this.locate(`${names.word}.weight`) as string;
    const factors = new Map(normFactors(config).map(({ name, value }) => [name, value]));
    for (const name of file.names) {
      if (this.used.has(name) || ignored.test(name) || (this.otherHead && name.startsWith(`${names.classifier}.`))) continue;
      const factor = factors.get(name);
      if (factor !== undefined) {
        this.checkShape(name, []);
        const [value] = await this.finite(name);
        if (Math.abs(value - factor) > 0.01 * factor) throw this.error(`'${name}' is ${value}, expected 1 / sqrt(head size) = ${factor}`);
      } else if (name === `${names.decoder}.weight`) await this.checkCopy(name, word);
      else if (name === `${names.decoder}.bias` && file.has(names.decoderBias)) await this.checkCopy(name, names.decoderBias);
      else throw this.error(`holds the tensor '${name}', which a model of this config.json does not have`);
    }
  }

  error(message: string): InputError {
    return new InputError(`${this.file.source}: ${message}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.file.close();
  }

  private checkShape(name: string, expected: readonly number[]): void {
    const { shape, dtype } = this.file.info(name);
    if (shape.length !== expected.length || shape.some((extent, i) => extent !== expected[i])) {
      throw this.error(`tensor '${name}' is [${shape}], expected [${expected}] by config.json`);
    }
    if (!['F64', 'F32', 'F16', 'BF16'].includes(dtype))
      throw this.error(`tensor '${name}' is ${dtype}, expected floating point (F64, F32, F16, BF16)`);
  }

  private async checkCopy(name: string, original: string): Promise<void> {
    this.checkShape(name, this.file.info(original).shape);
    const [values, expected] = [await this.file.read(name), await this.file.read(original)];
    if (values.some((value, i) => value !== expected[i]))
      throw this.error(`'${name}' differs from '${original}': an untied decoder is not supported`);
  }

  private async finite(name: string): Promise<Float32Array> {
    const values = await this.file.read(name);
    // x - x is 0 for every finite x.
    for (let i = 0; i < values.length; i++) {
      if (values[i] - values[i] !== 0) throw this.error(`tensor '${name}' holds ${values[i]} at element ${i}, expected finite numbers`);
    }
    return values;
  }
}

/** @throws InputError naming the file if one is missing, damaged or not supported */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const path = joinPath(folder, 'config.json');
  const json = await readJson(path);
  const config = parseConfig(json, path);
  const { architectures } = json as { architectures?: string | string[] };
  const otherHead = [architectures].flat().find((name) => typeof name === 'string' && otherClassifiers.test(name));
  return new Checkpoint(config, await openWeights(folder), otherHead);
}

/** As transformers names them. */
const otherClassifiers = /For(TokenClassification|MultipleChoice)$/;
