/** Retrieval tasks in BEIR's form (arXiv 2104.08663): corpus.jsonl, queries.jsonl and qrels/test.tsv, the first two perhaps gzipped. */
import * as v from 'valibot';
import { joinPath } from '#platform';
import { InputError } from '../errors.ts';
import { readLines } from '../io/files.ts';

export interface RetrievalTask {
  /** Those that have a relevant document, in the order of the file. */
  queries: { id: string; text: string }[];
  /** By query: the documents that are relevant to it, with their grades, from 1. */
  judgements: Map<string, Map<string, number>>;
  /** Queries of queries.jsonl without a relevant document, which do not count. */
  withoutRelevant: number;
  /** Relevant queries of qrels/test.tsv that queries.jsonl does not have. */
  missingQueries: number;
  /** Documents of corpus.jsonl. */
  documents: number;
}

export interface RetrievalDocument {
  id: string;
  /** Title and text with a space between, as BEIR has them embedded. */
  text: string;
}

/** The whole of a task but the documents' texts, which {@link readCorpus} gives. @throws InputError naming file and line */
export async function readRetrievalTask(folder: string): Promise<RetrievalTask> {
  const judgements = await readJudgements(joinPath(folder, 'qrels', 'test.tsv'));
  const queries: RetrievalTask['queries'] = [];
  let all = 0;
  for await (const query of readQueries(joinPath(folder, 'queries.jsonl'))) {
    all++;
    if (judgements.has(query.id)) queries.push(query);
  }
  if (queries.length === 0)
    throw new InputError(`${folder}: no query of queries.jsonl has a relevant document in qrels/test.tsv (a score above 0), expected some`);
  const corpus = joinPath(folder, 'corpus.jsonl');
  let documents = 0;
  for await (const line of readLines(corpus, 'cut')) if (line.trim() !== '') documents++;
  if (documents === 0) throw new InputError(`${corpus}: has no documents, expected a JSON object a line`);
  return { queries, judgements, withoutRelevant: all - queries.length, missingQueries: judgements.size - queries.length, documents };
}

const documentSchema = v.object({ _id: v.string(), title: v.optional(v.string(), ''), text: v.string() });

/** The documents of a corpus, one by one, however many. @throws InputError naming file and line of one that is none, or whose id came before */
export async function* readCorpus(folder: string): AsyncGenerator<RetrievalDocument> {
  for await (const { _id: id, title, text } of readObjects(joinPath(folder, 'corpus.jsonl'), documentSchema, '{"_id", "title", "text"}'))
    yield { id, text: `${title} ${text}`.trim() };
}

async function* readQueries(path: string): AsyncGenerator<{ id: string; text: string }> {
  for await (const { _id: id, text } of readObjects(path, v.object({ _id: v.string(), text: v.string() }), '{"_id", "text"}'))
    yield { id, text };
}

async function* readObjects<Schema extends v.GenericSchema<unknown, { _id: string }>>(
  path: string,
  schema: Schema,
  expected: string,
): AsyncGenerator<v.InferOutput<Schema>> {
  const seen = new Set<string>();
  let number = 0;
  for await (const line of readLines(path, 'refuse')) {
    number++;
    if (line.trim() === '') continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      // Told below.
    }
    const { success, output, issues } = v.safeParse(schema, value);
    if (!success)
      throw new InputError(`${path}, line ${number}: ${problemOf(issues[0])}; expected a JSON object ${expected}, each of them a string`);
    if (seen.has(output._id)) throw new InputError(`${path}, line ${number}: the id '${output._id}' came before, expected another`);
    seen.add(output._id);
    yield output;
  }
}

function problemOf(issue: v.BaseIssue<unknown>): string {
  const at = v.getDotPath(issue);
  return at ? `'${at}' is ${issue.received === 'undefined' ? 'missing' : `not a string`}` : 'is no JSON object';
}

/** Grades above 0, by query and document. */
async function readJudgements(path: string): Promise<RetrievalTask['judgements']> {
  const judgements: RetrievalTask['judgements'] = new Map();
  let number = 0;
  for await (const line of readLines(path, 'refuse')) {
    number++;
    const cells = line.split('\t');
    // The first line names the columns.
    if (number === 1 && cells[2] === 'score') continue;
    if (line.trim() === '') continue;
    const [query, document, text] = cells;
    const grade = Number(text);
    if (cells.length !== 3 || !/^-?\d+$/.test(text.trim()))
      throw new InputError(`${path}, line ${number}: expected a query's id, a document's id and a whole number, with tabs between them`);
    if (grade <= 0) continue;
    const own = judgements.get(query) ?? new Map<string, number>();
    if (own.size === 0) judgements.set(query, own);
    own.set(document, grade);
  }
  return judgements;
}
