import * as v from 'valibot';
import { promptOf } from '../../pipelines/sentence_transformer.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { route } from '../route.ts';
import { either, fields, flag, list, modelName, promptName, text, texts, tokenIds } from '../schemas.ts';
import { pipelineOf, type ServedModel } from '../served_model.ts';

const everyKind = ['embedding', 'classifier', 'reranker', 'fill_mask', 'decoder'] as const;

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
  body: fields({
    inputs: either('a string or an array of strings', text, texts),
    add_special_tokens: flag(true, 'Also the tokens that the model puts around a text.'),
    prompt_name: promptName,
    model: modelName,
  }),
  answer: v.array(v.array(token)),
  example: { inputs: 'A cat sleeps.' },
  async handle({ inputs, add_special_tokens: addSpecialTokens, prompt_name, model: name }, exchange) {
    const model = exchange.modelFor(everyKind, name);
    const given = typeof inputs === 'string' ? [inputs] : inputs;
    const before = prompt_name ? promptOf({ prompt_name }, promptsOf(model)) : '';
    const { tokenizer } = pipelineOf(model);
    return given.map((one) => tokensOf(tokenizer, before + one, addSpecialTokens));
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

export const decodeRoute = route({
  paths: ['/decode'],
  summary: 'The text of token ids',
  body: fields({
    ids: either('an array of token ids, or an array of such arrays', tokenIds, list(tokenIds)),
    skip_special_tokens: flag(true, 'Leave out special tokens.'),
    model: modelName,
  }),
  answer: v.array(v.string()),
  example: { ids: [5, 6, 7] },
  async handle({ ids, skip_special_tokens: skipSpecialTokens, model: name }, exchange) {
    const model = exchange.modelFor(everyKind, name);
    const { tokenizer } = pipelineOf(model);
    const lists = (typeof ids[0] === 'number' ? [ids] : ids) as number[][];
    return lists.map((list) => tokenizer.decode(list, { skipSpecialTokens }));
  },
});
