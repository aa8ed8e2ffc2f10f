/** How config.json says what a model is. */
import { checkArgument, kinds } from '../arguments.ts';
import { InputError, quoted } from '../errors.ts';
import { describeFeedforward, type ModelConfig, neuronsOf, type Task } from './config.ts';
import { maxNeurons } from './families/entries.ts';
import { familyOf, findFamily, modelTypes } from './families/families.ts';

/** A table of positions is made before the file is read. */
const maxPositionValues = 2 ** 25;

/**
 * A checkpoint's config.json, checked; `source` names it in messages.
 * @throws InputError naming the key if it is missing, of the wrong kind, absurdly large, or asks for what is not supported.
 */
export function parseConfig(json: unknown, source: string): ModelConfig {
  checkArgument('source', source, kinds.text);
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new InputError(`${source}: is not a JSON object`);
  const { model_type: type } = json as { model_type?: unknown };
  const family = findFamily(type);
  if (!family) throw new InputError(`${source}: 'model_type' is ${quoted(type)}, expected ${listed(modelTypes)}`);
  const config = family.readConfig(json, source);
  checkTogether(config, source);
  return config;
}

/** "a", "b" or "c". */
function listed(names: readonly string[]): string {
  const all = names.map((name) => `"${name}"`);
  return `${all.slice(0, -1).join(', ')} or ${all.at(-1)}`;
}

function checkTogether(config: ModelConfig, source: string): void {
  const { hiddenSize, numAttentionHeads: heads, padTokenId: padId, vocabSize: vocabularySize, feedforward } = config;
  if (config.headSize === undefined && hiddenSize % heads !== 0)
    throw new InputError(`${source}: hidden size ${hiddenSize} cannot be divided among ${heads} attention heads`);
  if (padId !== undefined && (padId >= vocabularySize || padId < 0))
    throw new InputError(`${source}: 'pad_token_id' is ${padId}, expected less than the vocabulary's ${vocabularySize}`);
  if (!config.rotary && config.maxPositionEmbeddings * hiddenSize > maxPositionValues)
    throw new InputError(
      `${source}: ${config.maxPositionEmbeddings} positions of hidden size ${hiddenSize} are ${config.maxPositionEmbeddings * hiddenSize} numbers, expected at most ${maxPositionValues}`,
    );
  if (neuronsOf(feedforward).total > maxNeurons)
    throw new InputError(
      `${source}: 'intermed_size' and 'intermed_depth' ask for ${describeFeedforward(feedforward)}, more than ${maxNeurons} neurons a layer`,
    );
}

/** @throws InputError if no config.json can say what a configuration asks for: what is made of it could be saved, but not opened again */
export function checkConfig(config: ModelConfig): void {
  const source = 'the configuration';
  checkArgument('config', config, kinds.object);
  const { bias, feedforward, activation = 'gelu' } = parseConfig(configToJson(config), source);
  const [asked, known] = [config.feedforward, feedforward].map(describeFeedforward);
  if (asked !== known)
    throw new InputError(`${source}: the feedforward part is ${asked}, which the family '${config.family}' does not know`);
  if ((config.activation ?? 'gelu') !== activation)
    throw new InputError(`${source}: 'activation' is ${config.activation}, expected ${activation} of the family '${config.family}'`);
  for (const part of ['queryKeyValue', 'dense'] as const)
    if (bias[part] !== config.bias[part])
      throw new InputError(`${source}: 'bias.${part}' is ${config.bias[part]}, expected ${bias[part]} of the family '${config.family}'`);
}

/** The config.json of a checkpoint; the inverse of {@link parseConfig}. */
export function configToJson(config: ModelConfig, task: Task = 'masked-lm'): Record<string, unknown> {
  checkArgument('config', config, kinds.object);
  for (const part of ['feedforward', 'dropout', 'bias', 'pooler'] as const) checkArgument(`config.${part}`, config[part], kinds.object);
  return familyOf(config).writeConfig(config, task);
}
