import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { type Encoding, Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { textStyles, wordPieceJson } from '../../src/tokenizer/word_piece_json.ts';

const specials = { pad: '[PAD]', unknown: '[UNK]', cls: '[CLS]', sep: '[SEP]', mask: '[MASK]' };
const tokens = [...Object.values(specials), ...'abc.,', ...Array.from('abc', (letter) => `##${letter}`), 'the'];
const crammed = JSON.stringify(wordPieceJson(tokens, specials, textStyles.crammed));
/** The same with the parts that crammedBERT's tokenizer does not have. */
const other = JSON.stringify({
  ...JSON.parse(crammed),
  normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [{ type: 'BertPreTokenizer' }, { type: 'Split', pattern: { Regex: '\\d' }, behavior: 'Isolated', invert: false }],
  },
  post_processor: { type: 'BertProcessing', sep: ['[SEP]', 3], cls: ['[CLS]', 2] },
});

// biome-ignore lint/suspicious/noExplicitAny: any JSON is edited here
type Json = any;

function edited(change: (json: Json) => void, base = crammed): unknown {
  const json: Json = JSON.parse(base);
  change(json);
  return json;
}

describe('a malformed tokenizer.json is refused by name of file and key', () => {
  const vocabularyRange = 'expected an id from 0 to 1048575';
  const cases: [string, unknown, string][] = [
    ['not an object', null, "found null, expected the object that Hugging Face's tokenizers write"],
    ['no model', edited((json) => delete json.model), 'model: is missing, expected a value'],
    [
      'another kind of model',
      edited((json) => (json.model.type = 'WordLevel')),
      'model.type: found "WordLevel", expected "WordPiece", "BPE" or "Unigram"',
    ],
    [
      'a vocabulary in a list',
      edited((json) => (json.model.vocab = ['a'])),
      'model.vocab: found Array, expected an object of tokens and ids',
    ],
    ['an id that is a text', edited((json) => (json.model.vocab.the = '13')), `model.vocab["the"]: found "13", ${vocabularyRange}`],
    ['a negative id', edited((json) => (json.model.vocab.the = -1)), `model.vocab["the"]: found -1, ${vocabularyRange}`],
    ['a huge id', edited((json) => (json.model.vocab.the = 4294967295)), `model.vocab["the"]: found 4294967295, ${vocabularyRange}`],
    ['no token', edited((json) => (json.model.vocab = {})), 'model.vocab: found no token, expected some'],
    [
      'an unknown normalizer',
      edited((json) => (json.normalizer.normalizers[2].type = 'NFZ')),
      'normalizer.normalizers.2.type: found "NFZ", expected ("NFC" |',
    ],
    [
      'a pattern that is none',
      edited((json) => (json.normalizer.normalizers[5].pattern.Regex = '([')),
      'normalizer.normalizers.5.pattern: "([" is not a regular expression that is understood here: ',
    ],
    [
      'an unknown pre-tokenizer',
      edited((json) => (json.pre_tokenizer.type = 'UnicodeScripts')),
      'pre_tokenizer.type: found "UnicodeScripts", expected ("BertPreTokenizer" |',
    ],
    [
      'an unknown decoder',
      edited((json) => (json.decoder.type = 'BPEDecoder')),
      'decoder.type: found "BPEDecoder", expected ("WordPiece" |',
    ],
    [
      'a template without the text',
      edited((json) => json.post_processor.single.shift()),
      'post_processor.single: found the sequences "", expected "A"',
    ],
    [
      'a template with an unknown token',
      edited((json) => (json.post_processor.special_tokens = {})),
      'post_processor.pair[0]: found "[CLS]", expected a name of post_processor.special_tokens',
    ],
    [
      'a template with an unknown id',
      edited((json) => (json.post_processor.special_tokens['[SEP]'].ids = [99])),
      'post_processor.special_tokens["[SEP]"].ids: found id 99, expected one of the vocabulary\'s 14',
    ],
    [
      'a template id that is no id',
      edited((json) => (json.post_processor.cls[1] = 14), other),
      "post_processor.cls: found id 14, expected one of the vocabulary's 14",
    ],
  ];

  it.each(cases)('%s', (_, json, message) => {
    let caught: unknown;
    try {
      Tokenizer.fromJson(json, 'model/tokenizer.json');
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(InputError);
    expect((caught as Error).message.slice(0, 22 + message.length)).toBe(`model/tokenizer.json: ${message}`);
  });

  it('no unknown token: what is known is encoded, the rest refused by name of the word', () => {
    const tokenizer = Tokenizer.fromJson(
      edited((json) => (json.model.unk_token = '?')),
      'model/tokenizer.json',
    );
    expect(tokenizer.encode('the abc', { addSpecialTokens: false }).tokens).toEqual(['the', 'a', '##b', '##c']);
    expect(() => tokenizer.encode('the x')).toThrow(
      'model/tokenizer.json: model.vocab lacks the unk_token "?", which stands for what the vocabulary does not have, such as "x"',
    );
  });

  it('an id that is nested without end', () => {
    const json = JSON.parse(crammed.replace('"the":13', `"the":${'['.repeat(100_000)}${']'.repeat(100_000)}`));
    expect(() => Tokenizer.fromJson(json)).toThrow('model.vocab["the"]: found nested too deeply');
  });

  it('a template longer than any, and more added tokens than any', () => {
    const long = edited((file) => (file.post_processor.special_tokens['[SEP]'].ids = new Array(65).fill(3)));
    expect(() => Tokenizer.fromJson(long)).toThrow(/post_processor\.special_tokens\.\[SEP\]\.ids: found 65, expected <=64/);
    const items = edited((file) => file.post_processor.single.push(...new Array(64).fill(file.post_processor.single[0])));
    expect(() => Tokenizer.fromJson(items)).toThrow(/post_processor\.single: found \d\d, expected <=64/);
    const tokens = (count: number, length: number) =>
      edited((file) => (file.added_tokens = Array.from({ length: count }, (_, id) => ({ content: `${id}`.padEnd(length, 'x'), id }))));
    expect(() => Tokenizer.fromJson(tokens(1001, 1000))).toThrow('added_tokens: found 1001000 characters in all, expected at most 1000000');
    expect(() => Tokenizer.fromJson(tokens(1, 1001))).toThrow('added_tokens.0.content: found 1001, expected <=1000');
  });

  it('more steps than any', () => {
    const json = edited((file) => (file.normalizer.normalizers = new Array(100).fill({ type: 'NFC' })));
    expect(() => Tokenizer.fromJson(json)).toThrow('normalizer.normalizers.99: is one of more than 100 steps, expected fewer');
  });

  it('sequences nested without end', () => {
    const json = edited((file) => {
      for (let i = 0; i < 100_000; i += 1) file.normalizer = { type: 'Sequence', normalizers: [file.normalizer] };
    });
    expect(() => Tokenizer.fromJson(json)).toThrow(InputError);
  });

  it('a file that is cut short', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ufb-'));
    try {
      const path = join(folder, 'tokenizer.json');
      for (const length of [0, 1, 100, crammed.length - 1]) {
        await writeFile(path, crammed.slice(0, length));
        await expect(Tokenizer.load(path)).rejects.toThrow(InputError);
      }
      await expect(Tokenizer.load(join(folder, 'missing.json'))).rejects.toThrow(InputError);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

/** Every place in a JSON value, as the keys that lead there. */
function places(json: Json, path: string[] = []): string[][] {
  if (typeof json !== 'object' || json === null) return [path];
  return [path, ...Object.keys(json).flatMap((key) => places(json[key], [...path, key]))];
}

describe('whatever is wrong in a tokenizer.json, it is refused or it works', () => {
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom<unknown>(-1, 0.5, 1e300, 2 ** 31, 2 ** 32, '', '__proto__', 'constructor', '##', '[', 'a', [], {}, null, true),
    fc.constantFrom<unknown>('NFC', 'Sequence', 'WordPiece', 'Strip', 'Prepend', 'Split', 'Digits', 'Punctuation', 'TemplateProcessing'),
    fc.constantFrom<unknown>({ Regex: '' }, { Regex: '(?<' }, { Regex: '\\p{Nope}' }, { String: '' }, { Regex: 'x*' }),
  );

  it.each([
    ["crammedBERT's", crammed],
    ["BERT's", other],
  ])('%s', (_, base) => {
    const all = places(JSON.parse(base)).filter((path) => path.length > 0);
    const edit = fc.record({ path: fc.constantFrom(...all), action: fc.constantFrom('replace', 'remove', 'add'), value, key: fc.string() });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
        const json: Json = JSON.parse(base);
        for (const { path, action, value: wrong, key } of edits) {
          const parent = path.slice(0, -1).reduce((part, step) => part?.[step], json);
          if (typeof parent !== 'object' || parent === null) continue;
          if (action === 'remove') delete parent[path[path.length - 1]];
          // A named key on an array ('length'!) is nothing that JSON can hold.
          else if (action === 'add' && Array.isArray(parent)) parent.push(structuredClone(wrong));
          else parent[action === 'add' ? key : path[path.length - 1]] = structuredClone(wrong);
        }
        let tokenizer: Tokenizer;
        try {
          tokenizer = Tokenizer.fromJson(json, 'tokenizer.json');
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
          expect((error as Error).message).toMatch(/^tokenizer\.json: [^\n]*$/);
          return;
        }
        for (const text of ['', 'the [MASK] abc, Cab 12.', "é́ ``x'' 東 😀\0"]) {
          const knowsAll = tokenizer.unknownId !== undefined;
          let encoding: Encoding;
          try {
            encoding = tokenizer.encode(text, { pair: text });
          } catch (error) {
            // What has no token for the unknown says so where it meets it.
            expect(knowsAll).toBe(false);
            expect((error as Error).message).toMatch(/^tokenizer\.json: model\.vocab lacks the unk_token/);
            continue;
          }
          const { ids, tokens: found, offsets } = encoding;
          expect(found).toHaveLength(ids.length);
          expect(offsets).toHaveLength(ids.length);
          expect(ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabularySize)).toBe(true);
          expect(typeof tokenizer.decode(ids)).toBe('string');
        }
      }),
      { numRuns: 1000 },
    );
  });
});
