import { copyOfWord } from './pre_tokenizer.ts';

/**
 * Distinct words held at a time; beyond, the rarest are forgotten, so that memory does not grow with the text. 100 MB of random words,
 * the worst case, then take 0.4 GB in all.
 */
const maxWords = 1_000_000;

/** How often each word of some texts occurs, what a tokenizer is trained on. */
export class WordCounts {
  private readonly counts = new Map<string, number>();
  /** The highest count of a word that was forgotten. */
  private forgotten = 0;

  get size(): number {
    return this.counts.size;
  }

  has(word: string): boolean {
    return this.counts.has(word);
  }

  add(word: string): void {
    const count = this.counts.get(word);
    if (count === undefined) this.counts.set(copyOfWord(word), 1);
    else this.counts.set(word, count + 1);
  }

  /** Where there are too many, forgets the rarest words until at least half the room is free. */
  limit(): void {
    if (this.counts.size <= maxWords) return;
    while (this.counts.size > maxWords / 2) {
      this.forgotten += 1;
      for (const [word, count] of this.counts) if (count <= this.forgotten) this.counts.delete(word);
    }
  }

  /** The words in a fixed order, so that what is trained does not depend on the order of the texts, and how often each occurs. */
  sorted(): { words: string[]; times: number[] } {
    const words = Array.from(this.counts.keys()).sort();
    return { words, times: words.map((word) => this.counts.get(word) as number) };
  }
}
