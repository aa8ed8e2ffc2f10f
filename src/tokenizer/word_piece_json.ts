import type { NormalizerConfig } from './normalizer.ts';
import type { PreTokenizerConfig } from './pre_tokenizer.ts';
import type { SpecialTokens } from './train_wordpiece.ts';

/** How texts are made alike and cut into words before a WordPiece vocabulary is learned or used. */
export interface TextStyle {
  normalizer: NormalizerConfig;
  preTokenizer: PreTokenizerConfig;
}

/** BERT's (arXiv 1810.04805): control characters go, Chinese characters stand alone, lower case; every script stays. */
const bert = (stripAccents: boolean): TextStyle => ({
  normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: stripAccents, lowercase: true },
  preTokenizer: { type: 'BertPreTokenizer' },
});

/** The styles of new tokenizers by their names, the one by default first. */
export const textStyles = {
  bert: bert(false),
  'bert-without-accents': bert(true),
  /** crammedBERT's (arXiv 2212.14034): straight quotes, no accents, lower case, single spaces, ASCII only. */
  crammed: {
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Replace', pattern: { String: '``' }, content: '"' },
        { type: 'Replace', pattern: { String: "''" }, content: '"' },
        { type: 'NFD' },
        { type: 'Lowercase' },
        { type: 'StripAccents' },
        { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' },
        { type: 'Replace', pattern: { Regex: '[^\\x00-\\x7F]+' }, content: '' },
      ],
    },
    preTokenizer: { type: 'Whitespace' },
  },
} as const satisfies Record<string, TextStyle>;

export type TextStyleName = keyof typeof textStyles;

/** Words of more characters become the unknown token. */
export const longestWord = 100;

/**
 * The tokenizer.json of a WordPiece vocabulary. `tokens[id]` is the token of an id, the special ones first; a single text becomes `A [SEP]` and
 * a pair `[CLS] A [SEP] B [SEP]`, all of type 0, as crammedBERT has it, whatever the style.
 */
export function wordPieceJson(tokens: readonly string[], specials: SpecialTokens, { normalizer, preTokenizer }: TextStyle) {
  const idOf = (token: string): number => tokens.indexOf(token);
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const text = (id: 'A' | 'B') => ({ Sequence: { id, type_id: 0 } });
  const entry = (token: string) => [token, { id: token, ids: [idOf(token)], tokens: [token] }];
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: tokens.slice(0, Object.keys(specials).length).map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer,
    pre_tokenizer: preTokenizer,
    post_processor: {
      type: 'TemplateProcessing',
      single: [text('A'), special(specials.sep)],
      pair: [special(specials.cls), text('A'), special(specials.sep), text('B'), special(specials.sep)],
      special_tokens: Object.fromEntries([entry(specials.cls), entry(specials.sep)]),
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: specials.unknown,
      continuing_subword_prefix: '##',
      max_input_chars_per_word: longestWord,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    },
  };
}

export type WordPieceJson = ReturnType<typeof wordPieceJson>;
