import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { alignedText } from '../../src/tokenizer/aligned_text.ts';
import { createNormalizer, type NormalizerConfig } from '../../src/tokenizer/normalizer.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';

/** Each normalizer, pre-tokenizer and kind of added token, against what Hugging Face's tokenizers does (see the fixture's make.py). */
interface Fixture {
  vocabulary: Record<string, number>;
  texts: string[];
  cases: {
    tokenizer: { normalizer: unknown; pre_tokenizer: unknown; model: object };
    encodings: [number, string | null, boolean, number[], string[], number[], number[], string][];
  }[];
}

const fixture: Fixture = JSON.parse(
  readFileSync(fileURLToPath(new URL('../fixtures/tokenizer-components/encodings.json', import.meta.url)), 'utf8'),
);

describe('every kind of part agrees with Hugging Face tokenizers', () => {
  it.each(
    fixture.cases.map(
      ({ tokenizer, encodings }) => [`${name(tokenizer.normalizer)} ${name(tokenizer.pre_tokenizer)}`, tokenizer, encodings] as const,
    ),
  )('%s', (_, json, encodings) => {
    const tokenizer = Tokenizer.fromJson({ ...json, model: { ...json.model, vocab: fixture.vocabulary } });
    for (const [index, pair, special, ids, tokens, typeIds, offsets, decoded] of encodings) {
      const text = fixture.texts[index];
      const encoding = tokenizer.encode(text, { pair: pair ?? undefined, addSpecialTokens: special });
      expect({ text, ids: encoding.ids, tokens: encoding.tokens, typeIds: encoding.typeIds }).toEqual({ text, ids, tokens, typeIds });
      expect({ text, tokens, offsets: encoding.offsets.flat() }).toEqual({ text, tokens, offsets });
      expect({ text, decoded: tokenizer.decode(ids, { skipSpecialTokens: special }) }).toEqual({ text, decoded });
    }
  });
});

const vocabulary = Object.fromEntries(
  ['[UNK]', 'a', 'q', 'abq', 'x', '##b', '##x', 'axbx', 'b', 'xb', 'qaq', 'q𝐀q'].map((token, id) => [token, id]),
);
const tokenizerOf = (parts: object) =>
  Tokenizer.fromJson({ ...parts, model: { type: 'WordPiece', unk_token: '[UNK]', max_input_chars_per_word: 1000, vocab: vocabulary } });

// What the reference (tokenizers 0.23.3) gives.
it.each([
  ['\\s*$', 'ab ', 'abq'],
  ['b?', 'ab', 'qaq'],
  ['b?', '𝐀', 'q𝐀q'],
])('what matches nothing is found neither just behind a match nor within a character: %s of %j', (Regex, text, expected) => {
  const tokenizer = tokenizerOf({ normalizer: { type: 'Replace', pattern: { Regex }, content: 'q' } });
  const { tokens, ids } = tokenizer.encode(text);
  expect(tokens).toEqual([expected]);
  expect(ids).toEqual(tokenizer.encodeIds(text));
});

it('what matches nothing separates in Contiguous', () => {
  const split = { type: 'Split', pattern: { Regex: '(?=x)' }, behavior: 'Contiguous', invert: false };
  expect(tokenizerOf({ pre_tokenizer: split }).encode('axbx').tokens).toEqual(['a', 'xb', 'x']);
});

it('of two added tokens that are the same once normalized, the first counts', () => {
  const token = (content: string, id: number) => ({ content, id, normalized: true });
  const tokenizer = tokenizerOf({ normalizer: { type: 'Lowercase' }, added_tokens: [token('QQ', 12), token('qq', 13)] });
  expect(tokenizer.encode('a qq QQ').ids.filter((id) => id >= 12)).toEqual([12, 12]);
});

it('what is inserted before the first character after an added token stands there', () => {
  const mask = { content: '[MASK]', id: 12, normalized: false, special: true };
  const normalizer = { type: 'Replace', pattern: { Regex: '^' }, content: 'q' };
  const tokenizer = tokenizerOf({
    added_tokens: [mask],
    normalizer,
    pre_tokenizer: { type: 'Split', pattern: { String: 'q' }, behavior: 'Isolated' },
  });
  expect(tokenizer.encode('a[MASK]b').offsets.slice(-2)).toEqual([
    [7, 7],
    [7, 8],
  ]);
});

it('long words are taken apart in linear steps: in cubic ones, as once, this would take minutes', () => {
  const tokenizer = tokenizerOf({});
  for (let i = 0; i < 15_000; i++) expect(tokenizer.encodeIds(`a${'b'.repeat(990)}${i}`)).toEqual([0]);
});

it('a character with thousands of marks is one token', () => {
  const marked = `a${'\u0301\u0316'.repeat(3000)}`;
  expect(tokenizerOf({ normalizer: { type: 'NFC' } }).encode(marked).offsets).toHaveLength(1);
});

function name(part: unknown): string {
  return JSON.stringify(part);
}

it('a normalizer that makes a text ever longer is stopped', () => {
  const twice = { type: 'Replace', pattern: { String: 'a' }, content: 'aa' };
  const normalizers = [
    { type: 'Sequence', normalizers: new Array(20).fill(twice) },
    { type: 'Sequence', normalizers: new Array(20).fill(twice) },
  ];
  const tokenizer = tokenizerOf({ normalizer: { type: 'Sequence', normalizers } });
  expect(() => tokenizer.encode('a')).toThrow(/makes more than 10064 characters of a text of 1, expected fewer/);
  const aligned = createNormalizer({ type: 'Sequence', normalizers } as NormalizerConfig);
  expect(() => aligned.align(alignedText('a'))).toThrow(InputError);
  const once = tokenizerOf({ normalizer: { type: 'Replace', pattern: { String: 'a' }, content: 'b'.repeat(20_000) } });
  expect(() => once.encode('a')).toThrow(InputError);
  // What grows most of all that is meant: one character becomes 18.
  expect(tokenizerOf({ normalizer: { type: 'NFKD' } }).encode('\ufdfa'.repeat(5000)).ids.length).toBeGreaterThan(0);
});
