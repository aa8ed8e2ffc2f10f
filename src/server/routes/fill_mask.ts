import * as v from 'valibot';
import { route } from '../route.ts';
import { count, either, fields, modelName, text, texts } from '../schemas.ts';

const candidate = v.object({ score: v.number(), token: v.number(), token_str: v.string(), sequence: v.string() });
const candidates = v.array(candidate);
const ofText = v.union([candidates, v.array(candidates)]);

export const fillMaskRoute = route({
  paths: ['/fill_mask'],
  summary: 'The most probable words for each blank of a text',
  kinds: ['fill_mask'],
  body: fields({
    inputs: either('a string or an array of strings', text, texts),
    top_k: v.nullish(v.pipe(count('Words for each blank.'), v.maxValue(1000, 'at most 1000')), 5),
    model: modelName,
  }),
  answer: v.union([ofText, v.array(ofText)]),
  example: { inputs: 'The capital of France is [MASK].', top_k: 3 },
  async handle({ inputs, top_k, model: name }, exchange) {
    const model = exchange.modelFor(['fill_mask'], name);
    const given = typeof inputs === 'string' ? [inputs] : inputs;
    const method = typeof inputs === 'string' ? 'single' : 'batch';
    return await exchange.call({ texts: given, method }, (control) => model.fill(inputs as string | string[], { ...control, top_k }));
  },
});
