import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer_config.ts';
import { trainBytePairs } from '../../src/tokenizer/train_bpe.ts';

const families = fileURLToPath(new URL('../fixtures/families', import.meta.url));
/** Of bytes alone: every character beyond ASCII is several tokens. */
const ofBytes = Tokenizer.fromJson(await trainBytePairs(['ab ab'], { vocabularySize: 259 }));
const tokenizers = {
  bytes: ofBytes,
  'byte-level BPE': await loadTokenizer(join(families, 'roberta-masked')),
  Unigram: await loadTokenizer(join(families, 'xlm-roberta-masked')),
  WordPiece: await loadTokenizer(join(families, 'distilbert-masked')),
};

/** The pieces of some ids, the last of them what was left at the end. */
function stream(tokenizer: Tokenizer, ids: readonly number[], options = {}): string[] {
  const text = tokenizer.textStream(options);
  return [...ids.map((id) => text.push(id)), text.end()];
}

test('a character comes when its last byte has', () => {
  const { ids } = ofBytes.encode('a😀é');
  expect(stream(ofBytes, ids)).toEqual(['a', '', '', '', '😀', '', 'é', '']);
});

test('a character that is not finished becomes U+FFFD at the end, or when it cannot be finished', () => {
  const { ids } = ofBytes.encode('😀b');
  expect(stream(ofBytes, ids.slice(0, 3))).toEqual(['', '', '', '\ufffd']);
  expect(stream(ofBytes, [...ids.slice(0, 2), ids[4]])).toEqual(['', '', '\ufffdb', '']);
});

describe.each(Object.entries(tokenizers))('%s', (_, tokenizer) => {
  test('the pieces of any ids are whole characters, and together what decode makes of them', () => {
    const id = fc.nat({ max: tokenizer.vocabularySize - 1 });
    fc.assert(
      fc.property(fc.array(id, { maxLength: 20 }), fc.boolean(), (ids, skipSpecialTokens) => {
        const pieces = stream(tokenizer, ids, { skipSpecialTokens });
        for (const piece of pieces) expect(piece).not.toMatch(/\p{Surrogate}/u);
        expect(pieces.join('')).toBe(tokenizer.decode(ids, { skipSpecialTokens }));
      }),
    );
  });
});
