import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeUtf8 } from '../../src/io/utf8.ts';

/** All that is handed out of bytes in blocks of so many. */
async function decoded(bytes: Uint8Array, blockSize: number): Promise<{ text: string; invalid?: number }> {
  async function* blocks() {
    for (let at = 0; at < bytes.length; at += blockSize) yield bytes.subarray(at, at + blockSize);
  }
  let text = '';
  for await (const part of decodeUtf8(blocks())) {
    text += part.text;
    if (part.invalid !== undefined) return { text, invalid: part.invalid };
  }
  return { text };
}

const encode = (text: string) => new TextEncoder().encode(text);

test('text of any blocks is the text; of what is no UTF-8, what stands before it and its first byte', async () => {
  const characters = fc.array(fc.constantFrom('a', '\0', '\n', 'é', '€', '😀', '\ufffd', '\u{10ffff}'), { maxLength: 12 });
  // A letter of Latin 1, one that goes on with nothing, one cut short, one longer than need be, half a surrogate pair, beyond the last character.
  const broken = fc.constantFrom(
    [0xe9, 0x20],
    [0x80],
    [0xe2, 0x82, 0x41],
    [0xc0, 0x80],
    [0xed, 0xa0, 0x80],
    [0xf4, 0x90, 0x80, 0x80],
    [0xff],
  );
  await fc.assert(
    fc.asyncProperty(characters, fc.option(broken), characters, fc.integer({ min: 1, max: 9 }), async (before, bad, after, blockSize) => {
      const [first, second] = [before.join(''), after.join('')];
      expect(await decoded(encode(first + second), blockSize)).toEqual({ text: first + second });
      if (!bad) return;
      const bytes = Uint8Array.from([...encode(first), ...bad, ...encode(second)]);
      expect(await decoded(bytes, blockSize)).toEqual({ text: first, invalid: bad[0] });
    }),
    { numRuns: 300 },
  );
});

test('a character that is cut short at the end; the byte order mark, which is one only at the start', async () => {
  expect(await decoded(Uint8Array.of(0x61, 0xf0, 0x9f, 0x98), 2)).toEqual({ text: 'a', invalid: 0xf0 });
  expect(await decoded(encode('\ufeffa\ufeffb'), 3)).toEqual({ text: 'a\ufeffb' });
  expect(await decoded(Uint8Array.of(), 1)).toEqual({ text: '' });
});
