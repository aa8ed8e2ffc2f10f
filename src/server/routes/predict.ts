import * as v from 'valibot';
import type { Exchange } from '../exchange.ts';
import { route } from '../route.ts';
import { count, either, fields, flag, list, modelName, text, texts, truncation, truncationOf } from '../schemas.ts';

type Text = string | [string, string];

const prediction = v.object({ score: v.number(), label: v.string() });
const textOrPair = v.pipe(texts, v.maxLength(2, 'a text or a pair, one or two strings'));

export const predictRoute = route({
  paths: ['/predict'],
  summary: 'The classes of texts or of pairs of texts, the most probable first',
  kinds: ['classifier', 'reranker'],
  body: fields({
    inputs: v.pipe(
      either('a string, an array of one or two strings, or an array of such arrays', text, textOrPair, list(textOrPair)),
      v.description('A text; a pair ["a", "b"]; or a list of either, each in an array: [["a"], ["a", "b"]].'),
    ),
    ...truncation,
    raw_scores: flag(false, "The model's outputs as they are."),
    model: modelName,
  }),
  answer: v.union([v.array(prediction), v.array(v.array(prediction))]),
  example: { inputs: 'I like this.' },
  async handle(body, exchange) {
    const model = exchange.modelFor(['classifier', 'reranker'], body.model);
    const { inputs } = body;
    const isBatch = Array.isArray(inputs[0]);
    const given = (isBatch ? inputs : [typeof inputs === 'string' ? [inputs] : inputs]) as string[][];
    const texts = given.map(([one, two]): Text => (two === undefined ? one : [one, two]));
    const own = truncationOf(body, exchange);
    const usual = model.kind === 'reranker' ? ('sigmoid' as const) : undefined;
    const function_to_apply = body.raw_scores ? ('none' as const) : usual;
    const numbers = texts.length * model.classify.model.labels;
    const answers = await exchange.call({ texts, method: isBatch ? 'batch' : 'single', work: 'predict', numbers }, (control) =>
      model.classify(texts, { ...control, ...own, function_to_apply, top_k: null }),
    );
    const lists = answers.map((classes) => classes.map(({ score, label }) => ({ score, label })));
    return isBatch ? lists : lists[0];
  },
});

interface Ranking {
  query: string;
  texts: readonly string[];
  raw_scores?: boolean;
  top?: number | null;
  model?: string | null;
  truncate?: boolean | null;
  truncation_direction?: 'Right' | 'Left' | 'right' | 'left';
}

/** The documents, best first. */
async function rank({ query, texts, raw_scores, top, model: name, ...cut }: Ranking, exchange: Exchange) {
  const model = exchange.modelFor(['reranker'], name);
  const own = truncationOf({ truncation_direction: 'Right', ...cut }, exchange);
  const function_to_apply = raw_scores ? ('none' as const) : ('sigmoid' as const);
  const pairs = texts.map((text) => [query, text]);
  return await exchange.call({ texts: pairs, method: 'batch', work: 'predict' }, (control) =>
    model.rank(query, texts, { ...control, ...own, function_to_apply, top_k: top ?? undefined }),
  );
}

export const rerankRoute = route({
  paths: ['/rerank'],
  summary: 'Texts by how well they answer a query, the best first',
  kinds: ['reranker'],
  body: fields({
    query: text,
    texts: list(v.string()),
    ...truncation,
    raw_scores: flag(false, "The model's output as it is, instead of its sigmoid."),
    return_text: flag(false, 'The texts too.'),
    model: modelName,
  }),
  answer: v.array(v.object({ index: v.number(), score: v.number(), text: v.optional(v.string()) })),
  example: { query: 'What sleeps?', texts: ['Stocks fell.', 'A cat sleeps.'] },
  async handle({ return_text, ...asked }, exchange) {
    const ranked = await rank(asked, exchange);
    return ranked.map(({ corpus_id, score, text }) => ({ index: corpus_id, score, ...(return_text ? { text } : {}) }));
  },
});

export const documentsRoute = route({
  paths: ['/v1/rerank'],
  summary: "Documents by how well they answer a query: Cohere's form of /rerank",
  kinds: ['reranker'],
  body: fields({
    query: text,
    documents: list(v.union([v.string(), fields({ text: v.string() })], 'a string, or an object with a text')),
    top_n: v.nullish(count('Documents to return.')),
    return_documents: flag(false, 'The documents too.'),
    model: modelName,
  }),
  answer: v.object({
    results: v.array(v.object({ index: v.number(), relevance_score: v.number(), document: v.optional(v.object({ text: v.string() })) })),
    model: v.string(),
    usage: v.object({ prompt_tokens: v.number(), total_tokens: v.number() }),
  }),
  example: { query: 'What sleeps?', documents: ['Stocks fell.', 'A cat sleeps.'], top_n: 1 },
  async handle({ query, documents, top_n, return_documents, model }, exchange) {
    const texts = documents.map((document) => (typeof document === 'string' ? document : document.text));
    const ranked = await rank({ query, texts, top: top_n, model }, exchange);
    const { tokens } = exchange;
    return {
      results: ranked.map(({ corpus_id, score, text }) => ({
        index: corpus_id,
        relevance_score: score,
        ...(return_documents ? { document: { text } } : {}),
      })),
      model: exchange.model?.name,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    };
  },
});
