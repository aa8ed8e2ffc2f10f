import * as v from 'valibot';
import type { Exchange } from '../exchange.ts';
import { route } from '../route.ts';
import {
  dimensions,
  fields,
  flag,
  type Inputs,
  inputs,
  listOf,
  modelName,
  promptName,
  text,
  texts,
  truncation,
  truncationOf,
  vector,
} from '../schemas.ts';

const asked = { inputs, ...truncation, prompt_name: promptName, model: modelName };

interface Asked {
  inputs: Inputs;
  normalize: boolean;
  dimensions?: number | null;
  prompt_name?: string | null;
  model?: string | null;
  truncate?: boolean | null;
  truncation_direction?: 'Right' | 'Left' | 'right' | 'left';
}

/** The vectors of a request's texts. */
export async function embed(asked: Asked, exchange: Exchange): Promise<Float32Array[]> {
  const model = exchange.modelFor(['embedding'], asked.model);
  const { texts, method } = listOf(asked.inputs);
  const width = asked.dimensions ?? model.extract.width;
  const { data, dims } = await exchange.call({ texts, method, work: 'embed', numbers: texts.length * width }, (control) =>
    model.extract(texts, {
      ...control,
      ...truncationOf({ truncation_direction: 'Right', ...asked }, exchange),
      pooling: model.pooling,
      normalize: asked.normalize,
      dimensions: asked.dimensions ?? undefined,
      ...(asked.prompt_name ? { prompt_name: asked.prompt_name } : {}),
    }),
  );
  return Array.from({ length: dims[0] }, (_, row) => data.subarray(row * dims[1], (row + 1) * dims[1]));
}

export const embedRoute = route({
  paths: ['/embed'],
  summary: 'The vector of each text',
  kinds: ['embedding'],
  body: fields({ ...asked, normalize: flag(true, 'Scale vectors to length 1.'), dimensions }),
  answer: v.array(vector),
  example: { inputs: ['A cat sleeps.', 'A dog barks.'] },
  handle: (body, exchange) => embed(body, exchange),
});

export const embedAllRoute = route({
  paths: ['/embed_all'],
  summary: "The vectors of each text's tokens",
  kinds: ['embedding'],
  body: fields(asked),
  answer: v.array(v.array(vector)),
  example: { inputs: 'A cat sleeps.' },
  async handle(body, exchange) {
    const model = exchange.modelFor(['embedding'], body.model);
    const { texts, method } = listOf(body.inputs);
    const width = model.config.hiddenSize;
    // A token has a character at least, but for those that begin and end a text.
    const tokens = texts.reduce((sum, text) => sum + Math.min(text.length + 8, model.maxLength), 0);
    const { data, dims } = await exchange.call({ texts, method, work: 'embed', numbers: tokens * width }, (control) =>
      model.extract(texts, {
        ...control,
        ...truncationOf(body, exchange),
        pooling: 'none',
        ...(body.prompt_name ? { prompt_name: body.prompt_name } : {}),
      }),
    );
    // Shorter texts are filled up with zeros, which are not theirs.
    const counts = exchange.timing?.texts.map((text) => text.tokens) ?? [];
    return counts.map((count, text) =>
      Array.from({ length: count }, (_, token) => data.subarray((text * dims[1] + token) * width, (text * dims[1] + token + 1) * width)),
    );
  },
});

const parameters = fields({ ...truncation, prompt_name: promptName });

export const similarityRoute = route({
  paths: ['/similarity'],
  summary: 'How near sentences are to another, by the cosine of their vectors',
  kinds: ['embedding'],
  body: fields({
    inputs: fields({ source_sentence: text, sentences: texts }),
    parameters: v.nullish(parameters),
    model: modelName,
  }),
  answer: v.array(v.number()),
  example: { inputs: { source_sentence: 'A cat sleeps.', sentences: ['A kitten naps.', 'Stocks fell.'] } },
  async handle({ inputs: { source_sentence, sentences }, parameters, model }, exchange) {
    const asked = { inputs: [source_sentence, ...sentences], normalize: true, model, ...parameters };
    const [source, ...others] = await embed(asked, exchange);
    return others.map((other) => other.reduce((sum, value, i) => sum + value * source[i], 0));
  },
});
