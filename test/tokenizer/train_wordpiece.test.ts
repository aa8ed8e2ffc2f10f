import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import type { TrainingProgress } from '../../src/tokenizer/merge_symbols.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { trainWordPiece } from '../../src/tokenizer/train_wordpiece.ts';

const specials = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];

/** Tokens in the order of their ids. */
async function vocabulary(texts: string[], vocabularySize: number): Promise<string[]> {
  const tokenizer = Tokenizer.fromJson(await trainWordPiece(texts, { vocabularySize }));
  return Array.from({ length: tokenizer.vocabularySize }, (_, id) => tokenizer.idToToken(id) as string);
}

/**
 * The same vocabulary by the definition: count all pairs anew before each merge. Words are `count` times their text.
 */
function byDefinition(words: [string, number][], wanted: number): string[] {
  const alphabet = Array.from(new Set(words.flatMap(([word]) => Array.from(word)))).sort();
  const tokens = [...specials, ...alphabet, ...alphabet.map((character) => `##${character}`)];
  const pieces = words.map(([word, count]) => ({ count, ids: Array.from(word, (c, i) => tokens.indexOf(i === 0 ? c : `##${c}`)) }));
  while (tokens.length < wanted) {
    const counts = new Map<string, number>();
    for (const { ids, count } of pieces) {
      for (let i = 0; i + 1 < ids.length; i += 1)
        counts.set(`${ids[i]} ${ids[i + 1]}`, (counts.get(`${ids[i]} ${ids[i + 1]}`) ?? 0) + count);
    }
    const order = Array.from(counts, ([pair, count]) => ({ pair: pair.split(' ').map(Number), count }));
    order.sort((x, y) => y.count - x.count || x.pair[0] - y.pair[0] || x.pair[1] - y.pair[1]);
    if (order.length === 0) break;
    const [left, right] = order[0].pair;
    const token = tokens[left] + tokens[right].slice(2);
    if (!tokens.includes(token)) tokens.push(token);
    for (const { ids } of pieces) {
      for (let i = 0; i + 1 < ids.length; i += 1) if (ids[i] === left && ids[i + 1] === right) ids.splice(i, 2, tokens.indexOf(token));
    }
  }
  return tokens;
}

describe('trainWordPiece', () => {
  it('merges the most frequent pair, equal ones by id', async () => {
    // 'a' 'b' twice in ab; then 'c' '##a' and 'c' '##b' once each.
    expect(await vocabulary(['ab ab ca', 'cb'], 14)).toEqual([...specials, 'a', 'b', 'c', '##a', '##b', '##c', 'ab', 'ca', 'cb']);
  });

  it('agrees with the definition', async () => {
    // A fixed sequence of words with many repeated and overlapping pairs.
    let state = 1;
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (const letters of ['a', 'ab', 'abc', 'abcdefgh']) {
      const counts = new Map<string, number>();
      for (let i = 0; i < 300; i += 1) {
        const word = Array.from({ length: 1 + random(12) }, () => letters[random(letters.length)]).join('');
        counts.set(word, (counts.get(word) ?? 0) + 1 + random(20));
      }
      const text = Array.from(counts, ([word, count]) => `${word} `.repeat(count));
      const expected = byDefinition(Array.from(counts), 160);
      expect(expected.length).toBeGreaterThan(15);
      expect(await vocabulary(text, 160)).toEqual(expected);
    }
  });

  it('does not depend on how the texts are cut or ordered', async () => {
    const text = 'the cat sat on the mat; the other cat sat on that other mat. '.repeat(3);
    const expected = await vocabulary([text], 60);
    expect(await vocabulary(text.split(/(?<= )/).reverse(), 60)).toEqual(expected);
  });

  it('keeps every script, knows every word made of its characters, and has an unknown token for others', async () => {
    const texts = [
      'Straße, naïve CAFÉ',
      'Москва — столица; ёж',
      '東京は日本の首都',
      'नमस्ते दुनिया 한국어 مرحبا 😀𝒳',
      'no\0 control\ufffd',
      "it's (so)...",
    ];
    const tokenizer = Tokenizer.fromJson(await trainWordPiece(texts, { vocabularySize: 400 }));
    for (const text of [...texts, 'ёжовка ßtraé', '本の都 京', ').so', 'यादुनि', '𝒳😀']) {
      const { ids, tokens, loss } = tokenizer.encode(text);
      expect([text, ids.includes(tokenizer.unknownId as number), loss.lost]).toEqual([text, false, 0]);
      // Nothing is lost and nothing added: lower case, blanks aside.
      const plain = text.replace(/[\s\0\ufffd]/g, '').toLowerCase();
      expect(
        tokens
          .slice(0, -1)
          .map((token) => token.replace(/^##/, ''))
          .join(''),
      ).toBe(plain);
    }
    const other = tokenizer.encode('żółw');
    expect([other.ids, other.loss.share]).toEqual([[tokenizer.unknownId, tokenizer.sepId], 1]);
    // What always stands alone needs no form for further on in a word.
    expect(['##都', '##.', '##,'].map((token) => tokenizer.tokenToId(token))).toEqual([undefined, undefined, undefined]);
    expect(tokenizer.json).toMatchObject({ normalizer: { type: 'BertNormalizer', strip_accents: false }, model: { unk_token: '[UNK]' } });
  });

  it('takes accents away where asked', async () => {
    const json = await trainWordPiece(['naïve CAFÉ, Straße й'], { vocabularySize: 80, normalizer: 'bert-without-accents' });
    expect(Tokenizer.fromJson(json).decode(Tokenizer.fromJson(json).encode('naïve CAFÉ, Straße й').ids)).toBe('naive cafe, straße и [SEP]');
  });

  it.each<[string, string[], 'bert' | 'crammed', string[]]>([
    [
      'crammed, of Russian and English',
      ['Москва is its capital '.repeat(3)],
      'crammed',
      [expect.stringMatching(/first 66 characters 33 % are removed by the normalizer/)],
    ],
    ['bert, of the same', ['Москва is its capital '.repeat(3)], 'bert', []],
    ['crammed, of a few accents', ['a naïve café'], 'crammed', []],
    ['bert, of long words', [`some words ${'x'.repeat(101)}`], 'bert', [expect.stringMatching(/stand in words of more than 100/)]],
    ['bert, of a large alphabet', ['Москва'], 'bert', []],
  ])('tells of a corpus that loses much: %s', async (_, texts, normalizer, expected) => {
    const notices: string[] = [];
    await trainWordPiece(texts, { vocabularySize: 90, normalizer, onNotice: (line) => notices.push(line) });
    expect(notices).toEqual(expected);
  });

  it('tells of a vocabulary that characters take most of, and of hopeless corpora before their end', async () => {
    const notices: string[] = [];
    await trainWordPiece(['abcdefghij'], { vocabularySize: 30, onNotice: (line) => notices.push(line) });
    expect(notices).toEqual([
      'the corpus has 10 different characters, which take 20 of 30 tokens: a larger vocabulary has more room for words',
    ]);
    let read = 0;
    const endless = (text: string) =>
      (function* () {
        for (; read < 100; read++) yield text;
      })();
    await expect(trainWordPiece(endless('x'.repeat(2 ** 20)), { vocabularySize: 90 })).rejects.toThrow(
      /holds no words.* first 1048576 characters 100 %/,
    );
    expect(read).toBe(0);
    await expect(trainWordPiece(endless('abcdefghij'), { vocabularySize: 20 })).rejects.toThrow(
      /has 10 different characters or more, .* at least 25/,
    );
    expect(read).toBe(0);
  });

  it('can be stopped while it counts and while it merges', async () => {
    const stop = new AbortController();
    const texts = (function* () {
      for (let i = 0; ; i++) {
        if (i === 3) stop.abort(new Error('enough'));
        yield 'some words';
      }
    })();
    await expect(trainWordPiece(texts, { vocabularySize: 90, signal: stop.signal })).rejects.toThrow('enough');
    const later = new AbortController();
    const many = Array.from({ length: 20_000 }, (_, i) => `${i * 7919}`.replace(/\d/g, (digit) => 'abcdefghij'[Number(digit)])).join(' ');
    const merging = trainWordPiece([many], {
      vocabularySize: 1 << 20,
      signal: later.signal,
      onProgress: ({ phase }) => phase === 'merging' && later.abort(new Error('enough')),
    });
    await expect(merging).rejects.toThrow('enough');
  });

  it("has crammedBERT's recipe, ASCII alone, on demand", async () => {
    const text = "It's naïve: ``quoted''  CAFÉ";
    const tokenizer = Tokenizer.fromJson(await trainWordPiece([text], { vocabularySize: 80, normalizer: 'crammed' }));
    expect([tokenizer.padId, tokenizer.unknownId, tokenizer.clsId, tokenizer.sepId, tokenizer.maskId]).toEqual([0, 1, 2, 3, 4]);
    const { ids, tokens } = tokenizer.encode('café "quoted" :tiq [MASK]');
    expect(ids).not.toContain(tokenizer.unknownId);
    expect(tokens.at(-1)).toBe('[SEP]');
    expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe('cafe " quoted " : tiq');
    const pair = tokenizer.encode('quoted', { pair: 'cafe' });
    expect(tokenizer.decode(pair.ids)).toBe('[CLS] quoted [SEP] cafe [SEP]');
    expect(new Set(pair.typeIds)).toEqual(new Set([0]));
  });

  it('takes other special tokens', async () => {
    const specialTokens = { pad: '<pad>', unknown: '<unk>', cls: '<cls>', sep: '<sep>', mask: '<mask>' };
    const tokenizer = Tokenizer.fromJson(await trainWordPiece(['some words'], { vocabularySize: 40, specialTokens }));
    expect(tokenizer.encode('<mask>').ids).toEqual([4, 3]);
  });

  it('ignores words of more than 100 characters', async () => {
    expect(await vocabulary([`ab ${'x'.repeat(101)}`], 100)).toEqual([...specials, 'a', 'b', '##a', '##b', 'ab']);
  });

  it('tells how far it is', async () => {
    const reports: TrainingProgress[] = [];
    const text = ['to be or not to be '.repeat(60_000)];
    await trainWordPiece(text, { vocabularySize: 20, onProgress: (progress) => reports.push(progress) });
    expect(reports[0]).toMatchObject({ phase: 'counting', done: text[0].length });
    expect(reports.at(-1)).toEqual({ phase: 'merging', done: 20, total: 20 });
  });

  it.each<[string, string[], number, RegExp]>([
    ['an empty corpus', [], 100, /holds no words/],
    ['a corpus without words', ['', ' \n', '\0\ufffd'], 100, /holds no words/],
    ['a vocabulary smaller than the alphabet', ['abc'], 10, /at least 11/],
    ['a vocabulary of no size', ['abc'], 0, /vocabulary size 0/],
    ['a vocabulary of no whole size', ['abc'], Number.NaN, /vocabulary size NaN/],
  ])('refuses %s', async (_, texts, vocabularySize, message) => {
    const error = await trainWordPiece(texts, { vocabularySize }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).toMatch(message);
  });

  it('refuses special tokens that are words, or the same', async () => {
    const specialTokens = { pad: '[PAD]', unknown: '[UNK]', cls: '[CLS]', sep: '[SEP]', mask: 'mask' };
    await expect(trainWordPiece(['abc'], { vocabularySize: 100, specialTokens })).rejects.toThrow(/special token mask/);
    await expect(trainWordPiece(['abc'], { vocabularySize: 100, specialTokens: { ...specialTokens, mask: '[SEP]' } })).rejects.toThrow(
      InputError,
    );
  });
});
