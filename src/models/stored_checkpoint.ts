/** A checkpoint folder as it is read: which tensors its file has, and what they must be. */
import { joinPath } from '#platform';
import type { Device } from '../backend/device.ts';
import { InputError, printable, quoted } from '../errors.ts';
import { readJson } from '../io/files.ts';
import { openWeights } from '../io/model_folder.ts';
import type { SafetensorsFile } from '../io/safetensors.ts';
import type { Parameter, ParameterLayout } from '../nn/parameter.ts';
import type { ModelConfig } from './config.ts';
import { parseConfig } from './config_json.ts';
import { familyOf, modelNames } from './families/families.ts';
import type { Family, ModelNames } from './families/family.ts';
import { readParameters } from './read_parameters.ts';

/** crammedBERT's buffers: 1 / sqrt(head size) for every block. */
export function normFactors(config: ModelConfig): { name: string; value: number }[] {
  const names = modelNames(config);
  return Array.from({ length: config.numHiddenLayers }, (_, index) => names.block(index).normFactor)
    .filter((name) => name !== undefined)
    .map((name) => ({ name, value: 1 / Math.sqrt(config.hiddenSize / config.numAttentionHeads) }));
}

/** What a config.json says beside the configuration. */
interface ConfigRemarks {
  /** What the classifier's head is of, if it is of something else than texts: tokens, say. Then it has the same names, and is left aside. */
  otherHead?: string;
  /** What is told of it as soon as weights are read. */
  notice?: string;
}

/** A checkpoint folder, its configuration read and its tensors ready to be read. */
export class Checkpoint {
  readonly family: Family;
  readonly names: ModelNames;
  readonly config: ModelConfig;
  /** The file's tensors that have been asked for. */
  private readonly used = new Set<string>();

  constructor(
    config: ModelConfig,
    readonly file: SafetensorsFile,
    readonly remarks: ConfigRemarks = {},
  ) {
    this.config = { ...config };
    this.family = familyOf(config);
    const { names, prefix } = this.family;
    this.names = names(file.has(`${names('').word}.weight`) ? '' : prefix);
  }

  /** The head that classifies texts, if there is one. */
  get head(): { tensor: string; outputs: number } | undefined {
    const tensor = `${this.names.classifier}.weight`;
    if (!this.file.has(tensor)) return undefined;
    const { otherHead } = this.remarks;
    if (otherHead)
      throw this.error(
        `has the head of a ${otherHead} by its config.json, expected one that classifies texts, a ...ForSequenceClassification`,
      );
    return { tensor, outputs: this.file.info(tensor).shape[0] };
  }

  /** The name under which the file holds a tensor: its own, or another that means the same. */
  locate(name: string): string | undefined {
    // TensorFlow's names, which the oldest BERT checkpoints still have.
    const { word, decoder, decoderBias } = this.names;
    const candidates = [name, name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')];
    if (name === `${word}.weight`) candidates.push(`${decoder}.weight`);
    // The decoder's own is the one that is added, where both are there.
    if (name === decoderBias) candidates.unshift(`${decoder}.bias`);
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

  /** Reads parameters into the device; `complete` is called for each when all of it is queued. */
  async read(parameters: readonly Parameter[], device: Device, complete: (parameter: Parameter) => void): Promise<void> {
    const locate = (name: string) => this.locate(name) as string;
    try {
      await readParameters(this.file, device, parameters, locate, complete);
    } catch (error) {
      // The device does not know which tensor it is that holds what is not finite.
      for (const { layout } of parameters) for (const { name } of layout.tensors) await this.finite(locate(name));
      throw error;
    }
  }

  /**
   * Says in the configuration whether a masked language model's decoder is the word embedding. As in transformers, a decoder that config.json calls
   * a copy is none where the file has another.
   */
  async tieDecoder(notice: (message: string) => void): Promise<void> {
    const { config, family, file, names } = this;
    const [decoder, word] = [`${names.decoder}.weight`, this.locate(`${names.word}.weight`)];
    if (family.writesTiedDecoder || config.untiedDecoder || !file.has(decoder) || word === undefined) return;
    if (await this.areEqual(decoder, word)) return;
    notice(
      `${file.source}: '${decoder}' differs from '${word}', of which config.json says that it is a copy: the decoder is taken as it is`,
    );
    config.untiedDecoder = true;
  }

  /** @throws InputError if crammedBERT's decoder, which knows no other, is not the word embedding */
  async checkTied(): Promise<void> {
    const { family, file, names } = this;
    const [decoder, word] = [`${names.decoder}.weight`, this.locate(`${names.word}.weight`)];
    if (!family.writesTiedDecoder || !file.has(decoder) || word === undefined) return;
    if (!(await this.areEqual(decoder, word))) throw this.error(`'${decoder}' differs from '${word}': an untied decoder is not supported`);
  }

  /** The decoder's bias of an untied decoder is not the one of the same head's, and 0 where the file has none: so transformers has it. */
  startsAtZero({ tensors }: ParameterLayout, declaredUntied: boolean): boolean {
    const { file, names } = this;
    return declaredUntied && tensors[0].name === names.decoderBias && !file.has(`${names.decoder}.bias`);
  }

  /** Tells of what the model has no place for, but for what a family's models never use; `predicts` masked tokens. @throws InputError for a buffer that says something else than the model does */
  async tellRest(predicts: boolean, notice: (message: string) => void): Promise<void> {
    const { file, names, config } = this;
    const { unused, maskedHead, modelTypes } = this.family;
    const factors = new Map(normFactors(config).map(({ name, value }) => [name, value]));
    const rest: string[] = [];
    if (this.remarks.notice) notice(this.remarks.notice);
    for (const name of file.names) {
      if (this.used.has(name) || unused.test(name) || (!predicts && maskedHead.test(name))) continue;
      if (name.startsWith(`${names.decoder}.`) || name === names.decoderBias) continue;
      const factor = factors.get(name);
      if (factor === undefined) {
        // Without them tokens would take other paths than those the model was trained on.
        if (/\.ffn\.thresholds$/.test(name) && config.family === modelTypes.trees)
          throw this.error(`holds the tensor '${name}', which a model of this config.json does not have`);
        rest.push(name);
        continue;
      }
      this.checkShape(name, []);
      const [value] = await this.finite(name);
      if (Math.abs(value - factor) > 0.01 * factor) throw this.error(`'${name}' is ${value}, expected 1 / sqrt(head size) = ${factor}`);
    }
    if (rest.length === 0) return;
    rest.sort();
    const shown = rest.slice(0, 6).map((name) => printable(name.length > 80 ? `${name.slice(0, 77)}...` : name));
    const more = rest.length > 6 ? ` and ${rest.length - 6} more` : '';
    notice(`${file.source}: left out, for what is asked of the model does not use them: ${shown.join(', ')}${more}`);
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

  private async areEqual(name: string, original: string): Promise<boolean> {
    if (name === original) return true;
    this.checkShape(name, this.file.info(original).shape);
    const [expected, values] = [await this.finite(original), await this.finite(name)];
    return values.every((value, i) => value === expected[i]);
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

/**
 * `changes`: what counts before config.json, by the same names.
 * @throws InputError naming the file if one is missing, damaged, not supported, or of another kind than `kind`
 */
export async function openCheckpoint(
  folder: string,
  changes?: Readonly<Record<string, unknown>>,
  kind: 'encoder' | 'decoder' | 'any' = 'encoder',
): Promise<Checkpoint> {
  const path = joinPath(folder, 'config.json');
  const said = await readJson(path);
  const json = changes && typeof said === 'object' ? { ...said, ...changes } : said;
  const config = parseConfig(json, path);
  const found = familyOf(config).decoder ? 'decoder' : 'encoder';
  if (kind !== 'any' && found !== kind)
    throw new InputError(`${path}: 'model_type' is ${quoted(config.family)}, which is ${described[found]}, expected ${described[kind]}`);
  const { architectures, position_embedding_type: positions } = json as {
    architectures?: string | string[];
    position_embedding_type?: unknown;
  };
  const otherHead = [architectures].flat().find((name) => typeof name === 'string' && otherClassifiers.test(name));
  const isOther = typeof positions === 'string' && positions !== 'absolute';
  const notice = isOther
    ? `${path}: 'position_embedding_type' is ${quoted(positions)}, of which transformers 5 takes no notice; positions are absolute here as there, and answers may be others than those the model was trained for`
    : undefined;
  return new Checkpoint(config, await openWeights(folder), { otherHead, notice });
}

const described = {
  encoder: 'an encoder: it fills blanks, embeds, ranks and classifies',
  decoder: 'a decoder: it writes text',
};

/** As transformers names them. */
const otherClassifiers = /For(TokenClassification|MultipleChoice)$/;
