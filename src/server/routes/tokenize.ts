import * as v from 'valibot';
import { promptOf } from '../../pipelines/sentence_transformer.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { RequestError } from '../errors.ts';
import { route } from '../route.ts';
import { flag, modelName, promptName } from '../schemas.ts';
import { pipelineOf, type ServedModel } from '../served_model.ts';

const everyKind = ['embedding', 'classifier', 'reranker', 'fill_mask'] as const;

const token = v.object({
  id: v.number(),
  text: v.string(),
  special: v.boolean(),
  start: v.pipe(v.nullable(v.number()), v.description('Where it begins, in bytes of UTF-8; null of tokens that stand for no text.')),
  stop: v.nullable(v.number()),
});

export const tokenizeRoute = route({
  paths: ['/tokenize'],
  summary: 'The tokens of each text',
  body: v.object({
    inputs: v.union([v.string(), v.array(v.string())], 'a string or an array of strings'),
    add_special_tokens: flag(true, 'Also the tokens that the model puts around a text.'),
    prompt_name: promptName,
    model: modelName,
  }),
  answer: v.array(v.array(token)),
  example: { inputs: 'A cat sleeps.' },
  async handle({ inputs, add_special_tokens: addSpecialTokens, prompt_name, model: name }, exchange) {
    const model = exchange.modelFor(everyKind, name);
    const texts = typeof inputs === 'string' ? [inputs] : inputs;
    if (texts.length === 0 || texts.includes('')) throw new RequestError('Empty', '`inputs` is empty, or a text in it');
    const before = prompt_name ? promptOf({ prompt_name }, promptsOf(model)) : '';
    const { tokenizer } = pipelineOf(model);
    return texts.map((text) => tokensOf(tokenizer, before + text, addSpecialTokens));
  },
});

const promptsOf = (model: ServedModel) => (model.kind === 'embedding' ? { named: model.extract.prompts, standard: undefined } : undefined);

function tokensOf(tokenizer: Tokenizer, text: string, addSpecialTokens: boolean) {
  const { ids, tokens, offsets } = tokenizer.encode(text, { addSpecialTokens });
  const characters = [...text];
  /** Where each character begins, in bytes. */
  const starts = new Uint32Array(characters.length + 1);
  characters.forEach((character, i) => {
    starts[i + 1] = starts[i] + Buffer.byteLength(character);
  });
  return ids.map((id, i) => {
    const [start, stop] = offsets[i];
    const special = start === stop && tokenizer.specialIds.has(id);
    if (special) return { id, text: tokens[i], special, start: null, stop: null };
    return { id, text: characters.slice(start, stop).join(''), special, start: starts[start], stop: starts[stop] };
  });
}

const ids = v.array(v.pipe(v.number(), v.integer('a whole number'), v.minValue(0, 'a token id from 0')));

export const decodeRoute = route({
  paths: ['/decode'],
  summary: 'The text of token ids',
  body: v.object({
    ids: v.union([ids, v.array(ids)], 'an array of token ids, or an array of such arrays'),
    skip_special_tokens: flag(true, 'Leave out special tokens.'),
    model: modelName,
  }),
  answer: v.array(v.string()),
  example: { ids: [5, 6, 7] },
  async handle({ ids, skip_special_tokens: skipSpecialTokens, model: name }, exchange) {
    const model = exchange.modelFor(everyKind, name);
    if (ids.length === 0) throw new RequestError('Empty', '`ids` is empty');
    const { tokenizer } = pipelineOf(model);
    const lists = (typeof ids[0] === 'number' ? [ids] : ids) as number[][];
    return lists.map((list) => tokenizer.decode(list, { skipSpecialTokens }));
  },
});
