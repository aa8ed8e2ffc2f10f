/** A corpus as texts of the lengths that people embed: single sentences and whole paragraphs, in batches without padding. */
import { alone, type Group } from '../distributed/group.ts';
import { InputError } from '../errors.ts';
import { ignoredLabel } from '../models/language_model.ts';
import type { Batch } from '../models/transformer.ts';
import { CharacterLoss, LossNotice } from '../tokenizer/character_loss.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type FilePosition, isHeldOut, PassageMixture, readPassages } from '../training/documents.ts';
import { type MaskingOptions, maskSequence } from '../training/masking.ts';
import { CounterRandom, randomStream } from '../training/random.ts';
import type { Reading } from '../training/sequences.ts';
import { SharedPassages } from '../training/shared_passages.ts';

/** Sequences of one length, none of them padded. */
export interface TextsOfOneLength extends Batch {
  /** If they are masked: what a masked language model is asked about, indices into batch x length. */
  predicted?: Int32Array;
}

/** Lengths are multiples of this many tokens: at most as many less one are cut off a text, and texts of one length come together soon. */
const lengthStep = 4;
/** Batches' worth of texts that wait at each length, from which one batch is drawn at random: neighbors in a document come apart. */
const batchesWaiting = 8;
/** Shorter texts say little. */
export const leastTokens = 8;

/** What a resumed run needs to draw the batches that would have come next. */
export interface TextState {
  files: FilePosition[];
  /** Texts and batches drawn so far. */
  texts: number;
  batches: number;
  /** The texts that wait: for each its length and then its ids. */
  waiting: Int32Array;
}

export interface TextOptions extends Reading {
  paths: readonly string[];
  tokenizer: Tokenizer;
  /** Tokens of a text, at most. */
  length: number;
  /** Tokens of a batch, about. */
  batchTokens: number;
  seed: number;
  /** Every N-th document is left out; see {@link isHeldOut}. */
  heldOutEvery: number;
  /** For masked language models: the texts are masked, for that is what such a model is asked about. */
  masking?: MaskingOptions;
  /** For models with token types: texts come in pairs too, as classifiers of pairs read them. */
  pairs?: boolean;
  /** Those that read the files together. */
  group?: Group;
}

/** Endless batches of a corpus's texts. The same options give the same batches, resumed or not. */
export class TextStream {
  private readonly waiting = new Map<number, number[][]>();
  private readonly loss = new CharacterLoss();
  private readonly losses: LossNotice;

  private readonly passages: SharedPassages<{ paragraphs: number; texts: number[][] }>;

  private constructor(
    mixture: PassageMixture,
    private readonly options: TextOptions,
    private texts: number,
    private batches: number,
  ) {
    const started = texts;
    this.passages = new SharedPassages(mixture, options.group ?? alone, ({ paragraphs }, before) => ({
      paragraphs: paragraphs.length,
      texts: paragraphs.flatMap((paragraph, i) => this.textsOf(paragraph, started + before + i)),
    }));
    this.losses = new LossNotice((line) => options.onNotice?.(line));
  }

  /** @throws InputError if a file cannot be read, is not text or has none */
  static async open(options: TextOptions, state?: TextState): Promise<TextStream> {
    const { paths, heldOutEvery, signal, onNotice } = options;
    const mixture = await PassageMixture.open(paths, { heldOutEvery, positions: state?.files, signal, onNotice });
    const stream = new TextStream(mixture, options, state?.texts ?? 0, state?.batches ?? 0);
    for (let at = 0; state && at < state.waiting.length; at += 1 + state.waiting[at])
      stream.place(Array.from(state.waiting.subarray(at + 1, at + 1 + state.waiting[at])));
    return stream;
  }

  /**
   * Reads and tokenizes what the next batch needs, for the time in which the backend works. Does not change what is drawn.
   * @throws InputError if all texts are too short, or the tokenizer makes nothing of them; before the first batch the signal's reason
   */
  async prefetch(): Promise<void> {
    while (!this.ready()) {
      if (this.batches === 0) this.options.signal?.throwIfAborted();
      if (this.passages.epoch > 0 && this.waiting.size === 0)
        throw new InputError(`${this.options.paths.join(', ')}: no text has ${leastTokens} tokens or more, so that nothing can be learned`);
      const { paragraphs, texts } = await this.passages.next();
      this.texts += paragraphs;
      for (const ids of texts) this.place(ids);
      this.losses.ofCorpus(this.options.paths.join(', '), this.loss, this.passages.epoch > 0);
    }
  }

  /** The texts of the n-th paragraph, as ids. */
  private textsOf(paragraph: string, n: number): number[][] {
    const random = new CounterRandom(this.options.seed, randomStream.texts, n);
    return formsOf(paragraph, random.below(this.options.pairs ? 3 : 2)).flatMap((text) => {
      const ids = idsOf(text, this.options, this.loss);
      return ids ? [ids] : [];
    });
  }

  async next(): Promise<TextsOfOneLength> {
    await this.prefetch();
    const [texts, count] = this.ready() as [number[][], number];
    const random = new CounterRandom(this.options.seed, randomStream.distillation, this.batches++);
    const drawn = Array.from({ length: count }, () => {
      const at = random.below(texts.length);
      const text = texts[at];
      texts[at] = texts[texts.length - 1];
      texts.pop();
      return text;
    });
    return masked(batchOfOneLength(drawn, this.options), random, this.options.masking);
  }

  /** The texts of a length of which enough wait, and how many of them are a batch. */
  private ready(): [number[][], number] | undefined {
    for (const [length, texts] of this.waiting) {
      const count = Math.max(1, Math.round(this.options.batchTokens / length));
      if (texts.length >= count * batchesWaiting) return [texts, count];
    }
    return undefined;
  }

  /** How often the corpus has been read. */
  get passes(): number {
    return this.passages.passes;
  }

  /** As of now. */
  get state(): TextState {
    const waiting = [...this.waiting.values()].flat();
    const all = new Int32Array(waiting.reduce((sum, ids) => sum + 1 + ids.length, 0));
    let at = 0;
    for (const ids of waiting) {
      all[at] = ids.length;
      all.set(ids, at + 1);
      at += 1 + ids.length;
    }
    return { files: this.passages.positions, texts: this.texts, batches: this.batches, waiting: all };
  }

  close(): Promise<void> {
    return this.passages.close();
  }

  private place(ids: number[]): void {
    const { waiting } = this;
    const texts = waiting.get(ids.length) ?? [];
    if (texts.length === 0) waiting.set(ids.length, texts);
    texts.push(ids);
  }
}

/** Texts of the documents that training leaves out: at most `count`, as many paragraphs as sentences, from each file alike. */
export async function heldOutTexts(options: TextOptions & { count: number }): Promise<TextsOfOneLength[]> {
  const { paths, heldOutEvery, count, batchTokens } = options;
  const byLength = new Map<number, number[][]>();
  let found = 0;
  let paragraphs = 0;
  for (const [index, path] of paths.entries()) {
    const until = Math.round((count * (index + 1)) / paths.length);
    for await (const passage of readPassages(path)) {
      options.signal?.throwIfAborted();
      if (found >= until) break;
      if (!isHeldOut(passage.document, heldOutEvery)) continue;
      // A few of each passage, so that no single book fills all.
      for (const paragraph of passage.paragraphs.slice(0, 8)) {
        for (const text of formsOf(paragraph, paragraphs++ % 2).slice(0, 1)) {
          const ids = found < until ? idsOf(text, options) : undefined;
          if (!ids) continue;
          byLength.set(ids.length, [...(byLength.get(ids.length) ?? []), ids]);
          found++;
        }
      }
    }
  }
  const batches: TextsOfOneLength[] = [];
  const random = new CounterRandom(options.seed, randomStream.evaluation, 0);
  for (const [length, texts] of [...byLength].sort(([a], [b]) => a - b)) {
    const most = Math.max(1, Math.round(batchTokens / length));
    for (let first = 0; first < texts.length; first += most)
      batches.push(masked(batchOfOneLength(texts.slice(first, first + most), options), random, options.masking));
  }
  return batches;
}

/** A text, or two that are read together. */
type Text = readonly [text: string, pair?: string];

/** A paragraph as a whole (0), as its sentences (1), or as pairs of neighboring sentences (2). */
function formsOf(paragraph: string, form: number): Text[] {
  if (form === 0) return [[paragraph]];
  const sentences = sentencesOf(paragraph);
  if (form === 1) return sentences.map((sentence) => [sentence]);
  return Array.from({ length: Math.ceil(sentences.length / 2) }, (_, i) => [sentences[2 * i], sentences[2 * i + 1]]);
}

/** A text's ids with special tokens, its end cut so that the length is a multiple of {@link lengthStep}; undefined if it is too short. */
function idsOf([text, pair]: Text, { tokenizer, length }: TextOptions, sum?: CharacterLoss): number[] | undefined {
  const { ids, loss } = tokenizer.encode(text, { pair, maxLength: length });
  sum?.add(loss);
  const kept = ids.length - (ids.length % lengthStep);
  if (kept < leastTokens) return undefined;
  return kept === ids.length ? ids : tokenizer.encode(text, { pair, maxLength: kept }).ids;
}

/** Split where a sentence seems to end and another to begin. */
function sentencesOf(paragraph: string): string[] {
  return paragraph.split(/(?<=[.!?]["')]?)\s+(?=["'(]?[A-Z0-9])/);
}

function batchOfOneLength(texts: readonly number[][], { tokenizer, pairs }: TextOptions): TextsOfOneLength {
  const [{ length }] = texts;
  const ids = new Int32Array(texts.length * length);
  texts.forEach((text, row) => {
    ids.set(text, row * length);
  });
  if (!pairs) return { batch: texts.length, length, ids };
  // What comes behind the first [SEP] is the second of a pair.
  const typeIds = new Int32Array(ids.length);
  texts.forEach((text, row) => {
    const end = text.indexOf(tokenizer.sepId as number) + 1;
    if (end > 0) typeIds.fill(1, row * length + end, (row + 1) * length);
  });
  return { batch: texts.length, length, ids, typeIds };
}

/** The same texts, masked in place if there is anything to mask them with. */
function masked(texts: TextsOfOneLength, random: CounterRandom, masking?: MaskingOptions): TextsOfOneLength {
  if (!masking) return texts;
  const { batch, length, ids } = texts;
  const labels = new Int32Array(ids.length);
  for (let row = 0; row < batch; row++) {
    const [first, end] = [row * length, (row + 1) * length];
    maskSequence(ids.subarray(first, end), labels.subarray(first, end), random, masking);
  }
  return { ...texts, predicted: Int32Array.from(labels.keys()).filter((position) => labels[position] !== ignoredLabel) };
}
