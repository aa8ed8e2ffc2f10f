import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDevice } from '../../src/backend/create.ts';
import type { Device } from '../../src/backend/device.ts';
import { InputError } from '../../src/errors.ts';
import type { CausalLanguageModel } from '../../src/models/causal_language_model.ts';
import { createCausalLanguageModel } from '../../src/models/checkpoint.ts';
import type { FeedforwardConfig } from '../../src/models/config.ts';
import { gptConfig } from '../../src/models/families/gpt2.ts';
import { KeyValueCache } from '../../src/models/key_value_cache.ts';
import { Session } from '../../src/models/session.ts';

const vocabSize = 61;
const positions = 400;
const config = (feedforward: FeedforwardConfig) =>
  gptConfig({
    family: feedforward.kind === 'dense' ? 'gpt2' : 'ultrafastgpt',
    ...{
      vocabSize,
      hiddenSize: 24,
      numHiddenLayers: 2,
      numAttentionHeads: 3,
      maxPositionEmbeddings: positions,
      initializerRange: 0.3,
      feedforward,
    },
  });

/** Tokens of a text, the same ones at each call. */
const text = (length: number, seed = 1) => Array.from({ length }, (_, i) => (i * i * 7 + i * seed * 11 + seed) % vocabSize);

const kinds = {
  dense: { kind: 'dense', neurons: 40 },
  trees: { kind: 'fff', trees: 2, depth: 4 },
  'trees with leaves, beside dense neurons': { kind: 'fff', trees: 1, depth: 3, leafWidth: 5, alwaysOn: 7 },
  none: { kind: 'none' },
} as const satisfies Record<string, FeedforwardConfig>;

describe.each(['native', 'wasm', 'reference'] as const)('%s', (name) => {
  let device: Device;
  beforeAll(async () => {
    device = await createDevice({ name });
  });
  afterAll(() => device.dispose());

  test.each(Object.entries(kinds))('%s: a text has the same bits in chunks, among others and alone', async (_, feedforward) => {
    using model = createCausalLanguageModel(config(feedforward), device, 1);
    using session = new Session(device);
    const ids = text(300);
    const whole = await session.pass(async (context) =>
      device.read(model.logits(context, { batch: 1, length: 300, ids: Int32Array.from(ids) })),
    );
    const cache = session.createCache(model, { batch: 3, maxLength: 300 });
    let before = 0;
    for (const end of [1, 2, 3, 140, 141, 299, 300]) {
      const others = [text(end % 5, 2), [], text((end + 3) % 4, 3)];
      const tokens = [others[0], ids.slice(before, end), others[2]];
      const logits = await session.pass(async (context) => device.read(model.step(context, tokens, cache, 'all')));
      const own = logits.subarray(others[0].length * vocabSize, (others[0].length + end - before) * vocabSize);
      expect(own, `${before} to ${end}`).toEqual(whole.subarray(before * vocabSize, end * vocabSize));
      before = end;
    }
    expect(cache.lengths[1]).toBe(300);
  });
});

describe('rows of a cache', () => {
  let device: Device;
  let model: CausalLanguageModel;
  beforeAll(async () => {
    device = await createDevice({ name: 'native' });
    model = createCausalLanguageModel(config(kinds.dense), device, 1);
  });
  afterAll(() => {
    model.dispose();
    device.dispose();
  });
  const step = (session: Session, tokens: readonly ArrayLike<number>[], cache: KeyValueCache) =>
    session.pass(async (context) => device.read(model.step(context, tokens, cache)));
  const rowOf = (logits: Float32Array, row: number) => logits.slice(row * vocabSize, (row + 1) * vocabSize);

  test('change places, are dropped and copied, and go on with what they had', async () => {
    using session = new Session(device);
    const cache = session.createCache(model, { batch: 3, maxLength: 20 });
    await step(session, [text(4, 1), text(7, 2), text(2, 3)], cache);
    cache.select([2, 0]);
    expect(cache.lengths).toEqual([2, 4]);
    cache.select([1, 0, 1]);
    expect(cache.lengths).toEqual([4, 2, 4]);
    const logits = await step(session, [[5], [6], [7]], cache);
    for (const [row, tokens] of [
      [...text(4, 1), 5],
      [...text(2, 3), 6],
      [...text(4, 1), 7],
    ].entries()) {
      const alone = await step(session, [tokens], session.createCache(model, { batch: 1, maxLength: 20 }));
      expect(rowOf(logits, row)).toEqual(alone);
    }
    cache.select([]);
    expect(cache.lengths).toEqual([]);
  });

  test('a prompt that is filled in parts, and rows that wait', async () => {
    using session = new Session(device);
    const cache = session.createCache(model, { batch: 2, maxLength: 20 });
    await session.pass(async (context) => model.fill(context, [text(5), []], cache));
    await session.pass(async (context) => model.fill(context, [[], text(3, 2)], cache));
    const logits = await step(session, [[1], []], cache);
    expect(logits).toHaveLength(vocabSize);
    expect(logits).toEqual(await step(session, [[...text(5), 1]], session.createCache(model, { batch: 1, maxLength: 20 })));
    expect(cache.lengths).toEqual([6, 3]);
  });

  test('the memory it takes is told before it is taken', () => {
    using session = new Session(device);
    const size = { batch: 3, maxLength: 50 };
    const cache = session.createCache(model, size);
    expect(KeyValueCache.bytes(model.config, size)).toBe(3 * 50 * 2 * 2 * 24 * 4);
    expect(cache.bytes).toBeGreaterThanOrEqual(KeyValueCache.bytes(model.config, size));
    session.dispose();
    expect(cache.disposed).toBe(true);
  });

  test.each([
    [{ batch: 1, maxLength: positions + 1 }, /'maxLength' is 401, expected at most the model's 400 positions/],
    [{ batch: 0, maxLength: 5 }, /'batch' is 0, expected a count/],
    [{ batch: 1, maxLength: 1.5 }, /'maxLength' is 1.5, expected a count/],
  ])('is refused: %o', (size, message) => {
    using session = new Session(device);
    expect(() => session.createCache(model, size)).toThrow(InputError);
    expect(() => session.createCache(model, size)).toThrow(message);
    expect(() => KeyValueCache.bytes(model.config, size)).toThrow(message);
  });

  test.each([
    ['too long for it', [text(4), text(9)], /^row 1 has 2 tokens and gets 9 more, which are more than the 10 that the cache holds$/],
    ['of another number of rows', [text(4)], /tokens of 1 rows, expected those of its 2/],
    ['none at all', [[], []], /no row gets a token/],
    ['not of the vocabulary', [[1], [vocabSize]], /token id 61 at token 1 is not one of the model's 61/],
    ['no numbers', [[1], [Number.NaN]], /token id NaN at token 1/],
  ] as const)('tokens %s are an error, and nothing is changed', async (_, tokens, message) => {
    using session = new Session(device);
    const cache = session.createCache(model, { batch: 2, maxLength: 10 });
    await step(session, [text(3), text(2, 2)], cache);
    await expect(step(session, tokens, cache)).rejects.toThrow(InputError);
    await expect(step(session, tokens, cache)).rejects.toThrow(message);
    expect(cache.lengths).toEqual([3, 2]);
    const logits = await step(session, [[9], []], cache);
    expect(logits).toEqual(await step(session, [[...text(3), 9]], session.createCache(model, { batch: 1, maxLength: 10 })));
  });

  test.each([
    [[2], /row 2 is not one of its 2/],
    [[0, 1, 0], /3 rows, expected at most the 2 that it was made for/],
  ])('rows %o cannot be selected', (rows, message) => {
    using session = new Session(device);
    const cache = session.createCache(model, { batch: 2, maxLength: 10 });
    expect(() => cache.select(rows)).toThrow(InputError);
    expect(() => cache.select(rows)).toThrow(message);
    expect(cache.lengths).toEqual([0, 0]);
  });
});
