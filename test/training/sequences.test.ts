import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { trainWordPiece } from '../../src/tokenizer/train_wordpiece.ts';
import { heldOutSequences, packText, SequencePacker, SequenceStream } from '../../src/training/sequences.ts';
import { decodeCharacters, namedDocuments, testFolder, characterTokenizer as tokenizer, writeCorpus } from './corpora.ts';

const length = 16;

async function draw(stream: SequenceStream, count: number): Promise<string[]> {
  const sequences: string[] = [];
  const target = new Int32Array(length);
  for (let i = 0; i < count; i++) {
    await stream.next(target);
    sequences.push(decodeCharacters(target));
  }
  return sequences;
}

test('packing loses no token, keeps the order and ends every paragraph with [SEP]', () => {
  const packer = new SequencePacker(tokenizer, 5);
  const target = new Int32Array(5);
  let text = '';
  for (const paragraphs of [['abc', 'de'], ['f'], ['ghijklmnop']]) {
    packer.add({ paragraphs, document: 0, length: 0 });
    while (packer.take(target)) text += decodeCharacters(target);
  }
  expect(text + decodeCharacters(packer.rest())).toBe('abc|de|f|ghijklmnop|');
  expect(text.length % 5).toBe(0);
});

test('of a model that writes, a passage is one text with its end behind it', () => {
  const packer = new SequencePacker({ ...tokenizer, encodeIds: tokenizer.encodeIds, textEnd: tokenizer.sepId }, 5);
  packer.add({ paragraphs: ['abc', 'de'], document: 0, length: 0 });
  packer.add({ paragraphs: ['f'], document: 1, length: 0 });
  expect(decodeCharacters(packer.rest())).toBe('abc\nde|f|');
});

describe('the stream of training sequences', () => {
  const open = (paths: string[], options: Partial<Parameters<typeof SequenceStream.open>[0]> = {}) =>
    SequenceStream.open({ paths, tokenizer, length, seed: 1, poolSize: 50, heldOutEvery: 0, ...options });

  function corpus() {
    const folder = testFolder();
    return [writeCorpus(folder, 'a.txt', namedDocuments('alpha', 120)), writeCorpus(folder, 'b.txt.gz', namedDocuments('beta', 80))];
  }

  test('holds every paragraph of an epoch and is shuffled', async () => {
    const paths = corpus();
    const unshuffled = await draw(await open(paths, { poolSize: 1 }), 400);
    const shuffled = await draw(await open(paths), 400);
    expect(shuffled.slice(0, 20)).not.toEqual(unshuffled.slice(0, 20));
    // In the order of reading, the sequences are the text.
    const text = unshuffled.join('');
    expect(text).toContain('alpha0.0|alpha0.1|alpha0.2|');
    for (let document = 0; document < 80; document++) expect(text).toContain(`|beta${document}.1|`);
    // A pool only delays: all but the pool's worth has been drawn.
    const drawn = new Set(shuffled);
    expect(unshuffled.slice(0, 350).filter((sequence) => !drawn.has(sequence)).length).toBeLessThan(50);
  });

  test('is decided by the seed', async () => {
    const paths = corpus();
    const first = await draw(await open(paths), 100);
    expect(await draw(await open(paths), 100)).toEqual(first);
    expect(await draw(await open(paths, { seed: 2 }), 100)).not.toEqual(first);
  });

  test.each([0, 1, 37, 400, 1000])('resumes exactly after %i draws, whatever was read ahead', async (taken) => {
    const paths = corpus();
    const stream = await open(paths, { heldOutEvery: 7 });
    await draw(stream, taken);
    await stream.prefetch(taken % 30);
    const { state } = stream;
    const expected = await draw(stream, 300);
    const resumed = await open(paths, { heldOutEvery: 7, state });
    expect(resumed.position).toBe(taken);
    expect(await draw(resumed, 300)).toEqual(expected);
  });

  test('what the tokenizer makes nothing of is told soon, and refused if nothing is left', async () => {
    const real = Tokenizer.fromJson(await trainWordPiece(['the cat sat on the mat'], { vocabularySize: 60, normalizer: 'crammed' }));
    const folder = testFolder();
    const notices: string[] = [];
    const openReal = (path: string) => open([path], { tokenizer: real, poolSize: 10_000, onNotice: (line) => notices.push(line) });
    const endless = join(folder, 'endless.txt');
    writeFileSync(endless, 'a'.repeat(5 * 2 ** 20));
    await expect(openReal(endless)).rejects.toThrow(
      `${endless}: its first 1048576 characters all become nothing: the model's tokenizer removes them`,
    );
    expect(notices).toEqual([`${endless}, line 1: has more than 1048576 characters: it is read in pieces, expected a paragraph a line`]);
    const russian = writeCorpus(
      folder,
      'ru.txt',
      namedDocuments('Москва', 40).map((document) => document.map((line) => line.replace(/[.\d]+/g, ''))),
    );
    await expect(openReal(russian)).rejects.toThrow(/ru\.txt: its first 738 characters all become nothing/);
    const nothing = writeCorpus(folder, 'nul.txt', [['\0\0', '\0']]);
    const bert = Tokenizer.fromJson(await trainWordPiece(['the cat'], { vocabularySize: 60 }));
    await expect(open([nothing], { tokenizer: bert })).rejects.toThrow(/nul\.txt: the tokenizer makes no token of it/);
    notices.length = 0;
    const mixed = writeCorpus(folder, 'mixed.txt', [['the cat sat on Москва']]);
    await openReal(mixed);
    expect(notices).toEqual([expect.stringMatching(/mixed\.txt: loses 35 % of its first \d+ characters: the model.s tokenizer/)]);
    await openReal(writeCorpus(folder, 'good.txt', [['the cat sat on the mat']]));
    expect(notices).toHaveLength(1);
  });

  test('can be stopped while it reads, before there is a first sequence', async () => {
    const stop = new AbortController();
    const path = writeCorpus(testFolder(), 'a.txt', Array(3).fill(Array(400).fill('x'.repeat(1000))));
    const opening = open([path], { poolSize: 2 ** 20, signal: stop.signal });
    stop.abort(new Error('enough'));
    await expect(opening).rejects.toThrow('enough');
  });

  test('a corpus smaller than the pool is repeated', async () => {
    const path = writeCorpus(testFolder(), 'a.txt', [['0123456789', 'abcdefghij']]);
    const stream = await open([path], { poolSize: 10000 });
    expect(stream.state.pool.length).toBeLessThan(10 * length);
    await draw(stream, 100);
    expect(stream.epoch).toBeGreaterThan(50);
  });
});

describe('held-out sequences', () => {
  test('come from the documents that training leaves out, as many of each file', async () => {
    const folder = testFolder();
    const paths = [writeCorpus(folder, 'a.txt', namedDocuments('a', 100, 4)), writeCorpus(folder, 'b.txt', namedDocuments('b', 100, 4))];
    const sequences = await heldOutSequences({ paths, tokenizer, length, count: 10, heldOutEvery: 10 });
    expect(sequences.length).toBe(10 * length);
    const text = decodeCharacters(sequences);
    expect(new Set(text.match(/[ab]\d+(?=\.)/g))).toEqual(new Set(['a9', 'a19', 'a29', 'a39', 'b9', 'b19', 'b29', 'b39']));
  });

  test('of one document at most 32', async () => {
    const long = [Array.from({ length: 300 }, () => 'x'.repeat(15)), Array.from({ length: 300 }, () => 'y'.repeat(15))];
    const path = writeCorpus(testFolder(), 'a.txt', long);
    const sequences = await heldOutSequences({ paths: [path], tokenizer, length, count: 100, heldOutEvery: 1 });
    expect(decodeCharacters(sequences)).toBe(`${'x'.repeat(15)}|`.repeat(32) + `${'y'.repeat(15)}|`.repeat(32));
  });

  test('documents shorter than a sequence share one', async () => {
    const path = writeCorpus(testFolder(), 'a.txt', [['abc'], ['x'], ['defghijk'], ['x'], ['lmno'], ['x']]);
    const sequences = await heldOutSequences({ paths: [path], tokenizer, length: 8, count: 10, heldOutEvery: 2 });
    expect(decodeCharacters(sequences)).toBe('');
    const odd = await heldOutSequences({ paths: [path], tokenizer, length: 6, count: 10, heldOutEvery: 2 });
    expect(decodeCharacters(odd)).toBe('x|x|x|');
  });
});

test('a packed text counts its tokens and its bytes', async () => {
  const path = writeCorpus(testFolder(), 'a.txt', [['aé', 'bcd'], ['€']]);
  const packed = await packText({ path, tokenizer, length: 4 });
  expect(decodeCharacters(packed.sequences)).toBe('aé|bcd|€');
  expect(packed.tokens).toBe(9);
  expect(packed.bytes).toBe(4 + 4 + 4);
  expect((await packText({ path, tokenizer, length: 4, count: 1 })).sequences).toEqual(packed.sequences.slice(0, 4));
});
