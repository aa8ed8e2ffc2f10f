/** A tokenizer's files in a model's folder, from which transformers' AutoTokenizer and {@link loadTokenizer} make the same tokenizer again. */
import { joinPath } from '#platform';
import { InputError } from '../errors.ts';
import { writeFileAtomic } from '../io/files.ts';
import { lowerCases } from './normalizer.ts';
import { Tokenizer } from './tokenizer.ts';
import { isBertTokenizer } from './tokenizer_config.ts';
import { parseTokenizerJson } from './tokenizer_json.ts';

/** What of a model its tokenizer's files must know. */
export interface TokenizedModel {
  /** Most tokens of a text. */
  maxPositionEmbeddings: number;
  /** How many token types it tells apart; 0 if none. */
  typeVocabSize: number;
}

/** Keys of a tokenizer_config.json that are true of the folder it came from alone, or name code that does not go along; max_len is a name of before. */
const ofOtherFolder = /^(auto_map|name_or_path|(tokenizer|vocab|special_tokens_map)_file|is_local|local_files_only|max_len)$/;

/** The class that takes the tokenizer.json as it is; the same under the name that transformers 4 and 5 both know. */
const plainClass = 'PreTrainedTokenizerFast';

/**
 * Writes tokenizer.json and tokenizer_config.json, each aside and then renamed.
 * @param tokenizer a Tokenizer, or the content of a tokenizer.json, parsed
 */
export async function saveTokenizer(folder: string, tokenizer: unknown, model: TokenizedModel): Promise<void> {
  const write = (name: string, value: unknown) => writeFileAtomic(joinPath(folder, name), `${JSON.stringify(value, undefined, 2)}\n`);
  await write('tokenizer_config.json', tokenizerConfigOf(tokenizer, model));
  await write('tokenizer.json', tokenizer);
}

/** What stands in tokenizer_config.json beside a tokenizer: what stood there already, but no more tokens than the model takes; else what it must be. */
function tokenizerConfigOf(tokenizer: unknown, model: TokenizedModel): Record<string, unknown> {
  const known = tokenizer instanceof Tokenizer ? tokenizer : parsed(tokenizer);
  const { maxLength = model.maxPositionEmbeddings, truncationSide, config } = known?.settings ?? {};
  const length = Math.min(maxLength, model.maxPositionEmbeddings);
  if (!known) return { tokenizer_class: plainClass, model_max_length: length };
  const own = Object.entries(config ?? {}).filter(([key, value]) => value !== undefined && !ofOtherFolder.test(key));
  return {
    ...madeConfig(known, model),
    ...Object.fromEntries(own),
    ...(truncationSide === 'left' && { truncation_side: truncationSide }),
    model_max_length: length,
  };
}

/** undefined of a tokenizer of another kind, which this library does not run but carries along. */
function parsed(json: unknown): Tokenizer | undefined {
  try {
    return Tokenizer.fromJson(json);
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

/** For a tokenizer that came without one: of BERT's where that makes the same, since every program that knows BERT knows that class. */
function madeConfig(tokenizer: Tokenizer, { typeVocabSize }: TokenizedModel): Record<string, unknown> {
  const json = tokenizer.json as { normalizer?: { strip_accents?: unknown; handle_chinese_chars?: unknown } | null };
  const { normalizer, model } = parseTokenizerJson(json, 'the tokenizer');
  const { padId, clsId, sepId, maskId, bosId, eosId } = tokenizer;
  const ids = { pad_token: padId, cls_token: clsId, sep_token: sepId, mask_token: maskId };
  const specials: Record<string, string> = model.unknownToken === undefined ? {} : { unk_token: model.unknownToken };
  const ofWriting = clsId === undefined && { bos_token: bosId, eos_token: eosId };
  for (const [name, id] of Object.entries({ ...ids, ...ofWriting }))
    if (id !== undefined) specials[name] = tokenizer.idToToken(id) as string;
  const config = { do_lower_case: lowerCases(normalizer), ...specials };
  const bert = {
    tokenizer_class: 'BertTokenizer',
    ...config,
    strip_accents: json.normalizer?.strip_accents ?? null,
    tokenize_chinese_chars: json.normalizer?.handle_chinese_chars ?? true,
  };
  // A BertTokenizer adds those of its tokens that are not there.
  if (
    model.type === 'WordPiece' &&
    Object.values(ids).every((id) => id !== undefined) &&
    typeVocabSize > 0 &&
    isBertTokenizer(tokenizer, bert)
  )
    return bert;
  // Without this transformers 5 tells a BERT nothing of the second text.
  const inputs = typeVocabSize > 1 &&
    tokenizer.settings.tokenTypes !== false && { model_input_names: ['input_ids', 'token_type_ids', 'attention_mask'] };
  return { tokenizer_class: plainClass, ...config, ...inputs };
}
