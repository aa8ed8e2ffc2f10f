import { CallOptions, kinds } from '../arguments.ts';
import type { Device } from '../backend/device.ts';
import { InputError, quoted } from '../errors.ts';
import { type Chat, type ChatTemplate, isMessage } from '../generation/chat.ts';
import { write } from '../generation/generate.ts';
import { Sampler } from '../generation/sampling.ts';
import { checkSettings, defaultNewTokens, type GenerationDefaults, type GenerationSettings } from '../generation/settings.ts';
import { StopTexts } from '../generation/stop_texts.ts';
import { type FinishReason, TextWriter } from '../generation/text_writer.ts';
import type { CausalLanguageModel } from '../models/causal_language_model.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { plainText, TextPipeline, type TokenizedText } from './text_pipeline.ts';

/** What is gone on with: a text, or the messages of a conversation, to which an answer is written. */
export type GenerationPrompt = string | Chat;

export interface TextGenerationOptions extends Partial<GenerationSettings> {
  /** Ends a text before the first of these; what comes of it is not given. */
  stop_strings?: string | readonly string[];
  /** Of what is drawn: the same seed, the same text. By default another at each call. */
  seed?: number;
  /** Texts for each prompt, 1 by default. */
  num_return_sequences?: number;
  /** Whether the prompt stands before what was written; by default it does. */
  return_full_text?: boolean;
  /** Stops the call: it rejects with the signal's reason, within the time of one token. */
  signal?: AbortSignal;
}

export interface StreamOptions extends Omit<TextGenerationOptions, 'num_return_sequences' | 'return_full_text'> {
  /** Which of the texts that a call with `num_return_sequences` would give, by the same seed; 0, the first, by default. */
  sequence?: number;
}

export interface GeneratedText<Prompt extends GenerationPrompt = string> extends GenerationEnd {
  /** Of a conversation: with its answer, or without `return_full_text` the answer alone. */
  generated_text: Prompt extends string ? string : Chat | string;
}

/** What is said of a text that was written. */
export interface GenerationEnd {
  finish_reason: FinishReason;
  /** Tokens of the prompt, and those written. */
  prompt_tokens: number;
  generated_tokens: number;
}

/** Writes. Call it with a prompt or with several; see {@link pipeline}. */
export interface TextGenerationPipeline {
  /**
   * @throws InputError if the prompt leaves the model no position to write at, or an option is of another kind; FailureError if the model's answer is
   *   not finite.
   */
  (prompt: string, options?: TextGenerationOptions): Promise<GeneratedText[]>;
  /** With the tokenizer's template for conversations. @throws InputError as for a text, and if the tokenizer has no template. */
  (messages: Chat, options?: TextGenerationOptions): Promise<GeneratedText<Chat>[]>;
  /** Answers in the order of the prompts, the same as one by one. @throws InputError as for one prompt */
  (prompts: readonly string[], options?: TextGenerationOptions): Promise<GeneratedText[][]>;
  (prompts: readonly Chat[], options?: TextGenerationOptions): Promise<GeneratedText<Chat>[][]>;
}

interface TextGenerationParts {
  device: Device;
  defaults: GenerationDefaults;
  template?: ChatTemplate;
  notice: (message: string) => void;
  release: () => void;
}

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: a class cannot write its call signatures
export class TextGenerationPipeline extends TextPipeline<string, TokenizedText> {
  readonly task = 'text-generation';
  private readonly checked: CallOptions<TextGenerationOptions>;
  private readonly defaults: GenerationDefaults;
  private readonly template: ChatTemplate | undefined;
  private readonly ends: ReadonlySet<number>;

  constructor(
    readonly model: CausalLanguageModel,
    readonly tokenizer: Tokenizer,
    { device, defaults, template, notice, release }: TextGenerationParts,
  ) {
    super({ device, notice, release, inputs: { ...plainText, encode: (text) => tokenizer.encode(text) } });
    this.defaults = defaults;
    this.template = template;
    const { eosTokenIds } = model.config;
    this.ends = new Set(defaults.ends ?? eosTokenIds ?? (tokenizer.eosId === undefined ? [] : [tokenizer.eosId]));
    this.checked = new CallOptions<TextGenerationOptions>('text-generation', optionKinds, notice);
  }

  protected override async _call(input: GenerationPrompt | readonly GenerationPrompt[], options: TextGenerationOptions = {}) {
    const isOne = typeof input === 'string' || isChat(input);
    const prompts = isOne ? [input] : input;
    if (!Array.isArray(prompts)) throw new InputError(`the text: got ${quoted(input)}, expected a string, messages, or an array of such`);
    const answers = await this.untilDone(async () => {
      const groups = await this.begin(prompts as readonly GenerationPrompt[], options, { isOne });
      const begun = groups.filter(([{ maxNewTokens }]) => maxNewTokens > 0);
      for await (const _ of write(this.model, this.session, begun, options.signal)) options.signal?.throwIfAborted();
      return groups.map((texts, index) =>
        texts.map((text) => ({ generated_text: full(prompts[index], text.text, options), ...endOf(text) })),
      );
    });
    return isOne ? answers[0] : answers;
  }

  /**
   * The text that is written, in pieces of whole characters, each as soon as it is certain; returns how it ended. To stop asking (`break`) stops the work.
   * @throws as a call
   */
  async *stream(prompt: GenerationPrompt, { sequence = 0, ...options }: StreamOptions = {}): AsyncGenerator<string, GenerationEnd> {
    if (!Number.isSafeInteger(sequence) || sequence < 0)
      throw new InputError(`sequence: got ${quoted(sequence)}, expected a whole number from 0`);
    const [[text]] = await this.untilDone(() => this.begin([prompt], options, { isOne: true, first: sequence }));
    const steps = write(this.model, this.session, text.maxNewTokens > 0 ? [[text]] : [], options.signal);
    try {
      for (;;) {
        const { done } = await this.untilDone(() => steps.next());
        const piece = text.take();
        if (piece !== '') yield piece;
        options.signal?.throwIfAborted();
        if (done) break;
      }
    } finally {
      await steps.return(undefined);
    }
    return endOf(text);
  }

  /** The texts to be written for each prompt. @throws InputError */
  private async begin(
    prompts: readonly GenerationPrompt[],
    given: TextGenerationOptions,
    { isOne, first = 0 }: { isOne: boolean; first?: number },
  ): Promise<TextWriter[][]> {
    const options = this.checked.check(given);
    checkSettings(options);
    options.signal?.throwIfAborted();
    const { num_return_sequences: count = 1, seed = crypto.getRandomValues(new Uint32Array(1))[0], stop_strings: stops = [] } = options;
    if (!Number.isSafeInteger(count) || count < 1)
      throw new InputError(`num_return_sequences: got ${quoted(count)}, expected a whole number from 1`);
    const stopTexts = typeof stops === 'string' ? [stops] : stops;
    if (!Array.isArray(stopTexts) || stopTexts.some((stop) => typeof stop !== 'string' || stop === ''))
      throw new InputError(`stop_strings: got ${quoted(stops)}, expected a text or an array of texts, none of them empty`);
    const settings = this.settings(options);
    let short = 0;
    const groups: TextWriter[][] = [];
    for (const [index, prompt] of prompts.entries()) {
      const name = isOne ? 'the text' : `text ${index + 1}`;
      const ids = await this.encodePrompt(prompt, name);
      const { maxPositionEmbeddings: positions } = this.model.config;
      const wanted = options.max_new_tokens === undefined && options.max_length !== undefined ? options.max_length - ids.length : undefined;
      const asked = Math.max(
        0,
        wanted ?? settings.max_new_tokens ?? (settings.max_length === undefined ? defaultNewTokens : settings.max_length - ids.length),
      );
      const room = positions - ids.length;
      if (room < Math.min(1, asked))
        throw new InputError(
          `${name}: has ${ids.length} tokens, and the model ${positions} positions: none is left to write at; shorten it`,
        );
      if (asked > room) short++;
      const writers = Array.from(
        { length: count },
        (_, sequence) =>
          new TextWriter({
            name,
            prompt: ids,
            maxNewTokens: Math.min(asked, room),
            sampler: new Sampler(settings, seed, first + sequence),
            stream: this.tokenizer.textStream({ skipSpecialTokens: true }),
            stops: new StopTexts(stopTexts),
            ends: this.ends,
            vocabularySize: this.tokenizer.vocabularySize,
          }),
      );
      groups.push(writers);
    }
    if (short > 0)
      this.notice(
        `${isOne ? 'the text ends' : `${short} of ${prompts.length} texts end`} with the model's ${this.model.config.maxPositionEmbeddings} positions, before as many tokens are written as were asked for`,
      );
    return groups;
  }

  /** As the call's options say, else as the model's folder does. */
  private settings(options: TextGenerationOptions): GenerationSettings {
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    const settings: GenerationSettings = { ...this.defaults, ...given };
    const idle = (['temperature', 'top_k', 'top_p', 'seed'] as const).find((name) => given[name] !== undefined);
    if (!settings.do_sample && idle)
      this.notice(`${idle} is of what is drawn, but do_sample is false: the most probable token is always taken; pass do_sample: true`);
    return settings;
  }

  /** @throws InputError if it is no prompt */
  private async encodePrompt(prompt: GenerationPrompt, name: string): Promise<readonly number[]> {
    let ids: readonly number[];
    if (typeof prompt === 'string') ids = this.tokenizer.encode(prompt).ids;
    else if (!isChat(prompt))
      throw new InputError(`${name}: got ${quoted(prompt)}, expected a string, or messages with a role and a content each`);
    else if (!this.template)
      throw new InputError(`${name}: is a conversation, but the model's tokenizer has no chat template; pass a text`);
    else ids = this.tokenizer.encode(await this.template(prompt), { addSpecialTokens: false }).ids;
    if (ids.length > 0) return ids;
    const begin = this.defaults.begin ?? this.model.config.bosTokenId ?? this.tokenizer.bosId;
    if (begin === undefined) throw new InputError(`${name}: is empty, and the model has no token that begins a text; expected some text`);
    return [begin];
  }
}

const optionKinds = {
  do_sample: kinds.flag,
  temperature: kinds.any,
  top_k: kinds.any,
  top_p: kinds.any,
  repetition_penalty: kinds.any,
  max_new_tokens: kinds.any,
  max_length: kinds.any,
  stop_strings: kinds.any,
  seed: kinds.integer,
  num_return_sequences: kinds.any,
  return_full_text: kinds.flag,
  signal: kinds.signal,
};

const endOf = ({ finishReason = 'length', prompt, tokens }: TextWriter): GenerationEnd => ({
  finish_reason: finishReason,
  prompt_tokens: prompt.length,
  generated_tokens: tokens,
});

/** An empty list is one of no prompts. */
const isChat = (value: unknown): value is Chat => Array.isArray(value) && value.length > 0 && value.every(isMessage);

function full(prompt: GenerationPrompt, text: string, { return_full_text: isFull = true }: TextGenerationOptions): string | Chat {
  if (!isFull) return text;
  return typeof prompt === 'string' ? prompt + text : [...prompt, { role: 'assistant', content: text }];
}
