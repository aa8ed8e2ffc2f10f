/** The families there are. Another is one file beside these, and a line here. */
import { InputError, quoted } from '../../errors.ts';
import type { Activation } from '../../nn/activation.ts';
import type { ModelConfig } from '../config.ts';
import { bert } from './bert.ts';
import { crammedBert } from './crammed_bert.ts';
import { distilbert } from './distilbert.ts';
import { electra } from './electra.ts';
import type { Family, ModelNames } from './family.ts';
import { gpt2 } from './gpt2.ts';
import { llama, qwen2 } from './llama.ts';
import { roberta, xlmRoberta } from './roberta.ts';

const families: readonly Family[] = [crammedBert, bert, distilbert, roberta, xlmRoberta, electra, gpt2, llama, qwen2];

const byType = new Map<unknown, Family>(families.flatMap((family) => Object.values(family.modelTypes).map((type) => [type, family])));

/** Every `model_type` there is. */
export const modelTypes: readonly string[] = [...byType.keys()] as string[];

export const findFamily = (modelType: unknown): Family | undefined => byType.get(modelType);

/** The family of a configuration's `family`. @throws InputError if there is none of that name */
export function familyOf({ family }: { family: string }): Family {
  const found = findFamily(family);
  if (!found) throw new InputError(`the configuration: 'family' is ${quoted(family)}, expected one of ${modelTypes.join(', ')}`);
  return found;
}

/** Of the masked language model's transform before its decoder. */
export const transformActivation = (config: ModelConfig): Activation =>
  familyOf(config).transformFollows ? (config.activation ?? 'gelu') : 'gelu';

/** A tensor's name without the prefix that some checkpoints have before the encoder's, 'bert.' say. */
export const withoutPrefix = (name: string, { prefix }: Family): string => (name.startsWith(prefix) ? name.slice(prefix.length) : name);

/** The names of a new checkpoint of a `model_type`. Models with trees have the encoder's without prefix. */
export function modelNames(config: { family: string }): ModelNames {
  const family = familyOf(config);
  return family.names(config.family === family.modelTypes.dense ? family.prefix : '');
}
