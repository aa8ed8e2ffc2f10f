import * as v from 'valibot';
import { InputError, quoted } from '../errors.ts';
import { readJson } from '../io/files.ts';
import { extentOfTokenizer } from '../io/json.ts';
import { isCharacterMap } from './character_map.ts';
import type { NormalizerConfig } from './normalizer.ts';
import { compilePattern, type Pattern } from './pattern.ts';
import { byteLevelSchema, metaspaceSchema, modelSchema, type PieceModelConfig } from './piece_json.ts';
import type { PreTokenizerConfig } from './pre_tokenizer.ts';
import type { SpellingConfig } from './spelling.ts';
import type { TruncationSide } from './truncate.ts';

/** What this library reads of a tokenizer.json, checked: ids are those of the vocabulary, patterns compile, templates refer to known tokens. */
export interface TokenizerConfig {
  addedTokens: AddedToken[];
  normalizer: NormalizerConfig | null;
  preTokenizer: PreTokenizerConfig | null;
  /** How words are written before they are cut into pieces, the last step of pre-tokenization. */
  spelling: SpellingConfig | null;
  /** Offsets do not count the space that a token begins or ends with; `addsSpace` says that the first token's own was put there. */
  trimOffsets: { addsSpace: boolean } | null;
  template: Template;
  truncationSide: TruncationSide;
  decoder: { type: 'WordPiece'; prefix: string; cleanup: boolean } | SpellingConfig | null;
  model: PieceModelConfig;
  /** `tokens[id]`: the vocabulary and the added tokens together, as far as they have ids; there may be holes. */
  tokens: (string | undefined)[];
}

/** A token that is recognized in the text before it is cut into words. */
export type AddedToken = v.InferOutput<typeof addedTokenSchema>;

/** How texts and special tokens are put together, with their type ids. */
export interface Template {
  single: TemplateItem[];
  pair: TemplateItem[];
  /** The same without special tokens. */
  pairWithoutSpecials: TemplateItem[];
}

export type TemplateItem = { sequence: 'A' | 'B'; typeId: number } | { ids: number[]; typeId: number };

/** More tokens than any known vocabulary has. */
const maxTokens = 1 << 20;

/** UTF-16 units of an added token: more than any has. At each place of a text as many are looked at. */
const longestAddedToken = 1000;
/** Of all of them; each takes some hundred bytes. */
const maxAddedUnits = 1_000_000;

const id = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(maxTokens - 1));
const nonEmpty = v.pipe(v.string(), v.minLength(1));
const flag = (otherwise: boolean) => v.optional(v.boolean(), otherwise);

const addedTokenSchema = v.object({
  id,
  content: v.pipe(v.string(), v.minLength(1), v.maxLength(longestAddedToken)),
  single_word: flag(false),
  lstrip: flag(false),
  rstrip: flag(false),
  normalized: flag(true),
  special: flag(false),
});

const patternSchema = v.union(
  [v.object({ String: nonEmpty }), v.object({ Regex: nonEmpty })],
  '{ "String": text } or { "Regex": regular expression }',
);

const behaviorSchema = v.picklist(['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous']);

type Schema<T> = v.GenericSchema<unknown, T>;

/** Sequences may hold sequences, but only so deep: a file must not exhaust the stack. */
const deepestNesting = 4;

function normalizerSchema(depth: number): Schema<NormalizerConfig> {
  const plain = (['NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase', 'StripAccents'] as const).map((type) => v.object({ type: v.literal(type) }));
  const items: Schema<NormalizerConfig> = depth > 0 ? normalizerSchema(depth - 1) : v.never('no sequences nested this deep');
  return v.variant('type', [
    ...plain,
    v.object({
      type: v.literal('BertNormalizer'),
      clean_text: flag(true),
      handle_chinese_chars: flag(true),
      strip_accents: v.optional(v.nullable(v.boolean()), null),
      lowercase: flag(true),
    }),
    v.object({ type: v.literal('Replace'), pattern: patternSchema, content: v.string() }),
    v.object({ type: v.literal('Strip'), strip_left: flag(true), strip_right: flag(true) }),
    v.object({ type: v.literal('Prepend'), prepend: v.string() }),
    v.object({
      type: v.literal('Precompiled'),
      precompiled_charsmap: v.pipe(v.string(), v.check(isCharacterMap, 'a table of characters')),
    }),
    v.object({ type: v.literal('Sequence'), normalizers: v.array(items) }),
  ]) as unknown as Schema<NormalizerConfig>;
}

/** A step that cuts a text, or that writes what it cuts anew. */
type PreTokenizerStep = PreTokenizerConfig | SpellingConfig;

function preTokenizerSchema(depth: number): Schema<PreTokenizerStep> {
  const plain = (['BertPreTokenizer', 'Whitespace', 'WhitespaceSplit'] as const).map((type) => v.object({ type: v.literal(type) }));
  const items: Schema<PreTokenizerStep> = depth > 0 ? preTokenizerSchema(depth - 1) : v.never('no sequences nested this deep');
  return v.variant('type', [
    ...plain,
    v.object({ type: v.literal('Punctuation'), behavior: v.optional(behaviorSchema, 'Isolated') }),
    v.object({ type: v.literal('Digits'), individual_digits: flag(false) }),
    v.object({ type: v.literal('CharDelimiterSplit'), delimiter: nonEmpty }),
    v.object({ type: v.literal('Split'), pattern: patternSchema, behavior: behaviorSchema, invert: flag(false) }),
    v.object({ type: v.literal('Sequence'), pretokenizers: v.array(items) }),
    byteLevelSchema,
    metaspaceSchema,
  ]) as unknown as Schema<PreTokenizerStep>;
}

/** Items of a template, and ids of a special token: more than any has. Each of them is part of every text. */
const maxOfTemplate = 64;

const templateItemsSchema = v.array(
  v.union(
    [
      v.object({ SpecialToken: v.object({ id: v.string(), type_id: id }) }),
      v.object({ Sequence: v.object({ id: v.picklist(['A', 'B']), type_id: id }) }),
    ],
    '{ "SpecialToken": { "id", "type_id" } } or { "Sequence": { "id": "A" or "B", "type_id" } }',
  ),
);

const namedToken = v.tuple([v.string(), id]);

const postProcessorSchema = v.variant('type', [
  v.object({
    type: v.literal('TemplateProcessing'),
    single: v.pipe(templateItemsSchema, v.maxLength(maxOfTemplate)),
    pair: v.pipe(templateItemsSchema, v.maxLength(maxOfTemplate)),
    special_tokens: v.record(v.string(), v.object({ ids: v.pipe(v.array(id), v.maxLength(maxOfTemplate)) })),
  }),
  v.object({ type: v.literal('BertProcessing'), sep: namedToken, cls: namedToken }),
  v.object({
    type: v.literal('RobertaProcessing'),
    sep: namedToken,
    cls: namedToken,
    trim_offsets: flag(true),
    add_prefix_space: flag(true),
  }),
  byteLevelSchema,
]);

const fileSchema = v.object({
  // The rest of it is said anew at every call, there and here.
  truncation: v.nullish(v.object({ direction: v.optional(v.string()) })),
  added_tokens: v.nullish(v.array(addedTokenSchema), []),
  normalizer: v.nullish(normalizerSchema(deepestNesting), null),
  pre_tokenizer: v.nullish(preTokenizerSchema(deepestNesting), null),
  post_processor: v.nullish(postProcessorSchema, null),
  decoder: v.nullish(
    v.variant('type', [
      v.object({ type: v.literal('WordPiece'), prefix: v.optional(v.string(), '##'), cleanup: flag(true) }),
      byteLevelSchema,
      metaspaceSchema,
    ]),
    null,
  ),
  model: modelSchema,
});

type File = v.InferOutput<typeof fileSchema>;

/** The JSON of a tokenizer.json, which holds more than other files do. @throws InputError if the file cannot be read or is no JSON */
export const readTokenizerJson = (path: string): Promise<unknown> => readJson(path, extentOfTokenizer);

/**
 * Checks the content of a tokenizer.json.
 *
 * @param source the file's name, for messages.
 * @throws {InputError} naming the file and the key if something is missing, malformed or of a kind that is not supported.
 */
export function parseTokenizerJson(json: unknown, source: string): TokenizerConfig {
  const result = v.safeParse(fileSchema, json, { abortEarly: true });
  if (!result.success) throw new InputError(`${source}: ${describe(result.issues[0])}`);
  const file = result.output;
  const { model } = file;
  const units = file.added_tokens.reduce((sum, { content }) => sum + content.length, 0);
  if (units > maxAddedUnits)
    throw new InputError(`${source}: added_tokens: found ${units} characters in all, expected at most ${maxAddedUnits}`);
  checkSteps([file.normalizer, file.pre_tokenizer], ['normalizer', 'pre_tokenizer'], source);
  const tokens = vocabularyOf(file, source);
  const addedTokens = withIds(file.added_tokens, model.vocabulary);
  for (const { id: addedId, content } of addedTokens) tokens[addedId] = content;
  if (tokens.length > maxTokens)
    throw new InputError(`${source}: added_tokens: found ids up to ${tokens.length - 1}, expected at most ${maxTokens - 1}`);
  return {
    addedTokens,
    normalizer: file.normalizer,
    ...separateSpelling(file.pre_tokenizer, source),
    trimOffsets: trimmingOf(file.post_processor),
    template: templateOf(file.post_processor, tokens.length, source),
    truncationSide: file.truncation?.direction === 'Left' ? 'left' : 'right',
    decoder: file.decoder,
    model,
    tokens,
  };
}

/** Cutting, and how what is cut is written, which has to be the last step. */
function separateSpelling(
  step: PreTokenizerStep | null,
  source: string,
): { preTokenizer: PreTokenizerConfig | null; spelling: SpellingConfig | null } {
  if (step === null) return { preTokenizer: null, spelling: null };
  if (isSpelling(step)) return { preTokenizer: null, spelling: step };
  if (step.type !== 'Sequence') return { preTokenizer: step, spelling: null };
  const steps: readonly PreTokenizerStep[] = step.pretokenizers;
  const last = steps.at(-1);
  const spelling = last && isSpelling(last) ? last : null;
  const pretokenizers = (spelling ? steps.slice(0, -1) : steps) as PreTokenizerConfig[];
  const refused = pretokenizers.find(holdsSpelling);
  if (refused)
    throw new InputError(`${source}: pre_tokenizer: found ${refused.type} before other steps, expected ByteLevel or Metaspace last`);
  return { preTokenizer: { type: 'Sequence', pretokenizers }, spelling };
}

const isSpelling = (step: PreTokenizerStep): step is SpellingConfig => step.type === 'ByteLevel' || step.type === 'Metaspace';
const holdsSpelling = (step: PreTokenizerStep): boolean =>
  isSpelling(step) || (step.type === 'Sequence' && step.pretokenizers.some(holdsSpelling));

function trimmingOf(processor: File['post_processor']): TokenizerConfig['trimOffsets'] {
  if (processor?.type !== 'RobertaProcessing' && processor?.type !== 'ByteLevel') return null;
  return processor.trim_offsets ? { addsSpace: processor.add_prefix_space } : null;
}

/** Steps that a text goes through: more than any tokenizer has. */
const maxSteps = 100;

/** @throws InputError if there are too many steps, or one has a pattern that cannot be used */
function checkSteps(roots: readonly (NormalizerConfig | PreTokenizerStep | null)[], keys: readonly string[], source: string): void {
  let steps = 0;
  const check = (step: NormalizerConfig | PreTokenizerStep, key: string): void => {
    if (++steps > maxSteps) throw new InputError(`${source}: ${key}: is one of more than ${maxSteps} steps, expected fewer`);
    if ('normalizers' in step) for (const [i, inner] of step.normalizers.entries()) check(inner, `${key}.normalizers.${i}`);
    else if ('pretokenizers' in step) for (const [i, inner] of step.pretokenizers.entries()) check(inner, `${key}.pretokenizers.${i}`);
    else if ('delimiter' in step) checkPattern({ String: step.delimiter }, `${key}.delimiter`);
    else if ('pattern' in step) checkPattern(step.pattern, `${key}.pattern`);
  };
  const checkPattern = (pattern: Pattern, key: string): void => {
    try {
      compilePattern(pattern);
    } catch (error) {
      throw new InputError(`${source}: ${key}: ${quoted(Object.values(pattern)[0])} ${(error as Error).message}`, { cause: error });
    }
  };
  roots.forEach((root, i) => {
    if (root) check(root, keys[i]);
  });
}

function describe(issue: v.BaseIssue<unknown>): string {
  const key = v.getDotPath(issue);
  if (key === null) return `found ${issue.received}, expected the object that Hugging Face's tokenizers write`;
  const message = issue.message.startsWith('Invalid ') ? issue.expected : issue.message;
  if (issue.received === 'undefined') return `${key}: is missing, expected ${message === `"${key}"` ? 'a value' : message}`;
  return `${key}: found ${issue.received.replaceAll(/\s+/g, ' ').slice(0, 80)}, expected ${message}`;
}

/** The vocabulary's token of every id; of two tokens with one id the later. */
function vocabularyOf(file: File, source: string): (string | undefined)[] {
  const { vocabulary: vocab } = file.model;
  const tokens: (string | undefined)[] = [];
  let highest = -1;
  for (const [token, tokenId] of Object.entries(vocab)) {
    if (!Number.isInteger(tokenId) || (tokenId as number) < 0 || (tokenId as number) >= maxTokens) {
      throw new InputError(`${source}: model.vocab[${quoted(token)}]: found ${quoted(tokenId)}, expected an id from 0 to ${maxTokens - 1}`);
    }
    highest = Math.max(highest, tokenId as number);
  }
  if (highest < 0) throw new InputError(`${source}: model.vocab: found no token, expected some`);
  tokens.length = highest + 1;
  for (const [token, tokenId] of Object.entries(vocab)) tokens[tokenId as number] = token;
  return tokens;
}

/**
 * Added tokens with the ids that Hugging Face's tokenizers give them, whatever the file says: the vocabulary's if it has them, else the next ones
 * behind it, counted by its tokens. Of two with the same content the later counts.
 */
export function withIds(added: readonly AddedToken[], vocabulary: Record<string, number>): AddedToken[] {
  const all = new Map<string, AddedToken>();
  let next = Object.keys(vocabulary).length;
  for (const token of added) {
    const known = Object.hasOwn(vocabulary, token.content) ? vocabulary[token.content] : all.get(token.content)?.id;
    all.set(token.content, { ...token, id: known ?? next++ });
  }
  return [...all.values()];
}

function templateOf(processor: File['post_processor'], vocabularySize: number, source: string): Template {
  const a: TemplateItem = { sequence: 'A', typeId: 0 };
  const b: TemplateItem = { sequence: 'B', typeId: 1 };
  if (processor === null || processor.type === 'ByteLevel') return { single: [a], pair: [a, b], pairWithoutSpecials: [a, b] };
  const checkedId = (key: string, tokenId: number): number => {
    if (tokenId < vocabularySize) return tokenId;
    throw new InputError(`${source}: post_processor.${key}: found id ${tokenId}, expected one of the vocabulary's ${vocabularySize}`);
  };
  if (processor.type === 'BertProcessing') {
    const cls: TemplateItem = { ids: [checkedId('cls', processor.cls[1])], typeId: 0 };
    const sep: TemplateItem = { ids: [checkedId('sep', processor.sep[1])], typeId: 0 };
    return { single: [cls, a, sep], pair: [cls, a, sep, b, { ...sep, typeId: 1 }], pairWithoutSpecials: [a, b] };
  }
  if (processor.type === 'RobertaProcessing') {
    const cls: TemplateItem = { ids: [checkedId('cls', processor.cls[1])], typeId: 0 };
    const sep: TemplateItem = { ids: [checkedId('sep', processor.sep[1])], typeId: 0 };
    const second: TemplateItem = { sequence: 'B', typeId: 0 };
    return { single: [cls, a, sep], pair: [cls, a, sep, sep, second, sep], pairWithoutSpecials: [a, second] };
  }
  const specials = new Map(Object.entries(processor.special_tokens));
  const convert = (key: 'single' | 'pair', wanted: string): TemplateItem[] => {
    const items = processor[key].map((item, index): TemplateItem => {
      if ('Sequence' in item) return { sequence: item.Sequence.id, typeId: item.Sequence.type_id };
      const name = item.SpecialToken.id;
      const special = specials.get(name);
      if (!special)
        throw new InputError(
          `${source}: post_processor.${key}[${index}]: found ${quoted(name)}, expected a name of post_processor.special_tokens`,
        );
      const ids = special.ids.map((tokenId) => checkedId(`special_tokens[${quoted(name)}].ids`, tokenId));
      return { ids, typeId: item.SpecialToken.type_id };
    });
    const found = items.flatMap((item) => ('sequence' in item ? item.sequence : [])).join('');
    if (found !== wanted)
      throw new InputError(`${source}: post_processor.${key}: found the sequences ${quoted(found)}, expected ${quoted(wanted)}`);
    return items;
  };
  const pair = convert('pair', 'AB');
  return { single: convert('single', 'A'), pair, pairWithoutSpecials: pair.filter((item) => 'sequence' in item) };
}
