import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { alignedText } from '../../src/tokenizer/aligned_text.ts';
import { CharacterMap } from '../../src/tokenizer/character_map.ts';
import { createNormalizer } from '../../src/tokenizer/normalizer.ts';
import { parseTokenizerJson } from '../../src/tokenizer/tokenizer_json.ts';

/** Made by make_charsmap.py beside it. */
const path = new URL('../fixtures/families/charsmap.json', import.meta.url);
const { table, texts } = JSON.parse(readFileSync(path, 'utf8')) as {
  table: string;
  texts: { text: string; normalized: string; offsets: [number, number][] }[];
};

test.each(texts)("$text: what Hugging Face's tokenizers make of it, and where it came from", ({ text, normalized, offsets }) => {
  const normalizer = createNormalizer({ type: 'Precompiled', precompiled_charsmap: table });
  expect(normalizer.normalize(text)).toBe(normalized);
  const aligned = normalizer.align(alignedText(text));
  expect(aligned.characters.join('')).toBe(normalized);
  expect(aligned.starts.map((start, i) => [start, aligned.ends[i]])).toEqual(offsets);
});

test('what is no table is refused, and a damaged one does not stop a text', () => {
  const json = (precompiled_charsmap: unknown) => ({
    normalizer: { type: 'Precompiled', precompiled_charsmap },
    model: { type: 'WordPiece', unk_token: '?', vocab: { '?': 0 } },
  });
  for (const wrong of ['', 'AAAA', '????', 7, table.slice(0, 40)]) expect(() => parseTokenizerJson(json(wrong), 'x')).toThrow(InputError);
  expect(parseTokenizerJson(json(table), 'x').normalizer).toMatchObject({ type: 'Precompiled' });
  const bytes = Uint8Array.from(atob(table), (letter) => letter.charCodeAt(0));
  for (let at = 4; at < bytes.length; at += 5) {
    const damaged = bytes.slice();
    damaged[at] ^= 0xa5;
    const map = new CharacterMap(btoa(String.fromCharCode(...damaged)));
    for (const { text } of texts) expect(typeof map.normalize(text)).toBe('string');
  }
});
