/**
 * Text files as streams of passages. A document is what stands between blank lines, one paragraph a line; a passage is a run of
 * consecutive paragraphs of one document, the unit in which several files are interleaved.
 */
import * as v from 'valibot';
import { openFile } from '#platform';
import { InputError } from '../errors.ts';
import { fileError, readLines, readTextBlocks } from '../io/files.ts';
import { countSchema } from '../io/schemas.ts';

/** Characters after which a passage ends with the paragraph: small against the shuffling pool, large against a sequence. */
const passageLength = 2 ** 15;
/** Characters after which a document counts as ended, so that a file without blank lines is many documents, of which some can be held out. */
const documentLength = 2 ** 20;

export interface Passage {
  paragraphs: string[];
  /** Number of the document in its file, from 0. */
  document: number;
  /** Characters, line ends not counted. */
  length: number;
}

/**
 * The passages of a text file, plain or gzipped, in order and in constant memory. `onNotice` is told of a line that comes in pieces.
 * @throws InputError if the file cannot be read or is not text
 */
export async function* readPassages(path: string, onNotice?: (line: string) => void): AsyncGenerator<Passage> {
  let document = 0;
  let documentSize = 0;
  let passage: Passage = { paragraphs: [], document, length: 0 };
  for await (const line of readLines(path, 'pieces', onNotice)) {
    const blank = line.trim() === '';
    if (!blank) {
      passage.paragraphs.push(line);
      passage.length += line.length;
      documentSize += line.length;
    }
    const documentEnds = documentSize > 0 && (blank || documentSize >= documentLength);
    if (passage.length >= passageLength || (documentEnds && passage.length > 0)) {
      yield passage;
      passage = { paragraphs: [], document, length: 0 };
    }
    if (documentEnds) {
      documentSize = 0;
      passage.document = ++document;
    }
  }
  if (passage.length > 0) yield passage;
}

/** Which documents are kept for the held-out loss and never trained on: every k-th one of each file; 0 keeps none. */
export function isHeldOut(document: number, every: number): boolean {
  return every > 0 && document % every === every - 1;
}

/** Where a {@link PassageMixture} stands in one file: what a resumed run needs. */
export const filePositionSchema = v.object({
  /** Times that the file has been read to its end. */
  epoch: countSchema,
  /** Passages taken in this epoch, held-out ones included. */
  passages: countSchema,
  /** Characters taken since the start of the run, held-out ones left out. */
  characters: countSchema,
  /** The file's {@link textSize}, its weight in the mixture. */
  size: countSchema,
  /** UTF-8 bytes taken in this epoch, held-out ones included; runs of older versions lack it. */
  bytes: v.optional(countSchema),
});
export type FilePosition = v.InferOutput<typeof filePositionSchema>;

/**
 * Endless passages of several files, mixed in proportion to the files' sizes at every moment: the next one comes from the file
 * that is furthest behind. A file that is at its end starts again.
 */
export class PassageMixture {
  private readonly sources: { path: string; position: FilePosition; passages?: AsyncGenerator<Passage> }[];

  private constructor(
    sources: { path: string; position: FilePosition; passages?: AsyncGenerator<Passage> }[],
    private readonly heldOutEvery: number,
    private readonly onNotice?: (line: string) => void,
  ) {
    this.sources = sources;
  }

  /**
   * Goes to where the `positions` are, if any are given.
   * @throws InputError if a file cannot be read, or is another than the one that a position was taken in; the signal's reason
   */
  static async open(
    paths: readonly string[],
    options: { heldOutEvery: number; positions?: readonly FilePosition[]; signal?: AbortSignal; onNotice?(line: string): void },
  ): Promise<PassageMixture> {
    const { signal } = options;
    const sources = [];
    for (const [index, path] of paths.entries()) {
      const before = options.positions?.[index];
      // What a gzipped file says of itself was the weight in runs of older versions.
      const isOlder = before !== undefined && before.size === Math.max(1, (await saidSize(path)).size);
      // Alone, a file has the whole mixture, whatever its weight.
      const size = isOlder ? before.size : await textSize(path, paths.length > 1, signal);
      const position = before ?? { epoch: 0, passages: 0, characters: 0, size };
      if (position.size !== size) {
        throw new InputError(
          `${path}: holds ${size} bytes of text, but ${position.size} when the run was started; a run resumes on the same files only`,
        );
      }
      const passages = position.passages > 0 ? await skip(readPassages(path), position.passages, signal) : undefined;
      sources.push({ path, position: { ...position }, passages });
    }
    return new PassageMixture(sources, options.heldOutEvery, options.onNotice);
  }

  get positions(): FilePosition[] {
    return this.sources.map(({ position }) => ({ ...position }));
  }

  /** Times that every file has been read to its end. */
  get epoch(): number {
    return epochOf(this.sources.map(({ position }) => position));
  }

  /** @throws InputError if a file has no text to train on, cannot be read or is not text */
  async next(): Promise<Passage> {
    const source = this.sources.reduce((a, b) => (share(b.position) < share(a.position) ? b : a));
    const { position } = source;
    let ended = false;
    for (;;) {
      // Once for each file: when it is first read.
      source.passages ??= readPassages(source.path, position.epoch === 0 ? this.onNotice : undefined);
      const { value, done } = await source.passages.next();
      if (done) {
        // Nothing yet, or nothing in all of a pass: it is another file than it was.
        if (position.characters === 0 || ended) {
          throw new InputError(
            `${source.path}: ${position.passages === 0 ? 'has no text' : 'every document is held out'}, expected paragraphs of text, one a line, blank lines between documents`,
          );
        }
        ended = true;
        position.epoch++;
        position.passages = 0;
        position.bytes = 0;
        source.passages = undefined;
        continue;
      }
      position.passages++;
      position.bytes = value.paragraphs.reduce((sum, paragraph) => sum + utf8Length(paragraph) + 1, position.bytes ?? 0);
      if (isHeldOut(value.document, this.heldOutEvery)) continue;
      position.characters += value.length;
      return value;
    }
  }

  /** Closes the files. */
  async close(): Promise<void> {
    for (const source of this.sources) await source.passages?.return(undefined);
  }
}

/** Times that every file has been read to its end. */
export const epochOf = (positions: readonly FilePosition[]) => Math.min(...positions.map(({ epoch }) => epoch));

/** How often the files have been read, a part of a time included: the mean over their bytes. */
export function passesOf(positions: readonly FilePosition[]): number {
  const [read, all] = positions.reduce(
    ([read, all], { epoch, bytes = 0, size }) => [read + size * (epoch + Math.min(1, bytes / size)), all + size],
    [0, 0],
  );
  return read / all;
}

function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // Either half of a surrogate pair is two of four bytes.
    if (unit >= 0x80) bytes += unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 1 : 2;
  }
  return bytes;
}

/** How much of a file has been used, the measure by which the mixture is kept. */
const share = ({ characters, size }: FilePosition) => characters / size;

async function skip(passages: AsyncGenerator<Passage>, count: number, signal?: AbortSignal): Promise<AsyncGenerator<Passage>> {
  for (let i = 0; i < count; i++) {
    signal?.throwIfAborted();
    await passages.next();
  }
  return passages;
}

/**
 * Bytes of text in a file, as a weight. What a gzipped one says at its end is the size of its last member, modulo 4 GiB: only if `exact`, it is
 * decompressed.
 */
async function textSize(path: string, exact: boolean, signal: AbortSignal | undefined): Promise<number> {
  const said = await saidSize(path);
  if (!said.zipped || !exact) return Math.max(1, said.size);
  let size = 0;
  for await (const block of readTextBlocks(path)) {
    signal?.throwIfAborted();
    size += block.length;
  }
  return Math.max(1, size);
}

async function saidSize(path: string): Promise<{ size: number; zipped: boolean }> {
  try {
    const file = await openFile(path);
    try {
      const { size } = file;
      if (size < 18) return { size, zipped: false };
      const [first, second] = await file.read(0, 2);
      if (first !== 0x1f || second !== 0x8b) return { size, zipped: false };
      const trailer = await file.read(size - 4, 4);
      return { size: Math.max(new DataView(trailer.buffer).getUint32(0, true), size), zipped: true };
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fileError(error, path, 'read');
  }
}
