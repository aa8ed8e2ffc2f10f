/** Passages of a corpus that a group of ranks reads together. */
import type { Group } from '../distributed/group.ts';
import { epochOf, type FilePosition, type Passage, type PassageMixture, passesOf } from './documents.ts';

/** Passages of each rank that are exchanged together. */
const passagesPerRank = 8;

/**
 * The passages of a mixture, and what `work` makes of each (tokens, say): each rank works on its share of them, one of so many, and gets the
 * rest from the others. So all of them have all, in the order in which one process has it, and where the mixture stands does not depend on the
 * number of ranks. Reading lines is for all of them: it takes little beside making tokens of them.
 */
export class SharedPassages<Result> {
  /** Paragraphs read. */
  private paragraphs = 0;
  private readonly waiting: { positions: FilePosition[]; result: Result }[] = [];
  private taken: FilePosition[];

  constructor(
    private readonly mixture: PassageMixture,
    private readonly group: Group,
    /** `before`: how many paragraphs came before it. */
    private readonly work: (passage: Passage, before: number) => Result,
  ) {
    this.taken = mixture.positions;
  }

  /** Where the files are read after what `next` gave last. */
  get positions(): FilePosition[] {
    return this.group.size === 1 ? this.mixture.positions : this.taken.map((position) => ({ ...position }));
  }

  /** Times that every file has been read to its end. */
  get epoch(): number {
    return epochOf(this.positions);
  }

  /** How often the files have been read, a part of a time included. */
  get passes(): number {
    return passesOf(this.positions);
  }

  /** For all ranks to call. @throws InputError as {@link PassageMixture.next} */
  async next(): Promise<Result> {
    if (this.group.size === 1) return this.worked(await this.mixture.next());
    if (this.waiting.length === 0) await this.read();
    const { positions, result } = this.waiting.shift() as { positions: FilePosition[]; result: Result };
    this.taken = positions;
    return result;
  }

  /** As far as the end of an epoch, at most: who fills a pool with all that there is must not find more. */
  private async read(): Promise<void> {
    const { mixture, group } = this;
    const { epoch } = mixture;
    const places: FilePosition[][] = [];
    const own: Result[] = [];
    while (places.length < passagesPerRank * group.size && mixture.epoch === epoch) {
      const passage = await mixture.next();
      if (places.length % group.size === group.rank) own.push(this.worked(passage));
      else this.paragraphs += passage.paragraphs.length;
      places.push(mixture.positions);
    }
    const all = await group.gather('texts', own);
    for (const [index, positions] of places.entries())
      this.waiting.push({ positions, result: all[index % group.size][Math.floor(index / group.size)] });
  }

  private worked(passage: Passage): Result {
    const before = this.paragraphs;
    this.paragraphs += passage.paragraphs.length;
    return this.work(passage, before);
  }

  /** Closes the files. */
  close(): Promise<void> {
    return this.mixture.close();
  }
}
