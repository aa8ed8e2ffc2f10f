import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { type Passage, PassageMixture, readPassages } from '../../src/training/documents.ts';
import { namedDocuments, testFolder, writeCorpus } from './corpora.ts';

async function all(path: string): Promise<Passage[]> {
  const passages: Passage[] = [];
  for await (const passage of readPassages(path)) passages.push(passage);
  return passages;
}

const text = (passage: Passage) => passage.paragraphs.join('/');

describe('passages', () => {
  test('are documents between blank lines, however many', async () => {
    const path = join(testFolder(), 'a.txt');
    writeFileSync(path, '\n\none\ntwo\n\n \nthree\n\n\n\nfour');
    expect((await all(path)).map((passage) => [passage.document, text(passage)])).toEqual([
      [0, 'one/two'],
      [1, 'three'],
      [2, 'four'],
    ]);
  });

  test('long documents come in parts of the same number; without blank lines a file is many documents', async () => {
    const line = 'x'.repeat(999);
    const path = writeCorpus(testFolder(), 'a.txt', [Array(100).fill(line), Array(2200).fill(line)]);
    const passages = await all(path);
    expect(passages.reduce((sum, { paragraphs }) => sum + paragraphs.length, 0)).toBe(2300);
    expect(Math.max(...passages.map(({ length }) => length))).toBeLessThan(2 ** 15 + 1000);
    expect(passages.filter(({ document }) => document === 0)).toHaveLength(4);
    expect(Math.max(...passages.map(({ document }) => document))).toBe(3);
  });
});

describe('the mixture', () => {
  test('keeps the files in proportion to their sizes at every moment, and starts them again', async () => {
    const folder = testFolder();
    const large = writeCorpus(folder, 'large.txt', namedDocuments('a', 300));
    const small = writeCorpus(folder, 'small.txt.gz', namedDocuments('b', 100));
    const mixture = await PassageMixture.open([large, small], { heldOutEvery: 0 });
    const counts: Record<string, number> = { a: 0, b: 0 };
    const seen = new Map<string, number>();
    for (let i = 1; i <= 800; i++) {
      const passage = await mixture.next();
      counts[passage.paragraphs[0][0]]++;
      seen.set(text(passage), (seen.get(text(passage)) ?? 0) + 1);
      if (i >= 40) expect(counts.a / i).toBeCloseTo(0.75, 1);
    }
    expect(mixture.epoch).toBe(1);
    expect(seen.size).toBe(400);
    expect(Math.min(...seen.values())).toBeGreaterThanOrEqual(1);
    await mixture.close();
  });

  test('a run goes on by the weights that an older version took: what a gzipped file says of its last member', async () => {
    const folder = testFolder();
    const [plain, members] = [join(folder, 'plain.txt'), join(folder, 'members.txt.gz')];
    writeFileSync(plain, 'one\n\ntwo\n');
    const zipped = Buffer.concat([gzipSync('three\n\n'.repeat(200)), gzipSync('four\n\n'.repeat(50))]);
    writeFileSync(members, zipped);
    const at = { epoch: 0, passages: 1, characters: 3 };
    const older = [
      { ...at, size: 9 },
      { ...at, size: Math.max(300, zipped.length) },
    ];
    const mixture = await PassageMixture.open([plain, members], { heldOutEvery: 0, positions: older });
    expect(mixture.positions).toMatchObject(older);
    const now = (await PassageMixture.open([plain, members], { heldOutEvery: 0 })).positions;
    expect(now[1].size).toBe(1700);
    expect((await PassageMixture.open([plain, members], { heldOutEvery: 0, positions: now })).positions).toMatchObject(now);
    const other = [older[0], { ...at, size: 301 }];
    await expect(PassageMixture.open([plain, members], { heldOutEvery: 0, positions: other })).rejects.toThrow(
      'holds 1700 bytes of text, but 301',
    );
  });

  test('the share of a gzipped file is that of its text, however many members it has', async () => {
    const folder = testFolder();
    const plain = writeCorpus(folder, 'plain.txt', namedDocuments('a', 200));
    const members = join(folder, 'members.txt.gz');
    const documents = namedDocuments('b', 200).map((document) => `${document.join('\n')}\n\n`);
    writeFileSync(members, Buffer.concat([...documents.map((document) => gzipSync(document)), gzipSync('')]));
    const mixture = await PassageMixture.open([plain, members], { heldOutEvery: 0 });
    const counts: Record<string, number> = { a: 0, b: 0 };
    for (let i = 1; i <= 300; i++) counts[(await mixture.next()).paragraphs[0][0]]++;
    expect(counts).toEqual({ a: 150, b: 150 });
    const stop = AbortSignal.abort(new Error('enough'));
    await expect(PassageMixture.open([plain, members], { heldOutEvery: 0, signal: stop })).rejects.toThrow('enough');
    await mixture.close();
  });

  test('leaves out held-out documents, in every epoch', async () => {
    const path = writeCorpus(testFolder(), 'a.txt', namedDocuments('a', 10));
    const mixture = await PassageMixture.open([path], { heldOutEvery: 4 });
    const documents = new Set<number>();
    for (let i = 0; i < 30; i++) documents.add((await mixture.next()).document);
    expect([...documents].sort()).toEqual([0, 1, 2, 4, 5, 6, 8, 9]);
  });

  test('goes on from recorded positions', async () => {
    const folder = testFolder();
    const paths = [writeCorpus(folder, 'a.txt', namedDocuments('a', 17)), writeCorpus(folder, 'b.txt.gz', namedDocuments('b', 30))];
    for (const taken of [0, 1, 13, 40, 77]) {
      const first = await PassageMixture.open(paths, { heldOutEvery: 5 });
      for (let i = 0; i < taken; i++) await first.next();
      const second = await PassageMixture.open(paths, { heldOutEvery: 5, positions: first.positions });
      for (let i = 0; i < 60; i++) expect(await second.next()).toEqual(await first.next());
    }
  });
});

test('a position in a file that has changed since is refused', async () => {
  const folder = testFolder();
  const path = writeCorpus(folder, 'a.txt', namedDocuments('a', 17));
  const { positions } = await PassageMixture.open([path], { heldOutEvery: 0 });
  writeCorpus(folder, 'a.txt', namedDocuments('a', 18));
  await expect(PassageMixture.open([path], { heldOutEvery: 0, positions })).rejects.toThrow(
    /a\.txt: holds \d+ bytes of text, but \d+ when/,
  );
});

describe('what is no corpus', () => {
  const bad: [string, string | Buffer, RegExp][] = [
    ['empty', '', /has no text/],
    ['blank', '\n \n\t\n', /has no text/],
    ['binary', Buffer.from([0, 1, 2, 3, 0, 255, 254, 0]), /binary.txt, line 1: is not UTF-8 text/],
    ['damaged gzip', Buffer.from([0x1f, 0x8b, 8, 0, 1, 2, 3]), /gzip/],
  ];
  test.each(bad)('%s: one line that names the file', async (name, content, message) => {
    const path = join(testFolder(), `${name}.txt`);
    writeFileSync(path, content);
    const mixture = await PassageMixture.open([path], { heldOutEvery: 0 });
    const failure = mixture.next();
    await expect(failure).rejects.toThrow(message);
    await expect(failure).rejects.toThrow(InputError);
    await expect(failure).rejects.toThrow(path);
  });

  test('a missing file, a folder', async () => {
    const folder = testFolder();
    await expect(PassageMixture.open([join(folder, 'none.txt')], { heldOutEvery: 0 })).rejects.toThrow(/none\.txt: .*no such file/);
    await expect(PassageMixture.open([folder], { heldOutEvery: 0 })).rejects.toThrow(InputError);
  });

  test('one that is emptied while it is read', async () => {
    const path = writeCorpus(testFolder(), 'a.txt', [['one'], ['two']]);
    const mixture = await PassageMixture.open([path], { heldOutEvery: 0 });
    await mixture.next();
    await mixture.next();
    writeFileSync(path, '');
    await expect(mixture.next()).rejects.toThrow(/a\.txt: has no text/);
  });

  test('one whose every document is held out', async () => {
    const path = writeCorpus(testFolder(), 'a.txt', [['only']]);
    const mixture = await PassageMixture.open([path], { heldOutEvery: 1 });
    await expect(mixture.next()).rejects.toThrow(/held out/);
  });
});
