import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { createNormalizer } from '../../src/tokenizer/normalizer.ts';
import { compilePattern } from '../../src/tokenizer/pattern.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';

/** Patterns of real tokenizers and random ones, with each match replaced by a bar (see the fixture's make.py). */
const { texts, cases }: { texts: string[]; cases: [string, string[]][] } = JSON.parse(
  readFileSync(fileURLToPath(new URL('../fixtures/patterns/matches.json', import.meta.url)), 'utf8'),
);

const matchesOf = (pattern: string, text: string) =>
  Array.from(compilePattern({ Regex: pattern })(text), ({ start, end }) => text.slice(start, end));

describe('patterns match where they do in the format reference, tokenizers', () => {
  it.each(cases)('%s', (Regex, expected) => {
    const { normalize } = createNormalizer({ type: 'Replace', pattern: { Regex }, content: '|' });
    expect(texts.map(normalize)).toEqual(expected);
  });
});

describe('time grows with the text, whatever the pattern: an engine that tries one way after the other would never end', () => {
  const long = 'a'.repeat(200_000);
  it.each([
    ['(a+)+$', `${long}!`, 0],
    ['(a|a)*b', long, 0],
    ['(a*)*b', long, 0],
    ['(a|aa)+$', `${long}!`, 0],
    ['(.*)*=', long, 0],
    ['(\\w+\\s?)+$', `${long}!`, 0],
    ['(x+x+)+y', 'x'.repeat(200_000), 0],
    ['^(([a-z])+.)+[A-Z]([a-z])+$', long, 0],
    // Here each single match is quick and all of them are not: the square of the length.
    ['\\s+$', `${' '.repeat(200_000)}x`, 0],
    ['a*b|a', long, 200_000],
    ['a(?=a*b)', long, 0],
    ['(?!a*b)a', long, 200_000],
  ])('%s', (pattern, text, matches) => {
    expect(matchesOf(pattern, text)).toHaveLength(matches);
  });

  it('a tokenizer with such a pattern encodes, with and without offsets', () => {
    const tokenizer = Tokenizer.fromJson({
      normalizer: { type: 'Replace', pattern: { Regex: '(b|b)*c' }, content: 'c' },
      pre_tokenizer: { type: 'Split', pattern: { Regex: '(a+)+$' }, behavior: 'Isolated' },
      model: { type: 'WordPiece', unk_token: '[UNK]', vocab: { '[UNK]': 0, a: 1 } },
    });
    const { ids, offsets } = tokenizer.encode(`${'b'.repeat(50_000)}${'a'.repeat(50_000)}!`);
    expect([ids, offsets]).toEqual([[0], [[0, 100_001]]]);
  });

  it('many added tokens cost no more than few', () => {
    const added_tokens = Array.from({ length: 15_000 }, (_, i) => ({ content: `a${'b'.repeat(10)}${i}`, id: i + 2 }));
    const tokenizer = Tokenizer.fromJson({ added_tokens, model: { unk_token: '[UNK]', vocab: { '[UNK]': 0, a: 1 } } });
    expect(tokenizer.encodeIds(`${`a${'b'.repeat(10)}`.repeat(50_000)}14999`)).toEqual([0, 15_001]);
  });
});

describe('what cannot be matched in linear time, or is none, is refused by what it is', () => {
  it.each([
    ['(a)\\1', 'has a reference back to what a group matched'],
    ['(?>a|ab)c', 'has (?>...)'],
    ['(?:ab)++', 'has a possessive quantifier of more than one character'],
    ['(?<x>a\\g<x>?)', 'has a pattern that calls itself'],
    ['(?<=ab)c', 'has (?<=...) or (?<!...) of more than one character'],
    ['\\Rx', 'has one of \\R'],
    ['((a{50}){50})', 'is too large: has more than 2000 states'],
    ['(', 'is not a regular expression that is understood here: '],
    ['a\\p{Nope}', 'is not a regular expression that is understood here: '],
    ['a'.repeat(1001), 'has 1001 characters, expected at most 1000'],
    [`${'('.repeat(499)}a${')'.repeat(499)}b`, undefined],
  ])('%s', (pattern, message) => {
    if (message === undefined) expect(matchesOf(pattern, 'aab')).toEqual(['ab']);
    else {
      expect(() => matchesOf(pattern, 'a')).toThrow(message);
      expect(() => matchesOf(pattern, 'a')).toThrow(InputError);
    }
  });

  it('a pattern that has more to tell apart in a text than could be remembered', () => {
    let state = 1;
    const random = Array.from({ length: 100_000 }, () => 'ab'[(state = (Math.imul(state, 1103515245) + 12345) >>> 0) >>> 31]).join('');
    // Whether a state leads to a match is known by the 24 characters that follow: 2^24 sets of states.
    const matches = () => matchesOf('[ab]{24}a[ab]*', random);
    expect(matches).toThrow('takes too much work for this text');
    expect(matches).toThrow(InputError);
    expect(matchesOf('[ab]{24}a[ab]*', random.slice(0, 5000))).toHaveLength(1);
  });
});
