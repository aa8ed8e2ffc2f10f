/** What a ranking of documents is worth, by the usual measures. */

/** The k documents of the highest scores so far, best first; of equal scores the one that came first. */
export class TopDocuments {
  readonly ids: string[] = [];
  private readonly scores: number[] = [];

  constructor(private readonly k: number) {}

  /** Below this nothing is taken. */
  get least(): number {
    return this.ids.length === this.k ? this.scores[this.k - 1] : Number.NEGATIVE_INFINITY;
  }

  add(id: string, score: number): void {
    if (this.ids.length === this.k) {
      if (!(score > this.scores[this.k - 1])) return;
      this.ids.pop();
      this.scores.pop();
    }
    let [low, high] = [0, this.ids.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.scores[middle] >= score) low = middle + 1;
      else high = middle;
    }
    this.ids.splice(low, 0, id);
    this.scores.splice(low, 0, score);
  }
}

/** By document: its grade, from 1. */
export type Grades = ReadonlyMap<string, number>;

/**
 * Normalized discounted cumulative gain at k: the grades of the first k, each over log2(rank + 1), against that of the best order there
 * is. As trec_eval and BEIR have it, whose gain is the grade itself.
 */
export function ndcg(ranking: readonly string[], grades: Grades, k: number): number {
  const discounted = (gains: readonly number[]) => gains.slice(0, k).reduce((sum, gain, rank) => sum + gain / Math.log2(rank + 2), 0);
  const best = discounted([...grades.values()].sort((a, b) => b - a));
  return discounted(ranking.slice(0, k).map((id) => grades.get(id) ?? 0)) / best;
}

/** The share of the relevant documents that are among the first k. */
export function recall(ranking: readonly string[], grades: Grades, k: number): number {
  return ranking.slice(0, k).filter((id) => grades.has(id)).length / grades.size;
}

/** One over the rank of the first relevant document, 0 if it is not among the first k. Its mean is MRR@k. */
export function reciprocalRank(ranking: readonly string[], grades: Grades, k: number): number {
  const rank = ranking.slice(0, k).findIndex((id) => grades.has(id));
  return rank < 0 ? 0 : 1 / (rank + 1);
}
