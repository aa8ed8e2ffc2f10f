/** Texts and a toy tokenizer for the tests of training. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { onTestFinished } from 'vitest';

/** A folder that is gone after the test. */
export function testFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'ufb-training-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export const sepId = 3;

/** One token a character: its code, kept away from the special ids. */
export const characterTokenizer = {
  sepId,
  encodeIds: (text: string) => Array.from(text, (character) => 5 + (character.codePointAt(0) as number)),
};

/** The text of character tokens, '|' for [SEP]. */
export const decodeCharacters = (ids: Iterable<number>) =>
  Array.from(ids, (id) => (id === sepId ? '|' : String.fromCodePoint(id - 5))).join('');

/** Writes documents (lists of paragraphs) as a corpus file, gzipped if the name ends so. */
export function writeCorpus(folder: string, name: string, documents: readonly (readonly string[])[]): string {
  const text = `${documents.map((paragraphs) => paragraphs.join('\n')).join('\n\n')}\n`;
  const path = join(folder, name);
  writeFileSync(path, name.endsWith('.gz') ? gzipSync(text) : text);
  return path;
}

/** `count` documents of a few paragraphs that name file, document and paragraph: 'a12.1' and so on. */
export function namedDocuments(name: string, count: number, paragraphs = 3): string[][] {
  return Array.from({ length: count }, (_, document) =>
    Array.from({ length: paragraphs }, (_, paragraph) => `${name}${document}.${paragraph}`),
  );
}
