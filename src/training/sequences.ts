/** Passages of text as sequences of token ids, packed without padding. */

import { alone, type Group } from '../distributed/group.ts';
import { InputError } from '../errors.ts';
import { CharacterLoss, LossNotice } from '../tokenizer/character_loss.ts';
import { type FilePosition, isHeldOut, type Passage, PassageMixture, readPassages } from './documents.ts';
import { CounterRandom, randomStream } from './random.ts';
import { SharedPassages } from './shared_passages.ts';

/** The part of a tokenizer that packing needs. */
export interface BulkTokenizer {
  /** Ids without special tokens. Adds to `loss` what became of the text's characters. */
  encodeIds(text: string, loss?: CharacterLoss): ArrayLike<number>;
  /** [SEP], which ends every paragraph, as crammedBERT's post-processor has it. */
  readonly sepId: number | undefined;
  /** If given, a passage is one text, its paragraphs on lines of their own, and this id ends it, as GPT-2's texts are packed. */
  readonly textEnd?: number;
}

/** The tokens of a passage, those that end its paragraphs too, and how many the tokenizer made of its text. */
interface PackedPassage {
  ids: Int32Array;
  made: number;
}

/** Cuts a stream of tokens into sequences of `length`; a sequence may span paragraphs and documents. */
export class SequencePacker {
  /** Tokens that wait for a full sequence. */
  pending: number[] = [];
  /** Of all that was added. */
  readonly loss = new CharacterLoss();
  private taken = 0;
  /** Tokens made of texts, so far. */
  private made = 0;

  constructor(
    readonly tokenizer: BulkTokenizer,
    readonly length: number,
  ) {}

  add(passage: Passage): void {
    this.append(this.encode(passage));
  }

  /** The tokens of a passage, to be appended. */
  encode(passage: Passage): PackedPassage {
    const { sepId, textEnd } = this.tokenizer;
    const [texts, end] = textEnd === undefined ? [passage.paragraphs, sepId] : [[passage.paragraphs.join('\n')], textEnd];
    const ids: number[] = [];
    let made = 0;
    for (const text of texts) {
      const own = this.tokenizer.encodeIds(text, this.loss);
      for (let i = 0; i < own.length; i++) ids.push(own[i]);
      made += own.length;
      if (end !== undefined) ids.push(end);
    }
    return { ids: Int32Array.from(ids), made };
  }

  append({ ids, made }: PackedPassage): void {
    this.pending = this.rest();
    this.taken = 0;
    for (let i = 0; i < ids.length; i++) this.pending.push(ids[i]);
    this.made += made;
  }

  /**
   * Says once, through `losses`, what is lost of the texts that were added, with enough of them or when all were.
   * @throws InputError, naming the `source`, if nothing is left
   */
  checkLoss(losses: LossNotice, source: string, ended: boolean): void {
    losses.ofCorpus(source, this.loss, ended);
    if (ended && this.made === 0) throw new InputError(`${source}: the tokenizer makes no token of it, expected text`);
  }

  /** Writes the next sequence into `target`; false if there are not enough tokens. */
  take(target: Int32Array): boolean {
    const { pending, taken, length } = this;
    if (this.size < length) return false;
    for (let i = 0; i < length; i++) target[i] = pending[taken + i];
    this.taken += length;
    return true;
  }

  /** Number of tokens not yet taken. */
  get size(): number {
    return this.pending.length - this.taken;
  }

  /** The tokens not yet taken. */
  rest(): number[] {
    return this.pending.slice(this.taken);
  }
}

/** Who reads a corpus before there is a first step. */
export interface Reading {
  /** Is told, in one line, of a corpus that loses much of its characters in the tokenizer, or has endless lines. */
  onNotice?(line: string): void;
  /** Stops it: it throws the signal's reason. */
  signal?: AbortSignal;
}

const lossesOf = ({ onNotice }: Reading) => new LossNotice((line) => onNotice?.(line));

/** All that a resumed run needs to draw the sequences that would have come next. */
export interface SequenceState {
  files: FilePosition[];
  /** Sequences drawn so far. */
  drawn: number;
  pending: Int32Array;
  /** [sequences, length] */
  pool: Int32Array;
}

/**
 * Endless training sequences, shuffled through a pool: each draw takes a random sequence out of the pool (by seed and number of the
 * draw) and refills its place from the mixture of files. Neighbors in a text are thus spread over thousands of sequences.
 */
export class SequenceStream {
  private constructor(
    private readonly passages: SharedPassages<PackedPassage>,
    private readonly packer: SequencePacker,
    private readonly seed: number,
    private readonly pool: Int32Array,
    private drawn: number,
  ) {}

  /**
   * Opens the files and fills the pool: at most `poolSize` sequences, fewer if the corpus has fewer.
   * @throws InputError if a file cannot be read, is not text or has none, or the tokenizer makes nothing of it
   */
  static async open(
    options: {
      paths: readonly string[];
      tokenizer: BulkTokenizer;
      length: number;
      seed: number;
      poolSize: number;
      heldOutEvery: number;
      state?: SequenceState;
      /** Those that read the files together. */
      group?: Group;
    } & Reading,
  ): Promise<SequenceStream> {
    const { paths, tokenizer, length, seed, poolSize, heldOutEvery, state, signal } = options;
    const mixture = await PassageMixture.open(paths, { heldOutEvery, positions: state?.files, signal, onNotice: options.onNotice });
    const losses = lossesOf(options);
    const packer = new SequencePacker(tokenizer, length);
    const passages = new SharedPassages(mixture, options.group ?? alone, (passage) => packer.encode(passage));
    if (state) {
      packer.pending = Array.from(state.pending);
      return new SequenceStream(passages, packer, seed, state.pool.slice(), state.drawn);
    }
    const pool = new Int32Array(poolSize * length);
    let filled = 0;
    while (filled < poolSize) {
      if (packer.take(pool.subarray(filled * length, (filled + 1) * length))) filled++;
      else if (filled > 0 && passages.epoch > 0) break;
      else {
        signal?.throwIfAborted();
        packer.append(await passages.next());
        packer.checkLoss(losses, paths.join(', '), passages.epoch > 0);
      }
    }
    packer.checkLoss(losses, paths.join(', '), true);
    return new SequenceStream(passages, packer, seed, pool.slice(0, filled * length), 0);
  }

  /** Number of the next draw, from 0. */
  get position(): number {
    return this.drawn;
  }

  /** Times that the whole corpus has been read. */
  get epoch(): number {
    return this.passages.epoch;
  }

  /** How often the corpus has been drawn: what was read, without what waits. */
  get passes(): number {
    const drawn = this.drawn * this.packer.length;
    return (this.passages.passes * drawn) / (drawn + this.pool.length + this.packer.size);
  }

  /** The sequences that wait to be drawn [sequences, length], a sample of the corpus; not to be changed. */
  get waiting(): Int32Array {
    return this.pool;
  }

  /** Writes the next sequence into `target` [length]. */
  async next(target: Int32Array): Promise<void> {
    const { length } = this.packer;
    const slot = new CounterRandom(this.seed, randomStream.shuffling, this.drawn++).below(this.pool.length / length);
    const place = this.pool.subarray(slot * length, (slot + 1) * length);
    target.set(place);
    while (!this.packer.take(place)) this.packer.append(await this.passages.next());
  }

  /**
   * Reads ahead so that the next `count` draws need no reading or tokenizing, for the time in which the backend works. Does not change
   * what is drawn, and `state` stays exact.
   */
  async prefetch(count: number): Promise<void> {
    while (this.packer.size < count * this.packer.length) this.packer.append(await this.passages.next());
  }

  /** A copy, as of now. */
  get state(): SequenceState {
    return { files: this.passages.positions, drawn: this.drawn, pending: Int32Array.from(this.packer.rest()), pool: this.pool.slice() };
  }

  close(): Promise<void> {
    return this.passages.close();
  }
}

/** Sequences of one document that the held-out set takes at most, so that no single book fills it. */
const heldOutPerDocument = 32;

/**
 * At most `count` sequences [sequences, length] of the documents that training leaves out (see {@link isHeldOut}), as many of each
 * file; short documents share sequences, as in training. Files are read only as far as needed.
 */
export async function heldOutSequences(
  options: {
    paths: readonly string[];
    tokenizer: BulkTokenizer;
    length: number;
    count: number;
    heldOutEvery: number;
  } & Pick<Reading, 'signal'>,
): Promise<Int32Array> {
  const { paths, tokenizer, length, count, heldOutEvery } = options;
  const perFile = Math.ceil(count / paths.length);
  const sequences: Int32Array[] = [];
  for (const path of paths) {
    const until = Math.min(count, sequences.length + perFile);
    let packer = new SequencePacker(tokenizer, length);
    let document = -1;
    let taken = 0;
    for await (const passage of readPassages(path)) {
      options.signal?.throwIfAborted();
      if (!isHeldOut(passage.document, heldOutEvery)) continue;
      if (passage.document !== document) {
        document = passage.document;
        taken = 0;
      }
      if (taken >= heldOutPerDocument) continue;
      packer.add(passage);
      const sequence = new Int32Array(length);
      while (sequences.length < until && taken < heldOutPerDocument && packer.take(sequence)) {
        sequences.push(sequence.slice());
        taken++;
      }
      if (sequences.length >= until) break;
      // The rest of a document that has given enough is left out too.
      if (taken >= heldOutPerDocument) packer = new SequencePacker(tokenizer, length);
    }
  }
  return concatenate(sequences, length);
}

/**
 * A whole text packed as in training: at most `count` sequences [sequences, length]; the tokens after the last full one are left out.
 * `bytes` counts the UTF-8 bytes of the paragraphs read, line ends included, `tokens` all their tokens.
 * @throws InputError if the file cannot be read or is not text, or the tokenizer makes nothing of it
 */
export async function packText(
  options: { path: string; tokenizer: BulkTokenizer; length: number; count?: number } & Reading,
): Promise<{ sequences: Int32Array; tokens: number; bytes: number }> {
  const { path, tokenizer, length, count = Number.POSITIVE_INFINITY } = options;
  const losses = lossesOf(options);
  const packer = new SequencePacker(tokenizer, length);
  const encoder = new TextEncoder();
  const sequences: Int32Array[] = [];
  let tokens = 0;
  let bytes = 0;
  for await (const passage of readPassages(path)) {
    options.signal?.throwIfAborted();
    const before = packer.rest().length;
    packer.add(passage);
    packer.checkLoss(losses, path, false);
    tokens += packer.pending.length - before;
    for (const paragraph of passage.paragraphs) bytes += encoder.encode(paragraph).length + 1;
    const sequence = new Int32Array(length);
    while (sequences.length < count && packer.take(sequence)) sequences.push(sequence.slice());
    if (sequences.length >= count) break;
  }
  packer.checkLoss(losses, path, true);
  return { sequences: concatenate(sequences, length), tokens, bytes };
}

function concatenate(sequences: readonly Int32Array[], length: number): Int32Array {
  const all = new Int32Array(sequences.length * length);
  sequences.forEach((sequence, index) => {
    all.set(sequence, index * length);
  });
  return all;
}
