import { joinPath, kindOf } from '#platform';
import { InputError } from '../errors.ts';
import { readLines } from '../io/files.ts';
import { pearson, spearman } from '../training/metrics.ts';

/** Two sentences and how alike people find them, 0 to 5. */
export interface SentencePair {
  first: string;
  second: string;
  score: number;
}

/**
 * STS-B's development set: `folder` holds dev.tsv, or a folder STS-B that does (GLUE's layout: tabs between columns, named in the first
 * line; quotes are plain characters).
 * @throws InputError naming file and line if it is missing or a line is malformed.
 */
export async function readStsB(folder: string): Promise<SentencePair[]> {
  const inside = joinPath(folder, 'STS-B', 'dev.tsv');
  const path = (await kindOf(inside)) === 'file' ? inside : joinPath(folder, 'dev.tsv');
  const pairs: SentencePair[] = [];
  let header: string[] | undefined;
  let line = 0;
  for await (const text of readLines(path)) {
    line++;
    const cells = text.split('\t');
    if (!header) {
      header = cells;
      const missing = ['sentence1', 'sentence2', 'score'].filter((name) => !cells.includes(name));
      if (missing.length > 0) throw new InputError(`${path}, line 1: lacks the columns ${missing.join(', ')}, expected STS-B's dev.tsv`);
      continue;
    }
    const columns = header;
    if (cells.length !== columns.length)
      throw new InputError(`${path}, line ${line}: has ${cells.length} columns, expected ${columns.length}`);
    const [first, second, score] = ['sentence1', 'sentence2', 'score'].map((name) => cells[columns.indexOf(name)]);
    const value = Number(score);
    if (score.trim() === '' || !(value >= 0 && value <= 5))
      throw new InputError(`${path}, line ${line}: score '${score}', expected a number from 0 to 5`);
    pairs.push({ first, second, score: value });
  }
  if (pairs.length < 2) throw new InputError(`${path}: has ${pairs.length} pairs of sentences, expected at least 2`);
  return pairs;
}

export interface StsScores {
  pairs: number;
  /** Correlations of the embeddings' cosines with people's scores. */
  spearman: number;
  pearson: number;
}

/** `embed` gives each text's vector, one after the other. */
export async function evaluateSts(
  pairs: readonly SentencePair[],
  embed: (texts: readonly string[]) => Promise<Float32Array>,
): Promise<StsScores> {
  const vectors = await embed(pairs.flatMap(({ first, second }) => [first, second]));
  const width = vectors.length / (2 * pairs.length);
  const cosines = pairs.map((_, i) => {
    const start = 2 * i * width;
    return cosine(vectors.subarray(start, start + width), vectors.subarray(start + width, start + 2 * width));
  });
  const scores = pairs.map(({ score }) => score);
  return { pairs: pairs.length, spearman: spearman(cosines, scores), pearson: pearson(cosines, scores) };
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [product, squaresA, squaresB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    squaresA += a[i] ** 2;
    squaresB += b[i] ** 2;
  }
  return squaresA > 0 && squaresB > 0 ? product / Math.sqrt(squaresA * squaresB) : 0;
}
