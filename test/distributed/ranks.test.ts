/** Training by two processes that mpirun starts on this machine. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { ufb } from '../cli/ufb.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, writeTinyModel } from '../tiny_model.ts';
import { writeCorpus } from '../training/corpora.ts';
import { mpirunMissing, ranks, ranksOf } from './mpirun.ts';

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

/** Trees so deep that each rank visits nodes that the other does not, and thresholds that follow. */
const shape =
  '--layers 2 --hidden 16 --heads 2 --trees 2 --depth 5 --vocabulary 100 --length 16 --batch 2 --shuffle 64 --seed 5 --balance 0.3'.split(
    ' ',
  );
const budget = ['--tokens', '2560', '--learning-rate', '1e-2', '--held-out-every', '9', '--held-out-sequences', '8', '--threads', '1'];
const pretraining = (out: string, ...more: string[]) => [
  'pretrain',
  '--corpus',
  at('corpus.txt.gz'),
  '--out',
  at(out),
  ...shape,
  ...budget,
  ...more,
];

/** All that a run has saved, but for the time that it took. */
async function saved(out: string): Promise<Record<string, Float32Array>> {
  const file = await readSafetensors(at(`${out}/run/state.safetensors`));
  const all: Record<string, Float32Array> = {};
  for (const name of file.names) if (name !== 'checksum' && !name.startsWith('stream.')) all[name] = await file.read(name);
  const { seconds: _, ...progress } = JSON.parse(file.metadata.progress);
  await file.close();
  expect(Object.keys(all).length).toBeGreaterThan(10);
  return { ...all, progress } as Record<string, Float32Array>;
}

const weights = (out: string) => readFileSync(at(`${out}/model.safetensors`));

beforeAll(() => {
  const sentences = generatedSentences();
  const documents = Array.from({ length: Math.floor(sentences.length / 5) }, (_, i) => sentences.slice(i * 5, i * 5 + 5));
  writeCorpus(folder, 'corpus.txt.gz', documents);
});

describe.skipIf(mpirunMissing)(`two ranks${mpirunMissing}`, () => {
  test('have the weights, moments and losses of one process with as many batches a step, bit for bit', async () => {
    expect(await ufb(pretraining('alone', '--accumulate', '4'))).toMatchObject({ code: 0 });
    const { code, stderr, stdout } = await ranks(2, pretraining('two', '--accumulate', '4'));
    expect(stderr).toContain('2 ranks by Open MPI');
    expect(code).toBe(0);
    expect(stdout.match(/done: step/g)).toHaveLength(1);
    expect(await saved('two')).toEqual(await saved('alone'));
    expect(weights('two').equals(weights('alone'))).toBe(true);
  });

  test('of which each keeps its share of the moments have them too', async () => {
    expect(await ranks(2, pretraining('sharded', '--accumulate', '4', '--shard-optimizer'))).toMatchObject({ code: 0 });
    expect(await ufb(pretraining('alone of sharded', '--accumulate', '4'))).toMatchObject({ code: 0 });
    expect(await saved('sharded')).toEqual(await saved('alone of sharded'));
  });

  test('whose gradients travel in bf16 have other weights, alike on both, and nearly the same loss', async () => {
    expect(await ranks(2, pretraining('exact'))).toMatchObject({ code: 0 });
    expect(await ranks(2, pretraining('rounded', '--wire', 'bf16'))).toMatchObject({ code: 0 });
    expect(weights('rounded').equals(weights('exact'))).toBe(false);
    const [exact, rounded] = (await Promise.all(['exact', 'rounded'].map(saved))).map(({ progress }) =>
      (progress as unknown as { history: { heldOutLoss?: number }[] }).history.findLast(({ heldOutLoss }) => heldOutLoss !== undefined),
    );
    expect(rounded?.heldOutLoss).toBeCloseTo(exact?.heldOutLoss as number, 1);
  });

  test('of which one is told to stop are saved, and one process goes on with them, to the same weights', async () => {
    const long = ['--tokens', '400000', '--accumulate', '2'];
    const log = at('stopped.log');
    let watching: NodeJS.Timeout | undefined;
    const stopped = await ranks(2, pretraining('stopped', ...long, '--log', log), {
      onStderr(_, mpirun) {
        // As mpirun does after Ctrl-C; Open MPI 4 waits for a time before.
        watching ??= setInterval(() => {
          if (!existsSync(log) || !readFileSync(log, 'utf8').includes('"event":"step"')) return;
          clearInterval(watching);
          process.kill(ranksOf(mpirun)[1], 'SIGTERM');
        }, 50);
      },
    });
    clearInterval(watching);
    expect(stopped.code).not.toBe(0);
    const { step } = (await saved('stopped')).progress as unknown as { step: number };
    expect(step).toBeGreaterThan(0);
    expect(step).toBeLessThan(400_000 / 64);
    expect(await ufb(['pretrain', '--out', at('stopped'), '--resume'])).toMatchObject({ code: 0 });
    expect(await ufb(pretraining('whole', ...long))).toMatchObject({ code: 0 });
    const { progress: _, ...found } = await saved('stopped');
    const { progress: __, ...expected } = await saved('whole');
    expect(found).toEqual(expected);
  });

  test('of which one is killed end, and say which', async () => {
    let killed: number | undefined;
    const started = Date.now();
    const { code, stderr } = await ranks(2, pretraining('killed', '--tokens', '4000000', '--checkpoint-every', '1'), {
      onStderr(text, mpirun) {
        if (killed !== undefined || !text.includes('2 ranks by')) return;
        killed = ranksOf(mpirun)[1];
        setTimeout(() => process.kill(killed as number, 'SIGKILL'), 2000);
      },
    });
    expect(code).not.toBe(0);
    expect(Date.now() - started).toBeLessThan(60_000);
    expect(stderr).toMatch(/rank 1 .*signal 9/s);
  });

  test('that are started with other options say so, once', async () => {
    const { code, stderr } = await ranks(2, [pretraining('differ', '--seed', '1'), pretraining('differ', '--seed', '2')]);
    expect(code).toBe(2);
    expect(stderr.match(/rank 1: was started with other options than rank 0 \(--seed: 2, there 1\)/g)).toHaveLength(1);
  });

  test("without an MPI, or with another one than the launcher's, say what to do", async () => {
    const missing = await ranks(2, pretraining('none'), { env: { UFB_MPI: '/nowhere/libmpi.so' } });
    expect(missing.code).toBe(2);
    expect(missing.stderr.match(/no MPI can be opened .*apt-get install openmpi-bin/g)).toHaveLength(1);
    const other = await ranks(2, pretraining('none'), { env: { UFB_MPI: 'libc.so.6' } });
    expect(other.stderr).toContain('libc.so.6: is neither Open MPI nor MPICH');
  });

  test('refuse fewer batches a step than ranks', async () => {
    const { code, stderr } = await ranks(2, pretraining('few', '--accumulate', '1'));
    expect(code).toBe(2);
    expect(stderr).toContain('2 ranks cannot share 1 batch a step');
  });

  test('convert as one process does', async () => {
    await writeTinyModel(at('dense'), { feedforward: { kind: 'dense', neurons: 32 } });
    const conversion = (out: string) =>
      ['convert', '--model', at('dense'), '--corpus', at('corpus.txt.gz'), '--out', at(out), '--trees', '1', '--depth', '3'].concat(
        '--fit-tokens 2000 --tokens 3000 --batch 128 --length 32 --held-out-every 9 --held-out-texts 8 --accumulate 2 --threads 1'.split(
          ' ',
        ),
      );
    expect(await ufb(conversion('converted alone'))).toMatchObject({ code: 0 });
    expect(await ranks(2, conversion('converted'))).toMatchObject({ code: 0 });
    expect(weights('converted').equals(weights('converted alone'))).toBe(true);
  });

  test('fine-tune as one process does', async () => {
    await writeTinyModel(at('base'));
    const sentences = generatedSentences().slice(0, 60);
    writeCorpus(folder, 'labeled.jsonl', [sentences.map((text, i) => JSON.stringify({ text, label: i % 3 === 0 ? 'a' : 'b' }))]);
    const tuning = (out: string) =>
      ['finetune', '--model', at('base'), '--train', at('labeled.jsonl'), '--out', at(out)].concat(
        '--epochs 2 --batch 4 --accumulate 4 --length 16 --learning-rate 1e-3 --threads 1'.split(' '),
      );
    expect(await ufb(tuning('tuned alone'))).toMatchObject({ code: 0 });
    expect(await ranks(2, tuning('tuned'))).toMatchObject({ code: 0 });
    expect(weights('tuned').equals(weights('tuned alone'))).toBe(true);
  });
});
