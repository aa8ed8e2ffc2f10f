import * as v from 'valibot';
import { RequestError } from '../errors.ts';
import { route } from '../route.ts';
import { count, modelName } from '../schemas.ts';

const candidate = v.object({ score: v.number(), token: v.number(), token_str: v.string(), sequence: v.string() });
const candidates = v.array(candidate);
const ofText = v.union([candidates, v.array(candidates)]);

export const fillMaskRoute = route({
  paths: ['/fill_mask'],
  summary: 'The most probable words for each blank of a text',
  kinds: ['fill_mask'],
  body: v.object({
    inputs: v.union([v.string(), v.array(v.string())], 'a string or an array of strings'),
    top_k: v.nullish(v.pipe(count('Words for each blank.'), v.maxValue(1000, 'at most 1000')), 5),
    model: modelName,
  }),
  answer: v.union([ofText, v.array(ofText)]),
  example: { inputs: 'The capital of France is [MASK].', top_k: 3 },
  async handle({ inputs, top_k, model: name }, exchange) {
    const model = exchange.modelFor(['fill_mask'], name);
    const texts = typeof inputs === 'string' ? [inputs] : inputs;
    if (texts.some((text) => text === '')) throw new RequestError('Empty', '`inputs`: a text is empty');
    const method = typeof inputs === 'string' ? 'single' : 'batch';
    return await exchange.call({ texts, method }, (control) => model.fill(inputs as string | string[], { ...control, top_k }));
  },
});
