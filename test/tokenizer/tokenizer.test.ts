import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { alignedText } from '../../src/tokenizer/aligned_text.ts';
import { createNormalizer, type NormalizerConfig } from '../../src/tokenizer/normalizer.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { textStyles, wordPieceJson } from '../../src/tokenizer/word_piece_json.ts';
import { goldenJson, goldenPath } from '../goldens.ts';

interface Encodings {
  singles: { text: string; ids: number[]; tokens: string[]; offsets: [number, number][]; decoded: string }[];
  pairs: { text: string; pair: string; ids: number[]; typeIds: number[] }[];
}

describe.each(['bert', 'crammed'])("the goldens' %s tokenizer", (name) => {
  const json = goldenJson<{ model: { vocab: object } }>('tokenizers', `${name}.json`);
  const { singles, pairs } = goldenJson<Encodings>('tokenizers', `${name}-encodings.json`);
  const tokenizer = Tokenizer.fromJson(json);

  it('loads from its file', async () => {
    const loaded = await Tokenizer.load(goldenPath('tokenizers', `${name}.json`));
    expect(loaded.json).toEqual(json);
    expect(loaded.vocabularySize).toBe(Object.keys(json.model.vocab).length);
  });

  it.each(singles)('encodes $text', ({ text, ids, tokens, offsets, decoded }) => {
    const encoding = tokenizer.encode(text);
    expect(encoding.ids).toEqual(ids);
    expect(encoding.tokens).toEqual(tokens);
    expect(encoding.offsets).toEqual(offsets);
    expect(encoding.typeIds).toEqual(ids.map(() => 0));
    expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(decoded);
  });

  it.each(pairs)('encodes the pair $text | $pair', ({ text, pair, ids, typeIds }) => {
    const encoding = tokenizer.encode(text, { pair });
    expect(encoding.ids).toEqual(ids);
    expect(encoding.typeIds).toEqual(typeIds);
    expect(encoding.offsets).toHaveLength(ids.length);
  });

  it('keeps to maxLength, cutting the longer of two texts, as the reference implementation does', () => {
    const cut = (text: string, pair: string | undefined, maxLength: number) => tokenizer.encode(text, { pair, maxLength });
    const unknown = (count: number) => Array.from({ length: count }, () => '.').join(' ');
    const specials = [cut('', undefined, 9).ids.length, cut('', '', 9).ids.length];
    // Tokens of the two texts, how many of them may stay, and what the tokenizers library leaves of each.
    for (const [first, second, most, ...left] of [
      [10, 4, 6, 3, 3],
      [4, 10, 6, 3, 3],
      [6, 8, 7, 3, 4],
      [8, 6, 7, 4, 3],
      [6, 6, 7, 3, 4],
      [6, 6, 8, 4, 4],
      [9, 2, 3, 2, 1],
    ]) {
      const whole = tokenizer.encode(unknown(first), { pair: unknown(second) });
      const { ids, typeIds, tokens, offsets, truncated } = cut(unknown(first), unknown(second), most + specials[1]);
      const length = (type: number) => tokens.filter((token, i) => token === '.' && typeIds[i] === type).length;
      expect([ids.length, tokens.length, typeIds.length, offsets.length]).toEqual(Array(4).fill(most + specials[1]));
      expect(truncated).toBe(whole.ids.length - ids.length);
      if (typeIds.includes(1)) expect([length(0), length(1)]).toEqual(left);
    }
    const { ids, truncated } = cut(unknown(5), undefined, 20);
    expect(truncated).toBe(0);
    expect(ids).toEqual(tokenizer.encode(unknown(5)).ids);
    const few = specials[0] - 1;
    expect(() => cut('a', undefined, few)).toThrow(`maxLength: got ${few}, expected a whole number from ${specials[0]}`);
  });

  it('encodes in bulk as it encodes singly', () => {
    for (const { text } of singles) expect(tokenizer.encodeIds(text)).toEqual(tokenizer.encode(text, { addSpecialTokens: false }).ids);
  });

  it('offsets lie within the text, in order, and tokens without accents stand where they say', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.oneof(fc.constantFrom(...'aZé\u0301 İ’.東``'), fc.string({ unit: 'grapheme', maxLength: 1 })) }),
        (text) => {
          const { tokens, offsets } = tokenizer.encode(text, { addSpecialTokens: false });
          const characters = Array.from(text);
          let position = 0;
          offsets.forEach(([start, end], index) => {
            expect(start).toBeGreaterThanOrEqual(position);
            expect(end).toBeGreaterThan(start);
            expect(end).toBeLessThanOrEqual(characters.length);
            position = start;
            const piece = tokens[index].replace('##', '');
            const source = characters.slice(start, end).join('');
            if (/^[a-z0-9]+$/.test(piece) && /^[A-Za-z0-9]+$/.test(source)) expect(source.toLowerCase()).toBe(piece);
          });
        },
      ),
      { numRuns: 300 },
    );
  });
});

const names = { pad: '<pad>', unknown: '<unk>', cls: '<s>', sep: '</s>', mask: '<mask>' };
const tokens = [
  ...Object.values(names),
  ...'abcdefghijklmnopqrstuvwxyz.,',
  ...Array.from('abcdefghijklmnopqrstuvwxyz', (letter) => `##${letter}`),
  'the',
  '##ing',
];
const json = wordPieceJson(tokens, names, textStyles.crammed);
const small = Tokenizer.fromJson(json);

it("gives the ids that the library's tokenizer gives for English", () => {
  const library = new LibraryTokenizer(json, {});
  for (const text of ['The king, the Thing.', '  brings 12 <mask> things ', 'naïve']) {
    const { ids } = library.encode(text);
    expect(small.encode(text).ids).toEqual(ids);
  }
});

describe('special tokens', () => {
  it('are found by their usual names', () => {
    expect([small.padId, small.unknownId, small.clsId, small.sepId, small.maskId, small.maskToken]).toEqual([0, 1, 2, 3, 4, '<mask>']);
    expect(small.specialIds).toEqual(new Set([0, 1, 2, 3, 4]));
    const [pad, unknown, cls, sep, mask] = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];
    const other = Tokenizer.fromJson(
      wordPieceJson([pad, unknown, cls, sep, mask, 'a'], { pad, unknown, cls, sep, mask }, textStyles.crammed),
    );
    expect([other.padId, other.unknownId, other.clsId, other.sepId, other.maskId, other.maskToken]).toEqual([0, 1, 2, 3, 4, '[MASK]']);
  });

  it('are recognized in a text', () => {
    const { ids, offsets } = small.encode('a<mask>b', { addSpecialTokens: false });
    expect(ids).toEqual([small.tokenToId('a'), small.maskId, small.tokenToId('b')]);
    expect(offsets).toEqual([
      [0, 1],
      [1, 7],
      [7, 8],
    ]);
  });

  it('are shown unless told not to', () => {
    expect(small.decode(small.encode('the bat').ids)).toBe('the bat </s>');
    expect(small.decode(small.encode('the bat').ids, { skipSpecialTokens: true })).toBe('the bat');
  });
});

it('tokens and ids belong together', () => {
  expect(small.vocabularySize).toBe(tokens.length);
  for (let id = 0; id < small.vocabularySize; id += 1) expect(small.tokenToId(small.idToToken(id) as string)).toBe(id);
  expect(small.idToToken(small.vocabularySize)).toBeUndefined();
  expect(small.tokenToId('no such token')).toBeUndefined();
  expect(() => small.decode([61])).toThrow(new InputError('token id 61: expected a whole number from 0 to 60'));
});

it('gives the same ids when words come again, and for words too long to be known', () => {
  for (const word of ['king', 'x'.repeat(100), 'x'.repeat(101), 'x'.repeat(5000)]) {
    const ids = small.encodeIds(word);
    expect(ids).toEqual(word.length > 100 ? [small.unknownId] : small.encodeIds(`${word} the`).slice(0, -1));
    expect(small.encodeIds(word)).toEqual(ids);
  }
});

it('refuses what is not a text', () => {
  expect(() => small.encode(undefined as unknown as string)).toThrow(InputError);
});

describe('normalizers keep track of characters without changing what they do', () => {
  const step = fc.constantFrom<NormalizerConfig>(
    { type: 'NFC' },
    { type: 'NFD' },
    { type: 'NFKC' },
    { type: 'NFKD' },
    { type: 'Lowercase' },
    { type: 'StripAccents' },
    { type: 'Strip', strip_left: true, strip_right: true },
    { type: 'Prepend', prepend: 'é' },
    { type: 'Replace', pattern: { String: 'a' }, content: 'éa' },
    { type: 'Replace', pattern: { Regex: '\\s*' }, content: '-' },
    { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
  );
  const character = fc.constantFrom(...'aZé İςΣﬁ각가東\u0301\u0327\u0308\u0345½\u0958\t\u200b');
  const text = fc.string({ unit: fc.oneof(character, fc.string({ unit: 'binary', maxLength: 1 })), maxLength: 30 });

  it('on any text', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 4 }), text, (normalizers, sample) => {
        const normalizer = createNormalizer({ type: 'Sequence', normalizers });
        const aligned = normalizer.align(alignedText(sample));
        expect(aligned.characters.join('')).toBe(normalizer.normalize(sample));
        expect(aligned.starts).toHaveLength(aligned.characters.length);
        expect(aligned.ends).toHaveLength(aligned.characters.length);
      }),
      { numRuns: 1000 },
    );
  });
});
