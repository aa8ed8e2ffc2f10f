import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import type { Context } from '../../src/nn/parameter.ts';
import { type RefusedCallback, TextPipeline, type TokenizedText } from '../../src/pipelines/text_pipeline.ts';
import { CharacterLoss } from '../../src/tokenizer/character_loss.ts';

type Encoded = TokenizedText & { length: number };
const notices: string[] = [];
const encoded: string[] = [];
type Work = (texts: readonly Encoded[], context: Context) => Promise<unknown>;
class TestPipeline extends TextPipeline<{ text: string }, Encoded> {
  readonly task = 'test';

  constructor() {
    const encode = ({ text }: { text: string }, name: string): Encoded => {
      encoded.push(text);
      if (text === 'bad') throw new InputError(`${name} is bad`);
      const loss = Object.assign(new CharacterLoss(), { given: 10, lost: text === 'lossy' ? 6 : 1 });
      return { ids: [1], typeIds: [0], length: text.length, loss };
    };
    super({
      device: new ReferenceDevice(),
      inputs: { expected: 'a { text }', accepts: (value) => typeof value === 'object', encode },
      notice: (line) => notices.push(line),
      release: () => {},
    });
  }

  protected override _call(): void {}

  private asked(work: Work, signal: AbortSignal | undefined) {
    const compute = async (context: Context, _: unknown, texts: readonly Encoded[]): Promise<unknown[]> => {
      const made = await work(texts, context);
      return Array.isArray(made) ? made : texts.map(() => made);
    };
    return { pass: { compute }, finish: (output: unknown) => output, signal };
  }

  call(inputs: { text: string } | readonly { text: string }[], signal: AbortSignal | undefined, work: Work): Promise<unknown[]> {
    return this.answer(inputs, this.asked(work, signal));
  }

  stream(inputs: AsyncIterable<{ text: string }>, signal: AbortSignal | undefined, work: Work, refused?: RefusedCallback) {
    return this.answerStream(inputs, this.asked(work, signal), refused);
  }
}
const newPipeline = () => new TestPipeline();
/** Answers with lengths, and remembers how many were answered together. */
const lengths = (windows: number[]) => async (window: readonly Encoded[]) => {
  windows.push(window.length);
  return window.map(({ length }) => length);
};
/** A promise to be kept by hand. */
const gate = () => {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
};
const task = () => new Promise((resolve) => setImmediate(resolve));
const texts = (count: number) => Array.from({ length: count }, (_, i) => ({ text: 'a'.repeat(i) }));
async function* streamOf<Input>(inputs: Iterable<Input>) {
  yield* inputs;
}
async function take<T>(stream: AsyncIterable<T>): Promise<{ answers: T[]; error?: Error }> {
  const answers: T[] = [];
  try {
    for await (const answer of stream) answers.push(answer);
    return { answers };
  } catch (error) {
    return { answers, error: error as Error };
  }
}

test('texts that lose more than a tenth of their characters are told of once', async () => {
  notices.length = 0;
  const pipeline = newPipeline();
  const of = (...all: string[]) =>
    pipeline.call(
      all.map((text) => ({ text })),
      undefined,
      async () => 0,
    );
  await of('a', 'b');
  expect(notices).toEqual([]);
  await of('a', 'lossy', 'b');
  await of('lossy');
  await take(pipeline.stream(streamOf([{ text: 'lossy' }]), undefined, lengths([])));
  const reason = "the model's tokenizer removes them, or has no token for them";
  expect(notices).toEqual([`1 of 3 texts loses more than a tenth of its characters, 60 % at most: ${reason}`]);
  await newPipeline().call({ text: 'lossy' }, undefined, async () => 0);
  expect(notices[1]).toBe(`the text loses 60 % of its characters: ${reason}`);
});

describe('streams', () => {
  test('what is refused is told of and left out, where that is asked for', async () => {
    const refused: [string, number][] = [];
    const inputs = ['a', 'bad', 'ccc', 'bad'].map((text) => ({ text }));
    const stream = newPipeline().stream(streamOf(inputs), undefined, lengths([]), ({ message }, index) => refused.push([message, index]));
    expect(await take(stream)).toEqual({ answers: [1, 3] });
    expect(refused).toEqual([
      ['text 2 is bad', 1],
      ['text 4 is bad', 3],
    ]);
  });

  test('what is ready is answered together, 256 at most, and in order', async () => {
    const windows: number[] = [];
    const { answers, error } = await take(newPipeline().stream(streamOf(texts(600)), undefined, lengths(windows)));
    expect(error).toBeUndefined();
    expect(answers).toEqual(Array.from({ length: 600 }, (_, i) => i));
    expect(windows).toEqual([256, 256, 88]);
  });

  test('what has come is answered while the stream has no more', async () => {
    const { opened, open } = gate();
    async function* source() {
      yield* texts(2);
      await opened;
      yield* texts(3);
    }
    const windows: number[] = [];
    const answers = newPipeline().stream(source(), undefined, lengths(windows));
    expect((await answers.next()).value).toBe(0);
    expect((await answers.next()).value).toBe(1);
    open();
    expect(await take(answers)).toEqual({ answers: [0, 1, 2] });
    expect(windows).toEqual([2, 3]);
  });

  test('read ahead are those answered together, and none before the first answer is asked for', async () => {
    let read = 0;
    async function* source() {
      for (const text of texts(600)) {
        read++;
        yield text;
      }
    }
    const answers = newPipeline().stream(source(), undefined, lengths([]));
    await task();
    expect(read).toBe(0);
    for (let i = 0; i < 256; i++) await answers.next();
    await task();
    expect(read).toBe(256);
  });

  test('one that is refused comes after the answers to those before it, and is named by its place in the stream', async () => {
    const before = texts(300);
    const bad = await take(newPipeline().stream(streamOf([...before, { text: 'bad' }]), undefined, lengths([])));
    expect(bad.answers).toHaveLength(300);
    expect(bad.error).toEqual(new InputError('text 301 is bad'));
    const wrong = await take(newPipeline().stream(streamOf([...before, 7 as never]), undefined, lengths([])));
    expect(wrong.answers).toHaveLength(300);
    expect(wrong.error).toEqual(new InputError('text 301: got number, expected a { text }'));
  });

  test('so does a failure of the stream itself', async () => {
    async function* source() {
      yield* texts(3);
      throw new Error('broken pipe');
    }
    const { answers, error } = await take(newPipeline().stream(source(), undefined, lengths([])));
    expect(answers).toEqual([0, 1, 2]);
    expect(error).toEqual(new Error('broken pipe'));
  });

  test('a failure while answers are given out is no unhandled rejection, and comes in its turn', async () => {
    const { opened, open } = gate();
    async function* source() {
      yield* texts(2);
      await opened;
      throw new Error('broken pipe');
    }
    const answers = newPipeline().stream(source(), undefined, lengths([]));
    await answers.next();
    open();
    await task();
    expect(await take(answers)).toEqual({ answers: [1], error: new Error('broken pipe') });
  });

  test('who stops listening does not wait for an input that never comes', async () => {
    let ended = false;
    async function* source() {
      try {
        yield* texts(600);
      } finally {
        ended = true;
      }
    }
    for await (const length of newPipeline().stream(source(), undefined, lengths([]))) if (length === 3) break;
    expect(ended).toBe(true);
    async function* silent() {
      yield* texts(1);
      await new Promise(() => {});
    }
    for await (const length of newPipeline().stream(silent(), undefined, lengths([]))) if (length === 0) break;
  });

  test.each([
    ['without a signal', undefined],
    ['with a signal', new AbortController().signal],
  ])('keep nothing of what they have read: %s', async (_, signal) => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const read: WeakRef<object>[] = [];
    let held = -1;
    const next = () => {
      const input = { text: 'a' };
      read.push(new WeakRef(input));
      return input;
    };
    async function* source() {
      while (read.length < 600) yield next();
      await task(); // Until the end of a task its weak references hold what they refer to.
      collect();
      held = read.filter((input) => input.deref() !== undefined).length;
    }
    expect((await take(newPipeline().stream(source(), signal, lengths([])))).answers).toHaveLength(600);
    expect(held).toBeGreaterThanOrEqual(0);
    expect(held).toBeLessThan(10);
  });
});

describe('a signal', () => {
  test('stops a call that waits its turn, which is then never done, and lets none past the one before', async () => {
    const pipeline = newPipeline();
    const { opened, open } = gate();
    const done: string[] = [];
    const work = (name: string) => async () => void done.push(name);
    const first = pipeline.call(texts(1), undefined, async () => {
      await opened;
      done.push('first');
    });
    const stop = new AbortController();
    const second = pipeline.call(texts(1), stop.signal, work('second'));
    const third = pipeline.call(texts(1), undefined, work('third'));
    await task();
    stop.abort(new Error('enough'));
    await expect(second).rejects.toThrow('enough');
    await task();
    expect(done).toEqual([]);
    open();
    await Promise.all([first, third]);
    expect(done).toEqual(['first', 'third']);
    await expect(pipeline.call(texts(1), stop.signal, work('fourth'))).rejects.toThrow('enough');
    expect(done).toEqual(['first', 'third']);
  });

  test('may be shared by many calls: Node does not warn of a leak', async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => void warnings.push(warning);
    process.on('warning', onWarning);
    onTestFinished(() => void process.off('warning', onWarning));
    const { signal } = new AbortController();
    const pipeline = newPipeline();
    const calls = Array.from({ length: 30 }, () => pipeline.call(texts(1), signal, lengths([])));
    await Promise.all(calls);
    await task();
    expect(warnings).toEqual([]);
  });

  test('stops a call between inputs', async () => {
    encoded.length = 0;
    const stop = new AbortController();
    const inputs = Array.from({ length: 10 }, (_, i) => ({
      get text() {
        if (i === 3) stop.abort(new Error('enough'));
        return 'a';
      },
    }));
    await expect(newPipeline().call(inputs, stop.signal, lengths([]))).rejects.toThrow('enough');
    expect(encoded).toHaveLength(4);
  });

  test('stops a stream that keeps it waiting', async () => {
    async function* silent() {
      yield* texts(1);
      await new Promise(() => {}); // as a pipe that nobody writes to
    }
    const stop = new AbortController();
    const answers = newPipeline().stream(silent(), stop.signal, lengths([]));
    await answers.next();
    const next = answers.next();
    await task();
    stop.abort(new Error('enough'));
    await expect(next).rejects.toThrow('enough');
  });
});

test('the last answer is not kept', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const pipeline = newPipeline();
  const answer = async () => new WeakRef((await pipeline.call(texts(1), undefined, async () => ({})))[0] as object);
  const kept = await answer();
  await task();
  collect();
  expect(kept.deref()).toBeUndefined();
  await pipeline.dispose();
});

test('a batch that fails gives its memory back: what found none in it is not used again', async () => {
  const pipeline = newPipeline();
  const held: number[] = [];
  const work = (fails: boolean) =>
    pipeline.call({ text: 'a' }, undefined, async (_, { arena }) => {
      held.push(arena.bytes);
      arena.tensor('scratch', [1000]);
      if (fails) throw new Error('a tensor found no memory');
    });
  await work(false);
  await expect(work(true)).rejects.toThrow('no memory');
  await work(false);
  expect(held).toEqual([0, expect.any(Number), 0]);
  expect(held[1]).toBeGreaterThan(0);
  await pipeline.dispose();
});
