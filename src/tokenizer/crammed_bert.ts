import type { NormalizerConfig } from './normalizer.ts';
import type { PreTokenizerConfig } from './pre_tokenizer.ts';
import type { SpecialTokens } from './train_wordpiece.ts';

/** crammedBERT's normaliser (arXiv 2212.14034): straight quotes, no accents, lower case, single spaces, ASCII only. */
export const crammedBertNormalizer: NormalizerConfig = {
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
};

export const crammedBertPreTokenizer: PreTokenizerConfig = { type: 'Whitespace' };

/**
 * The tokenizer.json of a WordPiece vocabulary in crammedBERT's style. `tokens[id]` is the token of an id, the special ones first; a single text
 * becomes `A [SEP]` and a pair `[CLS] A [SEP] B [SEP]`, all of type 0, as crammedBERT has it.
 */
export function wordPieceJson(tokens: readonly string[], specials: SpecialTokens) {
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
    normalizer: crammedBertNormalizer,
    pre_tokenizer: crammedBertPreTokenizer,
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
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    },
  };
}

export type WordPieceJson = ReturnType<typeof wordPieceJson>;
