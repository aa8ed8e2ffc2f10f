import type { Tensor } from '../backend/tensor.ts';
import { LanguageModelHead } from '../nn/language_model_head.ts';
import type { Context, Parameter } from '../nn/parameter.ts';
import type { ModelConfig } from './config.ts';
import { Decoder } from './decoder.ts';
import { modelNames } from './families/families.ts';
import type { ModelNames } from './families/family.ts';
import type { KeyValueCache } from './key_value_cache.ts';
import { LanguageModel } from './language_model.ts';
import type { ParameterFactory } from './parameter_factory.ts';

/** A decoder and a head that predicts the token after each. Its losses take labels as `nextTokenLabels` gives them. */
export class CausalLanguageModel extends LanguageModel {
  readonly task = 'causal-lm';
  readonly decoder: Decoder;
  readonly parameters: readonly Parameter[];
  protected readonly transformer: Decoder;
  protected readonly head: LanguageModelHead;

  constructor(config: ModelConfig, factory: ParameterFactory, names: ModelNames = modelNames(config)) {
    super(config);
    this.decoder = this.transformer = new Decoder(config, factory, names);
    const { vocabSize, hiddenSize, initializerRange: normal } = config;
    const [word] = this.decoder.parameters;
    const decoder = config.untiedDecoder ? factory.plain(`${names.decoder}.weight`, [vocabSize, hiddenSize], { normal }) : word;
    this.head = new LanguageModelHead(decoder, { tied: decoder === word });
    this.parameters = [...factory.parameters];
  }

  /**
   * The next tokens of each of the cache's rows: a prompt, a part of one, or one token; none for rows that wait. Returns logits [rows, vocabulary]
   * at the last token of each row that has some, or at `all` of them, row after row.
   * @throws InputError if a row would become longer than the cache, or a token is none of the vocabulary; nothing is computed then
   */
  step(context: Context, tokens: readonly ArrayLike<number>[], cache: KeyValueCache, logits: 'last' | 'all' = 'last'): Tensor {
    const activations = this.decoder.append(context, tokens, cache);
    if (logits === 'all') return this.answer(context, activations).output;
    let row = 0;
    const ends = tokens.filter(({ length }) => length > 0).map(({ length }) => (row += length) - 1);
    return this.answer(context, activations, Int32Array.from(ends)).output;
  }

  /** As {@link step}, for all but the last part of a prompt: nothing is asked of its tokens. */
  fill(context: Context, tokens: readonly ArrayLike<number>[], cache: KeyValueCache): void {
    this.decoder.append(context, tokens, cache);
  }
}
