import { afterEach, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { BatchQueue } from '../../src/models/batch_queue.ts';
import { Session } from '../../src/models/session.ts';
import { batchesByLength, type EncodedText } from '../../src/models/text_batches.ts';

const session = new Session(new ReferenceDevice());
const queue = new BatchQueue(session);
const text = (length: number): EncodedText => ({ ids: new Int32Array(length).fill(length), typeIds: new Int32Array(length) });
/** Batches as they were computed: the lengths of their texts. */
const batches: number[][] = [];
const lengths = async (_: unknown, __: unknown, texts: readonly EncodedText[]) => {
  batches.push(texts.map(({ ids }) => ids.length));
  return texts.map(({ ids }) => ids.length);
};
const pass = { compute: lengths };
const same = <T>(output: T) => output;
afterEach(() => {
  batches.length = 0;
});

test('calls of one turn of the event loop share a batch, shortest first, and each gets its own', async () => {
  const answers = await Promise.all([5, 3, 4].map((length) => queue.answer([text(length)], pass, same)));
  expect(answers).toEqual([[5], [3], [4]]);
  expect(batches).toEqual([[3, 4, 5]]);
});

test('a batch holds 4096 tokens, padding included', async () => {
  const asked = Array.from({ length: 40 }, () => text(200));
  await queue.answer(asked, pass, same);
  expect(batches.map(({ length }) => length)).toEqual([20, 20]);
});

test('passes of another kind, and texts of another length where nothing may be padded, go by themselves', async () => {
  const unpadded = { compute: lengths, unpadded: true };
  await Promise.all([queue.answer([text(2), text(3), text(2)], unpadded, same), queue.answer([text(2)], pass, same)]);
  expect(batches).toEqual([[2, 2], [3], [2]]);
});

test('what comes while a batch is computed goes with the next', async () => {
  const later: Promise<number[]>[] = [];
  const slow = {
    async compute(...given: Parameters<typeof lengths>) {
      if (later.length === 0) later.push(queue.answer([text(7)], slow, same), queue.answer([text(8)], slow, same));
      return await lengths(...given);
    },
  };
  await queue.answer([text(6)], slow, same);
  expect(await Promise.all(later)).toEqual([[7], [8]]);
  expect(batches).toEqual([[6], [7, 8]]);
});

test('plans take turns: a text that comes later does not wait for all of a long list', async () => {
  const later: Promise<number[]>[] = [];
  const slow = {
    async compute(...given: Parameters<typeof lengths>) {
      if (later.length === 0) later.push(queue.answer([text(7)], slow, same));
      return await lengths(...given);
    },
  };
  const list = queue.answer(
    Array.from({ length: 3 }, () => text(4000)),
    slow,
    same,
  );
  await Promise.all([list, ...later]);
  expect(batches).toEqual([[4000], [7], [4000], [4000]]);
});

test('of a call that has failed, in a pass or after it, no other text is computed', async () => {
  const fails = {
    async compute(...given: Parameters<typeof lengths>) {
      const outputs = await lengths(...given);
      if (outputs.includes(3000)) throw new Error('3000 cannot be');
      return outputs;
    },
  };
  const asked = [3000, 3001, 3002].map(text);
  await expect(queue.answer(asked, fails, same)).rejects.toThrow('3000 cannot be');
  const refuse = () => {
    throw new Error('not finite');
  };
  await expect(queue.answer(asked, pass, refuse)).rejects.toThrow('not finite');
  await queue.idle();
  expect(batches).toEqual([[3000], [3000]]);
});

test("nobody's texts fail for those of others", async () => {
  const fails = {
    async compute(...given: Parameters<typeof lengths>) {
      const outputs = await lengths(...given);
      if (outputs.includes(13)) throw new Error('13 cannot be');
      return outputs;
    },
  };
  const [good, bad, better] = await Promise.allSettled([12, 13, 14].map((length) => queue.answer([text(length)], fails, same)));
  expect(good).toEqual({ status: 'fulfilled', value: [12] });
  expect(bad).toMatchObject({ status: 'rejected', reason: { message: '13 cannot be' } });
  expect(better).toEqual({ status: 'fulfilled', value: [14] });
});

test('what cannot be made of one text is the failure of its call alone', async () => {
  const finish = (length: number) => {
    if (length === 2) throw new Error('two');
    return length;
  };
  const [one, two] = await Promise.allSettled([queue.answer([text(1)], pass, finish), queue.answer([text(2), text(3)], pass, finish)]);
  expect(one).toEqual({ status: 'fulfilled', value: [1] });
  expect(two).toMatchObject({ status: 'rejected', reason: { message: 'two' } });
});

test('texts of a call that was given up are left out', async () => {
  const stop = new AbortController();
  const given = queue.answer([text(9)], pass, same, { signal: stop.signal });
  const other = queue.answer([text(4)], pass, same);
  stop.abort(new Error('enough'));
  await expect(given).rejects.toThrow('enough');
  expect(await other).toEqual([4]);
  expect(batches).toEqual([[4]]);
});

test('no text, no pass; and idle when all is answered', async () => {
  expect(await queue.answer([], pass, same)).toEqual([]);
  await queue.idle();
  expect(batches).toEqual([]);
});

test('short texts are not padded to a long one', () => {
  const given = [140, 3, 4, 20, 5, 6, 8];
  const batches = [...batchesByLength(given.map(text))].map((members) => members.map((index) => given[index]));
  expect(batches).toEqual([[3, 4, 5, 6, 8], [20], [140]]);
  // An eighth of many tokens is more than a pass costs.
  const near = Array.from({ length: 30 }, (_, i) => 100 + (i % 10));
  expect([...batchesByLength(near.map(text))]).toHaveLength(1);
});
