import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadTokenizer } from '../../src/tokenizer/tokenizer_config.ts';
import { type Changes, figures, writePythonModel } from '../python_models.ts';

interface Case extends Changes {
  name: string;
  answer: {
    ids: number[];
    pair: number[];
    types: number[] | null;
    cut: number[];
    text: string;
    plain: string;
    spaced: string;
    maxLength: number | null;
    side: string;
    mask: number | null;
  };
}
const { sample, spaced, cases } = figures<{ sample: string; spaced: string; cases: Case[] }>('tokenizers.json');

describe('a folder of which the files say different things is read as AutoTokenizer does', () => {
  test.each(cases)('$name', async ({ answer, ...changes }) => {
    const tokenizer = await loadTokenizer(await writePythonModel('tokenizer', changes));
    const { ids } = tokenizer.encode(sample);
    expect(ids).toEqual(answer.ids);
    const pair = tokenizer.encode(sample, { pair: 'the dog' });
    expect(pair.ids).toEqual(answer.pair);
    // A model that is given none takes 0.
    expect(pair.typeIds).toEqual(answer.types ?? pair.ids.map(() => 0));
    expect(tokenizer.encode(sample, { maxLength: 6 }).ids).toEqual(answer.cut);
    expect(tokenizer.decode(ids)).toBe(answer.text);
    expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(answer.plain);
    expect(tokenizer.decode(tokenizer.encode(spaced).ids)).toBe(answer.spaced);
    expect(tokenizer.maxLength ?? null).toBe(answer.maxLength);
    expect(tokenizer.truncationSide).toBe(answer.side);
    // One that no file names is found by its usual name.
    expect(tokenizer.maskId).toBe(answer.mask ?? 4);
    const { offsets, tokens } = tokenizer.encode(sample, { maxLength: 6 });
    expect(offsets).toHaveLength(tokens.length);
  });
});

test('what is cut off at the beginning has no offsets', async () => {
  const config = { tokenizer_class: 'BertTokenizer', truncation_side: 'left' };
  const tokenizer = await loadTokenizer(await writePythonModel('left', { files: { 'tokenizer_config.json': config } }));
  const { tokens, offsets, truncated } = tokenizer.encode('the cat sat', { maxLength: 4 });
  expect([tokens, offsets, truncated]).toEqual([
    ['[CLS]', 'cat', 'sat', '[SEP]'],
    [
      [0, 0],
      [4, 7],
      [8, 11],
      [0, 0],
    ],
    1,
  ]);
});

describe('where they disagree a notice says what of it counts', () => {
  const said = async (name: string) => {
    const notices: string[] = [];
    const { answer: _, ...changes } = cases.find((one) => one.name === name) as Case;
    await loadTokenizer(await writePythonModel('notices', changes), (line) => notices.push(line));
    return notices;
  };

  test.each([
    ['cased by tokenizer_config.json', 'texts are not lower-cased'],
    ['nothing said of a cased file', 'texts are lower-cased'],
    ['accents kept', "texts are normalized as BERT's"],
    ['another pre-tokenizer', "they are cut into words as BERT's"],
    ['another first token', 'a text becomes the the text [SEP]'],
    ['an added token of tokenizer_config.json', '"NEW_A" is a token of their own'],
    ['added tokens that tokenizer_config.json leaves out', '"NEW_A" is none'],
    ['another unknown token', 'words are cut with "the" for what is unknown'],
  ])('%s', async (name, words) => {
    expect(await said(name)).toEqual([expect.stringContaining(`as in transformers' AutoTokenizer, ${words}`)]);
  });

  test.each(['model_max_length', 'truncation_side', 'max_len', 'no token types'])('none for %s', async (name) => {
    expect(await said(name)).toEqual([]);
  });
});

test('a tokenizer_config.json that is none is refused by file and key', async () => {
  const folder = await writePythonModel('refused', {});
  const refused = async (content: unknown) => {
    writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(content));
    return loadTokenizer(folder);
  };
  await expect(refused({ truncation_side: 'middle' })).rejects.toThrow(
    `tokenizer_config.json: 'truncation_side' is "middle", expected ("left" | "right")`,
  );
  await expect(refused({ mask_token: 3 })).rejects.toThrow("tokenizer_config.json: 'mask_token' is 3, expected a token");
  await expect(refused(3)).rejects.toThrow("tokenizer_config.json: 'the value' is 3, expected Object");
});
