import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';

/** Each normaliser, pre-tokeniser and kind of added token, against what Hugging Face's tokenizers does (see the fixture's make.py). */
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

function name(part: unknown): string {
  return JSON.stringify(part);
}
