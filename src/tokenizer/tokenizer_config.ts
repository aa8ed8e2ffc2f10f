/**
 * A model folder's tokenizer, as the AutoTokenizer of transformers makes it of tokenizer.json, tokenizer_config.json and special_tokens_map.json.
 * There most of what tokenizer.json says does not count for a BertTokenizer, which is the class of every BERT that names no other: normalizer,
 * pre-tokenizer and template are made anew from tokenizer_config.json, by defaults where it says nothing.
 */
import * as v from 'valibot';
import { joinPath } from '#platform';
import { InputError, quoted } from '../errors.ts';
import { checkedJson, readOptionalJson } from '../io/checked_json.ts';
import { kindOf } from '../io/files.ts';
import { vocabularyFile } from '../io/model_files.ts';
import { type SpecialTokenName, Tokenizer, type TokenizerSettings } from './tokenizer.ts';
import { differencesOf } from './tokenizer_differences.ts';
import { type AddedToken, parseTokenizerJson, readTokenizerJson, type TokenizerConfig, withIds } from './tokenizer_json.ts';
import { readVocabulary } from './vocabulary_file.ts';

const tokenSchema = v.union(
  [
    v.string(),
    v.looseObject({
      content: v.string(),
      single_word: v.optional(v.boolean()),
      lstrip: v.optional(v.boolean()),
      rstrip: v.optional(v.boolean()),
      normalized: v.optional(v.boolean()),
      special: v.optional(v.boolean()),
    }),
  ],
  'a token, or an object with its content',
);
type Token = v.InferOutput<typeof tokenSchema>;

const token = v.nullish(tokenSchema);
const flag = v.nullish(v.boolean());
const specialEntries = {
  bos_token: token,
  eos_token: token,
  unk_token: token,
  sep_token: token,
  pad_token: token,
  cls_token: token,
  mask_token: token,
  extra_special_tokens: v.nullish(v.union([v.array(tokenSchema), v.record(v.string(), tokenSchema)], 'a list of tokens')),
  additional_special_tokens: v.nullish(v.array(tokenSchema)),
};
const specialTokensSchema = v.looseObject(specialEntries);
const configSchema = v.looseObject({
  ...specialEntries,
  tokenizer_class: v.nullish(v.string()),
  do_lower_case: flag,
  strip_accents: flag,
  tokenize_chinese_chars: flag,
  add_prefix_space: flag,
  trim_offsets: flag,
  model_max_length: v.nullish(v.number()),
  max_len: v.nullish(v.number()),
  truncation_side: v.nullish(v.picklist(['left', 'right'])),
  model_input_names: v.nullish(v.array(v.string())),
  added_tokens_decoder: v.nullish(v.record(v.string(), tokenSchema)),
  clean_up_tokenization_spaces: flag,
  clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output: flag,
});
type Config = v.InferOutput<typeof configSchema>;

/** Classes of which transformers makes normalizer, pre-tokenizer and template anew; 'Fast' or not, they are one. */
const isBertClass = (name: string) => bertClasses.test(name);
const bertClasses = /^(Bert|DistilBert|Electra|MobileBert|SqueezeBert|LayoutLM|Lxmert)Tokenizer(Fast)?$/;
/** The same of RoBERTa's, whose words are cut by BPE. */
const isRobertaClass = (name: string) => /^RobertaTokenizer(Fast)?$/.test(name);
/** The class of models that say none. */
const classOfModel: Record<string, string> = {
  bert: 'BertTokenizer',
  distilbert: 'DistilBertTokenizer',
  electra: 'ElectraTokenizer',
  roberta: 'RobertaTokenizer',
};
/** Special tokens in the order in which transformers adds those that are missing; what a BertTokenizer takes where nothing is said. */
const specialNames = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token'] as const;
const bertSpecials: Partial<Record<(typeof specialNames)[number], string>> = {
  unk_token: '[UNK]',
  sep_token: '[SEP]',
  pad_token: '[PAD]',
  cls_token: '[CLS]',
  mask_token: '[MASK]',
};
/** Larger numbers stand for no limit. */
const longest = 2 ** 30;

/** A tokenizer.json, of which {@link parseTokenizerJson} has found that it is one. */
// biome-ignore lint/suspicious/noExplicitAny: see above
type TokenizerJson = Record<string, any>;

/**
 * The tokenizer of a model's folder, of its tokenizer.json or, where there is none, of its vocab.txt. `notice` is told, in one line, where the
 * folder's files disagree. `changes`: what counts before tokenizer_config.json, by the same names.
 * @throws InputError naming the file if one is damaged or of another kind
 */
export async function loadTokenizer(
  folder: string,
  notice: (message: string) => void = () => {},
  changes?: Readonly<Record<string, unknown>>,
): Promise<Tokenizer> {
  const path = joinPath(folder, 'tokenizer.json');
  const vocabulary = joinPath(folder, vocabularyFile);
  if ((await kindOf(path)) === 'missing' && (await kindOf(vocabulary)) === 'file') return await fromVocabulary(folder, vocabulary, changes);
  const json = (await readTokenizerJson(path)) as TokenizerJson;
  const said = await readConfig(folder, changes);
  const config = said ?? {};
  const name = await classOf(config, folder);
  // transformers makes a BertTokenizer by defaults alone.
  if (!said && !isBertClass(name)) return Tokenizer.fromJson(json, path);
  const settings = settingsOf(config, name, json.model.type);
  const { made, differences } = configured(json, config, name, path, await readAddedTokens(folder, config));
  if (differences.length === 0) return Tokenizer.fromJson(json, path, settings);
  notice(
    `${folder}: ${said ? 'tokenizer.json and tokenizer_config.json disagree' : 'tokenizer_config.json is missing'}; as in transformers' AutoTokenizer, ${differences.join(', ')}, other than tokenizer.json by itself says`,
  );
  return Tokenizer.fromJson(made, path, settings);
}

/** A BertTokenizer, which needs no more than a vocabulary. */
async function fromVocabulary(folder: string, path: string, changes: Readonly<Record<string, unknown>> | undefined): Promise<Tokenizer> {
  const config = (await readConfig(folder, changes)) ?? {};
  const name = await classOf(config, folder);
  if (!isBertClass(name))
    throw new InputError(
      `${path}: is read by itself where the tokenizer's class is BertTokenizer, found ${name ? quoted(name) : 'none'} in tokenizer_config.json; expected a tokenizer.json beside it`,
    );
  const json = { version: '1.0', truncation: null, padding: null, added_tokens: [], model: { vocab: await readVocabulary(path) } };
  const first = { ...json, ...bertParts(json, config, []) };
  const { made } = configured(first, config, name, path, await readAddedTokens(folder, config));
  return Tokenizer.fromJson(made, path, settingsOf(config, name, 'WordPiece'));
}

/** What a tokenizer.json becomes by a tokenizer_config.json, and in words what is different then. `others`: {@link readAddedTokens}. */
function configured(
  json: TokenizerJson,
  config: Config,
  className: string,
  path: string,
  others: readonly AddedToken[] = [],
): { made: TokenizerJson; differences: string[] } {
  const itself = parseTokenizerJson(json, path);
  const isBert = isBertClass(className);
  const added = withIds([...(isBert ? [] : itself.addedTokens), ...addedTokensOf(itself, config, isBert, others)], itself.model.vocabulary);
  const made: TokenizerJson = { ...json, added_tokens: added, ...remadeParts(json, config, added, className) };
  return { made, differences: differencesOf(itself, parseTokenizerJson(made, path), isBert ? "BERT's" : "RoBERTa's") };
}

/** Whether transformers makes of a tokenizer's vocabulary, by such a tokenizer_config.json of a BertTokenizer, just this tokenizer. */
export function isBertTokenizer(tokenizer: Tokenizer, config: Record<string, unknown>): boolean {
  return configured(tokenizer.json as TokenizerJson, config as Config, 'BertTokenizer', 'the tokenizer').differences.length === 0;
}

/** What tokenizer_config.json says; of special tokens what special_tokens_map.json says, in folders of before both said it. */
async function readConfig(folder: string, changes: Readonly<Record<string, unknown>> = {}): Promise<Config | undefined> {
  const path = joinPath(folder, 'tokenizer_config.json');
  const said = await readOptionalJson(path, configSchema);
  const isChanged = Object.keys(changes).length > 0;
  const config = isChanged ? checkedJson({ ...said, ...changes }, configSchema, path) : said;
  if (config?.added_tokens_decoder) return config;
  const tokens = await readOptionalJson(joinPath(folder, 'special_tokens_map.json'), specialTokensSchema);
  return tokens ? withSpecialTokens(config ?? {}, tokens) : config;
}

/** Tokens of an added_tokens.json, which tokenizer_config.json had beside it before it listed them itself, by the ids given there. */
async function readAddedTokens(folder: string, config: Config): Promise<AddedToken[]> {
  if (config.added_tokens_decoder) return [];
  const ids = (await readOptionalJson(joinPath(folder, 'added_tokens.json'), v.record(v.string(), v.number()))) ?? {};
  const extra = extraTokensOf(config);
  const special = new Set(
    [...specialNames.map((name) => config[name]), ...(Array.isArray(extra) ? extra : [])].map((one) => one && contentOf(one)),
  );
  return Object.entries(ids).map(([content, id]) => ({ ...addedToken(content, special.has(content)), id }));
}

/** What special_tokens_map.json says goes before what tokenizer_config.json says, but for lists of more tokens. */
function withSpecialTokens(config: Config, tokens: v.InferOutput<typeof specialTokensSchema>): Config {
  const { additional_special_tokens: additional, ...others } = tokens;
  const [before, more] = [extraTokensOf(config), others.extra_special_tokens];
  const extra = Array.isArray(more) ? [...(Array.isArray(before) ? before : []), ...more] : (more ?? before ?? additional);
  return { ...config, ...others, extra_special_tokens: extra, additional_special_tokens: undefined };
}

/** Special tokens beside the named ones, under the name of today or, where that has none, of before. */
function extraTokensOf({ extra_special_tokens: extra, additional_special_tokens: additional }: Config): Config['extra_special_tokens'] {
  const isEmpty = !extra || Object.keys(extra).length === 0;
  return isEmpty && additional ? additional : extra;
}

/** The class that AutoTokenizer takes: the one named, else that of the model's type. */
async function classOf(config: Config, folder: string): Promise<string> {
  if (config.tokenizer_class) return config.tokenizer_class;
  const schema = v.looseObject({ model_type: v.nullish(v.string()), tokenizer_class: v.nullish(v.string()) });
  const model = await readOptionalJson(joinPath(folder, 'config.json'), schema);
  return model?.tokenizer_class || classOfModel[model?.model_type ?? ''] || '';
}

function settingsOf(config: Config, className: string, modelType: unknown): TokenizerSettings {
  const isBert = isBertClass(className);
  const { model_max_length: length = config.max_len, truncation_side: truncationSide } = config;
  const specialTokens: TokenizerSettings['specialTokens'] = {};
  for (const name of ['pad', 'cls', 'sep', 'mask', 'bos', 'eos'] satisfies SpecialTokenName[]) {
    const special = config[`${name}_token`] ?? (isBert ? bertSpecials[`${name}_token`] : undefined);
    if (special) specialTokens[name] = contentOf(special);
  }
  const hasLimit = typeof length === 'number' && length >= 1 && length < longest;
  return {
    maxLength: hasLimit ? Math.floor(length) : undefined,
    truncationSide: truncationSide ?? undefined,
    specialTokens,
    cleansUp:
      config.clean_up_tokenization_spaces === true &&
      (modelType !== 'BPE' || config.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output === true),
    tokenTypes: config.model_input_names?.includes('token_type_ids') ?? (isBert && !className.startsWith('DistilBert')),
    config,
  };
}

/** Tokens that are added to the vocabulary's, in their order; their ids do not count. */
function addedTokensOf(itself: TokenizerConfig, config: Config, isBert: boolean, others: readonly AddedToken[]): AddedToken[] {
  const { added_tokens_decoder: decoder } = config;
  const extra = extraTokensOf(config);
  const ofModel = Object.entries(config).filter(
    ([name, value]) => name.endsWith('_token') && !Object.hasOwn(specialEntries, name) && isToken(value),
  );
  const named = [
    ...specialNames.map((name) => config[name] ?? (isBert && config[name] === undefined ? bertSpecials[name] : undefined)),
    ...ofModel.map(([, value]) => value as Token),
    ...(extra && !Array.isArray(extra) ? Object.values(extra) : []),
  ].filter((value) => value !== undefined && value !== null);
  const names = new Set(named.map(contentOf));
  const listed = decoder
    ? Object.entries(decoder)
        .sort(([a], [b]) => Number(a) - Number(b))
        .map(([, value]) => addedToken(value, false))
    : [...new Map([...others, ...itself.addedTokens].map((one) => [one.id, one])).values()].sort((a, b) => a.id - b.id);
  const tokens = listed.map((one) => (names.has(one.content) ? { ...one, special: true } : one));
  const known = new Set([...tokens, ...(isBert ? [] : itself.addedTokens)].map(({ content }) => content));
  for (const special of [...named, ...(Array.isArray(extra) ? extra : [])]) {
    const one = addedToken(special, true);
    if (known.has(one.content)) continue;
    known.add(one.content);
    tokens.push(one);
  }
  return tokens;
}

const isToken = (value: unknown): value is Token => v.is(tokenSchema, value);
const contentOf = (value: Token): string => (typeof value === 'string' ? value : value.content);

function addedToken(value: Token, special: boolean): AddedToken {
  const given: Exclude<Token, string> = typeof value === 'string' ? { content: value } : value;
  const isSpecial = special || (given.special ?? false);
  return {
    id: 0,
    content: given.content,
    single_word: given.single_word ?? false,
    lstrip: given.lstrip ?? false,
    rstrip: given.rstrip ?? false,
    normalized: given.normalized ?? !isSpecial,
    special: isSpecial,
  };
}

function remadeParts(json: TokenizerJson, config: Config, added: readonly AddedToken[], className: string): TokenizerJson {
  if (isBertClass(className)) return bertParts(json, config, added);
  return isRobertaClass(className) && json.model.type === 'BPE' ? robertaParts(json, config, added) : {};
}

/** The parts of a tokenizer.json that a RobertaTokenizer has, whatever the file says. */
function robertaParts(json: TokenizerJson, config: Config, added: readonly AddedToken[]): TokenizerJson {
  const { add_prefix_space: addsSpace, trim_offsets: trims } = config;
  const spelling = { add_prefix_space: addsSpace ?? false, trim_offsets: trims ?? true };
  const special = (value: Token): [string, number | undefined] => {
    const content = contentOf(value);
    return [content, added.find((one) => one.content === content)?.id ?? json.model.vocab[content]];
  };
  const [sep, cls] = [special(config.sep_token ?? '</s>'), special(config.cls_token ?? '<s>')];
  return {
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', ...spelling, use_regex: true },
    decoder: { type: 'ByteLevel', ...spelling, use_regex: true },
    post_processor: { type: 'RobertaProcessing', sep, cls, ...spelling },
  };
}

/** The parts of a tokenizer.json that a BertTokenizer has, whatever the file says. */
function bertParts(json: TokenizerJson, config: Config, added: readonly AddedToken[]): TokenizerJson {
  const name = (key: 'unk_token' | 'cls_token' | 'sep_token') => contentOf(config[key] ?? (bertSpecials[key] as string));
  const [cls, sep] = [name('cls_token'), name('sep_token')];
  const idOf = (content: string) => added.find((one) => one.content === content)?.id ?? json.model.vocab[content];
  const special = (id: string, type: number) => ({ SpecialToken: { id, type_id: type } });
  const text = (id: 'A' | 'B', type: number) => ({ Sequence: { id, type_id: type } });
  return {
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: config.tokenize_chinese_chars ?? true,
      strip_accents: config.strip_accents ?? null,
      lowercase: config.do_lower_case ?? true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [special(cls, 0), text('A', 0), special(sep, 0)],
      pair: [special(cls, 0), text('A', 0), special(sep, 0), text('B', 1), special(sep, 1)],
      special_tokens: Object.fromEntries([cls, sep].map((id) => [id, { id, ids: [idOf(id)], tokens: [id] }])),
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      ...json.model,
      type: 'WordPiece',
      unk_token: name('unk_token'),
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
    },
  };
}
