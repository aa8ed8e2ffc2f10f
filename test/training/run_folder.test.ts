import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { holderText, place } from '../../src/platform/node_lock.ts';
import type { PretrainOptions } from '../../src/training/pretrain.ts';
import { pretrainOptionsSchema } from '../../src/training/pretrain_options.ts';
import { readRunRecord, sortedAsNoted } from '../../src/training/run_folder.ts';
import { temporaryFolder } from '../temporary.ts';
import { testFolder, writeCorpus } from './corpora.ts';
import { remains, run, tinyRun, tokensPerStep, withoutChecksums } from './tiny_run.ts';

const dead = spawnSync(process.execPath, ['--version']).pid;
const lock = (out: string) => join(out, 'run', 'lock');

describe('one process a run', () => {
  test('another is told which process has it, and finds all as it was; then the folder is free', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: 2 * tokensPerStep });
    const refusals: Error[] = [];
    await run(out, options, {
      async onStart() {
        for (const resume of [false, true]) refusals.push(await run(out, options, { resume }).catch((error) => error));
      },
    });
    expect(refusals[0].message).toMatch(/holds a run already/);
    expect(refusals[1].message).toBe(`${out}: process ${process.pid} on ${hostname()} is at work on this run: wait for it, or end it`);
    expect(refusals[1]).toBeInstanceOf(InputError);
    expect(existsSync(lock(out))).toBe(false);
  });

  test('a start meets one that has not noted its run yet', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: tokensPerStep });
    const started: Promise<Error>[] = [];
    await run(out, options, { onNotice: () => void started.push(run(out, options).catch((error) => error)) });
    expect((await started[0]).message).toMatch(/is at work on this run|holds a run already/);
    expect(await run(out, options, { resume: true })).toMatchObject({ finished: true });
  });

  test.each([
    ['that is no more', `${dead} ${hostname()} x ${place()} -`],
    ['whose number another has now', holderText().replace(/\S+$/, '1')],
    ['of an older version', `${dead} ${hostname()} x`],
  ])('a lock of a process %s is taken over', async (_, text) => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: tokensPerStep });
    await run(out, options);
    writeFileSync(lock(out), text);
    expect(await run(out, options, { resume: true })).toMatchObject({ finished: true });
    expect(readdirSync(join(out, 'run')).sort()).toEqual(['options.json', 'state.safetensors']);
  });

  test('of another machine, a lock counts as long as it is touched', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: tokensPerStep });
    await run(out, options);
    writeFileSync(lock(out), `${dead} elsewhere x 12345678 1`);
    await expect(run(out, options, { resume: true })).rejects.toThrow(
      `process ${dead} on elsewhere is at work on this run: wait for it, or end it; if it`,
    );
    const then = new Date(Date.now() - 120_000);
    utimesSync(lock(out), then, then);
    expect(await run(out, options, { resume: true })).toMatchObject({ finished: true });
  });
});

describe('what a kill leaves before the run is noted', () => {
  const oldPart = '.tokenizer.json.4194304-0.1.part';
  test.each([
    ['a part, of an older version', { [oldPart]: '{"mod' }, false],
    ['a lock', {}, true],
    ['a lock and the tokenizer', { 'tokenizer.json': '{}' }, true],
    ['a lock, a tokenizer, and files of sentences', { 'tokenizer.json': '{}', 'modules.json': '[]', '1_Pooling/config.json': '{}' }, true],
  ])('%s: it can be started again', async (_, files, locked) => {
    const folder = testFolder();
    const out = join(folder, 'out');
    mkdirSync(join(out, 'run'), { recursive: true });
    mkdirSync(join(out, '1_Pooling'));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(out, name), text);
    if (!existsSync(join(out, '1_Pooling', 'config.json'))) renameSync(join(out, '1_Pooling'), join(folder, 'unused'));
    if (locked) writeFileSync(lock(out), `${dead} ${hostname()} x ${place()} -`);
    const options = tinyRun(folder, { tokens: tokensPerStep });
    expect(await run(out, options)).toMatchObject({ finished: true });
    expect(readdirSync(out).sort()).toEqual([
      'config.json',
      'loss.svg',
      'model.safetensors',
      'run',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
  });

  test('what is not of a start stays, and is named', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    mkdirSync(join(out, 'run'), { recursive: true });
    writeFileSync(lock(out), `${dead} ${hostname()} x ${place()} -`);
    writeFileSync(join(out, 'notes.md'), 'mine');
    await expect(run(out, tinyRun(folder))).rejects.toThrow('is not empty and holds no run (but notes.md); name a new folder');
    expect(readFileSync(join(out, 'notes.md'), 'utf8')).toBe('mine');
  });

  test('parts that were being written are removed when the run goes on', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: tokensPerStep });
    await run(out, options);
    for (const name of ['.model.safetensors.4194304-0.1.part', `run/.state.safetensors.${place()}.${dead}-0.3.part`])
      writeFileSync(join(out, name), 'half');
    await run(out, options, { resume: true });
    expect([...readdirSync(out), ...readdirSync(join(out, 'run'))].filter((name) => name.endsWith('.part'))).toEqual([]);
  });
});

describe('what a run goes on with', () => {
  const folder = temporaryFolder();
  const options = tinyRun(folder, {
    tokens: 4 * tokensPerStep,
    corpus: ['a', 'b'].map((name) => writeCorpus(folder, `${name}.txt`, documents(name))),
  });
  const whole = join(folder, 'whole');
  const stopped = join(folder, 'stopped');
  let count = 0;
  /** A copy of the stopped run. */
  const copy = () => {
    const out = join(folder, `copy-${count++}`);
    cpSync(stopped, out, { recursive: true });
    return out;
  };
  const flip = (path: string, at: number) => {
    const bytes = readFileSync(path);
    bytes[at] ^= 1;
    writeFileSync(path, bytes);
  };
  beforeAll(async () => {
    await run(whole, options);
    const stop = new AbortController();
    await run(stopped, options, { signal: stop.signal, onStep: ({ step }) => step === 2 && stop.abort() });
  });

  test('the state: a bit that flipped anywhere is found', async () => {
    for (const share of [0.01, 0.3, 0.6, 0.99]) {
      const out = copy();
      const path = join(out, 'run', 'state.safetensors');
      flip(path, Math.floor(readFileSync(path).length * share));
      const error = await run(out, options, { resume: true }).catch((error) => error);
      expect(error, `${share}`).toBeInstanceOf(InputError);
      expect(error.message, `${share}`).toContain(`${path}: `);
    }
  });

  test('the tokenizer and the options', async () => {
    for (const [name, was, is] of [
      ['tokenizer.json', '"[CLS]"', '"[CLX]"'],
      ['run/options.json', '"seed": 5', '"seed": 4'],
    ]) {
      const out = copy();
      const path = join(out, name);
      const text = readFileSync(path, 'utf8');
      expect(text).toContain(was);
      writeFileSync(path, text.replace(was, is));
      await expect(run(out, options, { resume: true })).rejects.toThrow(
        /^.*\.json: is not (as it was written|what the run was started with): its checksum is another/,
      );
    }
  });

  test('a corpus: another of the same size is refused by its name; moved, in whatever order, it is the same run', async () => {
    const [first, second] = options.corpus;
    const other = join(folder, 'other.txt');
    writeFileSync(other, readFileSync(second));
    flip(other, 40);
    const bytes = readFileSync(other).length;
    await expect(run(copy(), { ...options, corpus: [first, other] }, { resume: true })).rejects.toThrow(
      `${other}: is not what the run in ${folder}/copy-${count - 1} was started with (--corpus): ${bytes} bytes as then, but others`,
    );
    const moved = [join(folder, 'moved-a.txt'), join(folder, 'moved-b.txt')];
    for (const [index, path] of moved.entries()) cpSync(options.corpus[index], path);
    const out = copy();
    const { book } = await readRunRecord(out, 'pretrain');
    const corpus = [...(await sortedAsNoted(moved.toReversed(), book, 'corpus'))];
    expect(corpus).toEqual(moved);
    expect(await run(out, { ...options, corpus }, { resume: true })).toMatchObject({ finished: true, step: 4 });
    expect(await remains(out)).toEqual(await remains(whole));
    expect((await readRunRecord(out, 'pretrain', pretrainOptionsSchema)).options).toMatchObject({ corpus: moved });
  });

  test('a run that an older version started goes on exactly, with a notice; from then on it is checked', async () => {
    const out = copy();
    await withoutChecksums(out);
    const notices: string[] = [];
    const stop = new AbortController();
    await run(out, options, {
      resume: true,
      signal: stop.signal,
      onStep: ({ step }) => step === 3 && stop.abort(),
      onNotice: (line) => void notices.push(line),
    });
    expect(notices).toEqual([
      expect.stringMatching(/^the run in .* was started by an older version.* could not be checked; from now on they are$/),
    ]);
    const path = join(out, 'run', 'options.json');
    const text = readFileSync(path, 'utf8');
    writeFileSync(path, text.replace('"seed": 5', '"seed": 4'));
    await expect(run(out, options, { resume: true })).rejects.toThrow('options.json: is not as it was written');
    writeFileSync(path, text);
    expect(await run(out, options, { resume: true })).toMatchObject({ finished: true });
    expect(await remains(out)).toEqual(await remains(whole));
  });

  test.each<[string, Partial<Record<keyof PretrainOptions, unknown>>]>([
    ["'batch'", { batch: 'x' }],
    ["'batch'", { batch: -1 }],
    ["'learningRate'", { learningRate: null }],
    ["'corpus'", { corpus: [] }],
    ["'corpus.1'", { corpus: ['a', 3] }],
    ["'schedule'", { schedule: 'none' }],
    ["has not one of 'tokens' and 'minutes'", { tokens: undefined }],
  ])('options that are none are refused, naming %s', async (what, change) => {
    const out = copy();
    const path = join(out, 'run', 'options.json');
    const { run: _, ...stored } = JSON.parse(readFileSync(path, 'utf8'));
    writeFileSync(path, JSON.stringify({ ...stored, ...change }));
    const error = await readRunRecord(out, 'pretrain', pretrainOptionsSchema).catch((error) => error);
    expect(error).toBeInstanceOf(InputError);
    expect(error.message).toContain(`${path}: `);
    expect(error.message).toContain(what);
  });
});

function documents(name: string): string[][] {
  return Array.from({ length: 30 }, (_, i) => [`${name} the cat sees house number ${i} .`, `a dog finds the letter ${name} ${i} .`]);
}
