/** How well vectors of texts find what is relevant to a query. */
import type { Device } from '../backend/device.ts';
import { mean } from '../training/statistics.ts';
import { type RetrievalDocument, type RetrievalTask, readCorpus, readRetrievalTask } from './beir.ts';
import { ndcg, recall, reciprocalRank, TopDocuments } from './ranking.ts';

export interface RetrievalScores {
  /** Means over the queries that have a relevant document. */
  ndcgAt10: number;
  mrrAt10: number;
  recallAt100: number;
  queries: number;
  documents: number;
}

/** Vectors of length 1, one a text, in order. */
export type Embed = (texts: AsyncIterable<string>, kind: 'query' | 'document') => AsyncIterable<Float32Array>;

export interface RetrievalOptions {
  device: Device;
  embed: Embed;
  onProgress?(done: number, total: number): void;
  /** Is told, in one line, of what does not count. */
  onNotice?(line: string): void;
}

/** Documents whose products with the queries are in memory at once; and queries at once. */
const documentsAtOnce = 1024;
const queriesAtOnce = 1024;

/** As many as the widest measure looks at. */
const ranked = 100;

/**
 * Ranks all documents of a folder in BEIR's form for each query, by the cosine of their vectors, and scores the rankings as BEIR does: a
 * document with the query's own id does not count. Documents are read and embedded as a stream, so that a corpus may be of any size.
 * @throws InputError if a file is missing or malformed, naming the line
 */
export async function evaluateRetrieval(folder: string, options: RetrievalOptions): Promise<RetrievalScores> {
  const task = await readRetrievalTask(folder);
  tellOfWhatIsLeftOut(task, options);
  const { queries, judgements } = task;
  const rankings = await rank(task, readCorpus(folder), options);
  const meanOf = (measure: typeof ndcg, k: number) =>
    mean(queries.map(({ id }, index) => measure(rankings[index], judgements.get(id) as Map<string, number>, k)));
  return {
    ndcgAt10: meanOf(ndcg, 10),
    mrrAt10: meanOf(reciprocalRank, 10),
    recallAt100: meanOf(recall, 100),
    queries: queries.length,
    documents: task.documents,
  };
}

function tellOfWhatIsLeftOut({ withoutRelevant, missingQueries }: RetrievalTask, { onNotice }: RetrievalOptions): void {
  const queries = (count: number, one: string, several: string) => (count === 1 ? `1 query ${one}` : `${count} queries ${several}`);
  const doNotCount = (count: number) => (count === 1 ? 'it does not count' : 'they do not count');
  if (withoutRelevant > 0)
    onNotice?.(`${queries(withoutRelevant, 'has', 'have')} no relevant document in qrels/test.tsv: ${doNotCount(withoutRelevant)}`);
  if (missingQueries > 0)
    onNotice?.(
      `${queries(missingQueries, 'of qrels/test.tsv is', 'of qrels/test.tsv are')} not in queries.jsonl: ${doNotCount(missingQueries)}`,
    );
}

/** Of each query, the ids of the nearest documents, nearest first. */
async function rank(
  { queries, documents: total }: RetrievalTask,
  corpus: AsyncIterable<RetrievalDocument>,
  { device, embed, onProgress }: RetrievalOptions,
): Promise<(readonly string[])[]> {
  async function* texts() {
    for (const { text } of queries) yield text;
  }
  const vectors: Float32Array[] = [];
  for await (const vector of embed(texts(), 'query')) vectors.push(vector);
  const width = vectors[0].length;
  using wanted = device.tensor('queries', [queries.length, width], 'f32', joined(vectors, width));
  const best = queries.map(() => new TopDocuments(ranked));

  const compare = async (ids: readonly string[], rows: readonly Float32Array[]) => {
    using documents = device.tensor('documents', [rows.length, width], 'f32', joined(rows, width));
    for (let first = 0; first < queries.length; first += queriesAtOnce) {
      const count = Math.min(queriesAtOnce, queries.length - first);
      using products = device.tensor('products', [count, rows.length]);
      device.linear({ input: wanted.view([count, width], first * width), weight: documents, output: products });
      const scores = await device.read(products);
      for (let query = 0; query < count; query++) {
        const [top, own] = [best[first + query], scores.subarray(query * rows.length, (query + 1) * rows.length)];
        for (const [index, score] of own.entries())
          if (score > top.least && ids[index] !== queries[first + query].id) top.add(ids[index], score);
      }
    }
  };

  let ids: string[] = [];
  /** Of documents that were read and whose vectors have not come. */
  const waiting: string[] = [];
  async function* documentTexts() {
    for await (const { id, text } of corpus) {
      waiting.push(id);
      yield text;
    }
  }
  let rows: Float32Array[] = [];
  let done = 0;
  for await (const vector of embed(documentTexts(), 'document')) {
    ids.push(waiting.shift() as string);
    rows.push(vector);
    onProgress?.(++done, total);
    if (rows.length < documentsAtOnce) continue;
    await compare(ids, rows);
    [ids, rows] = [[], []];
  }
  if (rows.length > 0) await compare(ids, rows);
  return best.map((top) => top.ids);
}

function joined(rows: readonly Float32Array[], width: number): Float32Array {
  const all = new Float32Array(rows.length * width);
  for (const [index, row] of rows.entries()) all.set(row, index * width);
  return all;
}
