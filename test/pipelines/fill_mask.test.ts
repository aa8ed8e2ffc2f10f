import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, expectTypeOf, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { deviceNotice } from '../../src/backend/create.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import type { FillMaskAnswer, FillMaskCandidate, FillMaskPipeline } from '../../src/pipelines/fill_mask.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

const folder = join(temporaryFolder(), 'model');
const device = new ReferenceDevice();
let fill: FillMaskPipeline;
beforeAll(async () => {
  await writeTinyModel(folder);
  fill = await pipeline('fill-mask', folder, { device });
});

describe('answers', () => {
  test('one blank: the most probable tokens, best first', async () => {
    const answer = await fill('The cat sees [MASK].');
    expect(answer).toHaveLength(5);
    expect(answer.map(({ score }) => score)).toEqual(answer.map(({ score }) => score).sort((a, b) => b - a));
    const { ids } = fill.tokenizer.encode('The cat sees [MASK].');
    using arena = new Arena(device);
    const logits = await device.read(
      fill.model.logits(
        { device, arena, training: false },
        { batch: 1, length: ids.length, ids: Int32Array.from(ids) },
        Int32Array.of(ids.indexOf(fill.tokenizer.maskId as number)),
      ),
    );
    const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
    expect(answer[0].token).toBe(logits.indexOf(Math.max(...logits)));
    for (const { score, token, token_str, sequence } of answer) {
      expect(score).toBeCloseTo(Math.exp(logits[token]) / sum, 6);
      expect(token_str).toBe(fill.tokenizer.decode([token]));
      expect(sequence).toContain('the cat sees');
      expect(sequence).not.toMatch(/\[(MASK|SEP|CLS)\]$/);
    }
  });

  test('several blanks: a list for each, with the others left blank', async () => {
    const answer = await fill('[MASK] dog likes the [MASK].', { top_k: 2 });
    expect(answer.map((list) => list.length)).toEqual([2, 2]);
    for (const list of answer) for (const { sequence } of list) expect(sequence.match(/\[MASK\]/g)).toHaveLength(1);
    expect(answer[0][0].sequence).toMatch(/likes the \[MASK\]/);
    expect(answer[1][0].sequence).toMatch(/^\[MASK\] dog/);
  });

  test('several texts of different lengths: in order, and as each alone', async () => {
    const texts = [
      'a [MASK]',
      'the cat sees a long road and a small bird finds the [MASK] .',
      '[MASK] finds [MASK]',
      'my sister [MASK] the letter .',
      '[MASK]',
    ];
    const together = await fill(texts, { top_k: 3 });
    expect(together).toHaveLength(texts.length);
    for (let i = 0; i < texts.length; i++) {
      const flat = (answer: FillMaskAnswer) => answer.flat() as FillMaskCandidate[];
      const alone = flat(await fill(texts[i], { top_k: 3 }));
      flat(together[i]).forEach((candidate, j) => {
        expect({ ...candidate, score: 0 }).toEqual({ ...alone[j], score: 0 });
        expect(candidate.score).toBeCloseTo(alone[j].score, 6);
      });
    }
    expect(await fill([])).toEqual([]);
  });

  test('more texts than one batch holds', async () => {
    const text = `${'the cat sees a dog '.repeat(3)}[MASK]`;
    const [alone, many] = [await fill(text), await fill(new Array<string>(200).fill(text))];
    expect(many).toHaveLength(200);
    for (const answer of many)
      expect((answer as FillMaskCandidate[]).map(({ token }) => token)).toEqual((alone as FillMaskCandidate[]).map(({ token }) => token));
  });

  test('calls at the same time do not disturb each other', async () => {
    const texts = ['a [MASK]', 'the cat sees [MASK] .', 'my sister likes green [MASK] .'];
    const alone: unknown[] = [];
    for (const text of texts) alone.push(await fill(text));
    expect(await Promise.all(texts.map((text) => fill(text)))).toEqual(alone);
  });

  test('as many candidates as there are tokens at most', async () => {
    const answer = await fill('a [MASK]', { top_k: 100_000 });
    expect(answer).toHaveLength(fill.tokenizer.vocabularySize);
    expect(answer.reduce((sum, { score }) => sum + score, 0)).toBeCloseTo(1, 4);
    expect(new Set(answer.map(({ token }) => token)).size).toBe(answer.length);
  });

  test('among targets: their scores among all words, best first, each once', async () => {
    const all = (await fill('the cat sees [MASK] .', { top_k: 1000 })) as FillMaskCandidate[];
    const targets = ['dog', 'cat', 'the', 'dog'];
    const answer = (await fill('the cat sees [MASK] .', { targets })) as FillMaskCandidate[];
    expect(answer).toEqual(all.filter(({ token_str }) => targets.includes(token_str)));
    expect(answer).toHaveLength(3);
    expect(await fill('the cat sees [MASK] .', { targets, top_k: 2 })).toEqual(answer.slice(0, 2));
    expect(await fill('the cat sees [MASK] .', { targets: 'dog' })).toEqual(answer.filter(({ token_str }) => token_str === 'dog'));
    const blanks = await fill('[MASK] cat sees [MASK] .', { targets: ['dog', 'the'] });
    expect(blanks.map((list) => list.map(({ token_str }) => token_str).sort())).toEqual([
      ['dog', 'the'],
      ['dog', 'the'],
    ]);
  });

  test("targets as transformers' pipeline answers them", async () => {
    const figures = JSON.parse(readFileSync(new URL('../fixtures/interchange/answers.json', import.meta.url), 'utf8'))['fill-mask'];
    const base = fileURLToPath(new URL('../fixtures/interchange/models/mlm-base', import.meta.url));
    const notices: string[] = [];
    using own = await pipeline('fill-mask', base, { device, notice: (line) => notices.push(line) });
    for (const [top_k, expected] of [
      [undefined, figures.answer],
      [2, figures['first two']],
    ]) {
      const answer = (await own(figures.text, { targets: figures.targets, top_k })) as FillMaskCandidate[];
      expect(answer.map(({ token, token_str }) => [token, token_str])).toEqual(
        expected.map(({ token, token_str }: FillMaskCandidate) => [token, token_str]),
      );
      for (const [i, { score }] of answer.entries()) expect(score).toBeCloseTo(expected[i].score, 6);
    }
    expect(notices[0]).toBe('target "Paris" is no word of the model\'s vocabulary: "paris" is taken for it');
  });

  test('targets that are no words: their first piece, or nothing, with a notice', async () => {
    const notices: string[] = [];
    using own = await pipeline('fill-mask', folder, { device, notice: (line) => notices.push(line) });
    const { tokenizer } = own;
    const [first, second] = tokenizer.encode('dogcat', { addSpecialTokens: false }).tokens;
    expect(second).toBeDefined();
    const answer = (await own('a [MASK]', { targets: ['dogcat', 'Dog', ' ', 'cat'] })) as FillMaskCandidate[];
    expect(answer.map(({ token_str }) => token_str).sort()).toEqual([...new Set(['cat', 'dog', first])].sort());
    expect(notices).toEqual([
      `target "dogcat" is no word of the model's vocabulary: ${JSON.stringify(first)} is taken for it`,
      'target "Dog" is no word of the model\'s vocabulary: "dog" is taken for it',
      'target " ": the tokenizer makes no token of it, it is left out',
    ]);
    await expect(own('a [MASK]', { targets: ' ' })).rejects.toThrow('targets: got " ", expected at least one word of the model');
    await expect(own('a [MASK]', { targets: [] })).rejects.toThrow('targets: got [], expected at least one');
    await expect(own('a [MASK]', { targets: [5] as unknown as string[] })).rejects.toThrow('targets: got [5], expected a word or an array');
  });

  test('types count the blanks of a literal', () => {
    const [one, two, any] = [() => fill('a [MASK]'), () => fill('[MASK] [MASK]'), (text: string) => fill(text)];
    expectTypeOf(one).returns.resolves.toEqualTypeOf<FillMaskCandidate[]>();
    expectTypeOf(two).returns.resolves.toEqualTypeOf<FillMaskCandidate[][]>();
    expectTypeOf(any).returns.resolves.toEqualTypeOf<FillMaskAnswer>();
    expectTypeOf(() => fill(['a [MASK]', 'b [MASK]'])).returns.resolves.toEqualTypeOf<FillMaskCandidate[][]>();
    const either = (texts: string | readonly string[]) => fill(texts);
    expectTypeOf(either).returns.resolves.toEqualTypeOf<FillMaskAnswer | FillMaskAnswer[]>();
  });
});

describe('refusals', () => {
  test.each([
    ['', 'the text is empty, expected a sentence with [MASK] in it'],
    [' \n', 'the text is empty'],
    ['no blank here', 'the text has no blank: write [MASK] where a word is to be filled in (got "no blank here")'],
    [`[MASK]${' cat'.repeat(80)}`, 'tokens, but the model takes at most 64'],
  ])('%j', async (text, message) => {
    await expect(fill(text)).rejects.toThrow(message);
    await expect(fill(text)).rejects.toThrow(InputError);
    await expect(fill(['a [MASK]', text])).rejects.toThrow(message.replace('the text', 'text 2'));
  });

  test.each([
    ['', 'text 3 is empty, expected a sentence with [MASK] in it'],
    [5, 'text 3: got number, expected a string'],
  ])('%j in a stream, after the answers to those before it', async (text, message) => {
    async function* stream() {
      yield* ['a [MASK]', '[MASK] dog', text as string];
    }
    const answers: FillMaskAnswer[] = [];
    const all = async () => {
      for await (const answer of fill(stream())) answers.push(answer);
    };
    await expect(all()).rejects.toThrow(new InputError(message));
    expect(answers).toEqual(await fill(['a [MASK]', '[MASK] dog']));
  });

  test('arguments', async () => {
    await expect(fill('a [MASK]', { top_k: 0 })).rejects.toThrow('top_k: got 0');
    await expect(fill(5 as unknown as string)).rejects.toThrow(InputError);
  });
});

test('a device that is disposed first: calls say so, and the pipeline ends all the same', async () => {
  const own = new ReferenceDevice();
  const other = await pipeline('fill-mask', folder, { device: own });
  const answer = other('a [MASK]');
  own.dispose();
  await expect(answer).rejects.toThrow('was disposed');
  await expect(other('a [MASK]')).rejects.toThrow('was disposed');
  await other.dispose();
});

test('dispose ends calls and a stream that are under way, and gives back all memory', async () => {
  const own = new ReferenceDevice();
  const { storages } = own as unknown as { storages: ReadonlySet<unknown> };
  const other = await pipeline('fill-mask', folder, { device: own });
  async function* texts() {
    for (let i = 0; i < 1000; i++) yield 'the cat sees [MASK] .';
  }
  const stream = other(texts());
  const first = await stream.next();
  const calls = Array.from({ length: 20 }, () => other('a [MASK]'));
  const ended = other.dispose();
  expect(await Promise.all(calls)).toEqual(calls.map(() => expect.objectContaining({ length: 5 })));
  await ended;
  expect(storages.size).toBe(0);
  // What was computed for it is still given out.
  let answers = first.done ? 0 : 1;
  await expect(
    (async () => {
      for await (const _ of stream) answers++;
    })(),
  ).rejects.toThrow('this fill-mask pipeline was disposed');
  expect(answers).toBe(256);
});

test('await using: the block ends when the calls under way have', async () => {
  let answer: Promise<unknown> | undefined;
  let settled = false;
  let kept: FillMaskPipeline;
  {
    await using fill = await pipeline('fill-mask', folder, { device: 'reference' });
    kept = fill;
    answer = fill('a [MASK]').finally(() => {
      settled = true;
    });
  }
  expect(settled).toBe(true);
  await answer;
  await expect(kept('a [MASK]')).rejects.toThrow('this fill-mask pipeline was disposed');
});

test('dispose leaves a device that was handed in alive, and ends calls under way first', async () => {
  const own = new ReferenceDevice();
  let disposed: FillMaskPipeline;
  {
    using fill = await pipeline('fill-mask', folder, { device: own });
    disposed = fill;
  }
  await expect(disposed('a [MASK]')).rejects.toThrow('was disposed');
  const second = await pipeline('fill-mask', folder, { device: own });
  const answer = second('a [MASK]');
  await Promise.all([second.dispose(), second.dispose()]);
  expect(await answer).toHaveLength(5);
  expect(await own.read(own.tensor('alive', [1], 'f32', [7]))).toEqual(Float32Array.of(7));
  own.dispose();
});

test.skipIf(deviceNotice() !== undefined)('the native backend answers as the reference does, texts together or alone', async () => {
  const native = await pipeline('fill-mask', folder, { device: 'native', threads: 2 });
  const texts = ['a [MASK]', 'the cat sees a long road and a small bird finds the [MASK] .', 'my sister [MASK] the letter .'];
  const expected = (await fill(texts)) as FillMaskCandidate[][];
  const together = (await native(texts)) as FillMaskCandidate[][];
  for (let i = 0; i < texts.length; i++) {
    const alone = (await native(texts[i])) as FillMaskCandidate[];
    for (const answer of [together[i], alone]) {
      expect(answer.map(({ sequence }) => sequence)).toEqual(expected[i].map(({ sequence }) => sequence));
      answer.forEach(({ score }, j) => {
        expect(score).toBeCloseTo(expected[i][j].score, 5);
      });
    }
  }
  await native.dispose();
});
