import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { shippedModelFolder } from '../../src/platform/node.ts';
import { saveTokenizer } from '../../src/tokenizer/save_tokenizer.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer_config.ts';
import { trainBytePairs } from '../../src/tokenizer/train_bpe.ts';
import { temporaryFolder } from '../temporary.ts';

const folder = temporaryFolder();
const fixtures = fileURLToPath(new URL('../fixtures/interchange', import.meta.url));
const json = (path: string) => JSON.parse(readFileSync(path, 'utf8'));
const cased = join(fixtures, 'models', 'tokenizer-config-cased');
/** What transformers made of the same files, and those files' tokenizer_config.json. */
const figures = json(join(fixtures, 'figures.json'));
const bert = { maxPositionEmbeddings: 64, typeVocabSize: 2 };

// As open.py has them.
const texts = ['The CAT sat on the mat .', 'Ünïcode, naïve CAFÉ', 'a [MASK] ran', 'the cat sat . '.repeat(40)];
const [first, second] = ['the cat sat . '.repeat(12), 'on the mat a dog ran '.repeat(12)];

/** The tokenizer.json of {@link cased}, which lower-cases by itself, made to keep capitals. */
function keepingCapitals() {
  const file = json(join(cased, 'tokenizer.json'));
  return { ...file, normalizer: { ...file.normalizer, lowercase: false } };
}

test.each(['mlm-base', 'cross-encoder', 'st6-pooling', 'tokenizer-config-cased', 'bare', 'crammed'])(
  "%s: written as transformers' AutoTokenizer opened it, with the same tokens and the same cut",
  async (name) => {
    const to = join(folder, name);
    if (name === 'bare') await saveTokenizer(to, keepingCapitals(), bert);
    else if (name === 'crammed')
      await saveTokenizer(to, await loadTokenizer(shippedModelFolder()), { maxPositionEmbeddings: 128, typeVocabSize: 0 });
    else await saveTokenizer(to, await loadTokenizer(join(fixtures, 'models', name)), bert);
    const expected = figures[name];
    expect(json(join(to, 'tokenizer_config.json'))).toEqual(expected['tokenizer_config.json']);
    const notices: string[] = [];
    const tokenizer = await loadTokenizer(to, (line) => notices.push(line));
    expect(notices).toEqual([]);
    expect(tokenizer.maxLength).toBe(expected.length);
    const options = { maxLength: tokenizer.maxLength };
    expect(texts.map((text) => tokenizer.encode(text, options).ids)).toEqual(expected.texts);
    const { ids, typeIds } = tokenizer.encode(first, { ...options, pair: second });
    expect(ids).toEqual(expected.pair.input_ids);
    expect(typeIds).toEqual(expected.pair.token_type_ids ?? ids.map(() => 0));
  },
);

describe('a tokenizer without a tokenizer_config.json', () => {
  const made = async (tokenizer: unknown, model = bert) => {
    await saveTokenizer(folder, tokenizer, model);
    return json(join(folder, 'tokenizer_config.json'));
  };

  test("BERT's class where that makes the same, else the class that takes tokenizer.json as it is", async () => {
    const file = keepingCapitals();
    expect(await made(file)).toMatchObject({ tokenizer_class: 'BertTokenizer', do_lower_case: false });
    const inputs = ['input_ids', 'token_type_ids', 'attention_mask'];
    for (const change of [
      { normalizer: { ...file.normalizer, clean_text: false } },
      { normalizer: null },
      { pre_tokenizer: { type: 'Whitespace' } },
      { model: { ...file.model, max_input_chars_per_word: 50 } },
      { post_processor: null },
    ])
      expect(await made({ ...file, ...change })).toMatchObject({ tokenizer_class: 'PreTrainedTokenizerFast', model_input_names: inputs });
    expect(await made(file, { maxPositionEmbeddings: 64, typeVocabSize: 0 })).not.toHaveProperty('model_input_names');
  });

  test('of another kind than WordPiece: carried along', async () => {
    expect(await made({ model: { type: 'BPE' } })).toEqual({ tokenizer_class: 'PreTrainedTokenizerFast', model_max_length: 64 });
  });
});

test('what stood there goes along, but paths, code that does not, and more tokens than the model takes', async () => {
  const config = {
    tokenizer_class: 'BertTokenizer',
    model_max_length: 512,
    auto_map: {},
    name_or_path: '/x',
    padding_side: 'left',
    do_lower_case: false,
  };
  const tokenizer = Tokenizer.fromJson(keepingCapitals(), 'x', { maxLength: 512, truncationSide: 'left', config });
  const to = join(folder, 'along');
  await saveTokenizer(to, tokenizer, bert);
  const written = json(join(to, 'tokenizer_config.json'));
  expect(written).toMatchObject({ model_max_length: 64, truncation_side: 'left', padding_side: 'left', do_lower_case: false });
  for (const key of ['auto_map', 'name_or_path']) expect(written).not.toHaveProperty(key);
  expect((await loadTokenizer(to)).truncationSide).toBe('left');
});

test('of a model that writes: what its texts end with, known again', async () => {
  const out = join(folder, 'byte-pairs');
  await saveTokenizer(out, await trainBytePairs(['a text', 'another text'], { vocabularySize: 270 }), {
    maxPositionEmbeddings: 128,
    typeVocabSize: 0,
  });
  expect(json(join(out, 'tokenizer_config.json'))).toEqual({
    tokenizer_class: 'PreTrainedTokenizerFast',
    do_lower_case: false,
    bos_token: '<|endoftext|>',
    eos_token: '<|endoftext|>',
    model_max_length: 128,
  });
  const { eosId, bosId, sepId } = await loadTokenizer(out);
  expect({ eosId, bosId, sepId }).toEqual({ eosId: 0, bosId: 0, sepId: undefined });
});
