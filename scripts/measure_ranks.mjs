#!/usr/bin/env node
// Measures how training scales over processes of this machine, for docs/distributed.md:
//
//   node scripts/measure_ranks.mjs --corpus FILE [--tokens COUNT] [--options 'ufb pretrain options']
//
// One process with one thread and with two, and two ranks with one thread each by mpirun of Open MPI, in turn, three times each; medians of
// tokens a second over the second half of each run. Weak scaling: ranks take a batch each. Strong: a step's two batches are shared, and the
// processes take two as well. Run it with nothing else on the machine.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    corpus: { type: 'string' },
    tokens: { type: 'string', default: '120000' },
    options: { type: 'string', default: '--layers 6 --hidden 256 --heads 4 --trees 1 --depth 11 --batch 8 --length 128' },
    rounds: { type: 'string', default: '3' },
  },
});
if (!values.corpus) {
  console.error('--corpus FILE is missing: name a text to train on');
  process.exit(2);
}
const program = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist', 'cli.js');
const setups = [
  { name: '1 process, 1 thread', ranks: 1, threads: 1, accumulate: 1 },
  { name: '1 process, 2 threads', ranks: 1, threads: 2, accumulate: 1 },
  { name: '1 process, 2 threads, 2 batches a step', ranks: 1, threads: 2, accumulate: 2 },
  { name: '2 ranks, 1 thread each, a batch each', ranks: 2, threads: 1, accumulate: 2 },
  { name: '2 ranks, 1 thread each, in bf16', ranks: 2, threads: 1, accumulate: 2, more: ['--wire', 'bf16'] },
  { name: '2 ranks, 1 thread each, sharded', ranks: 2, threads: 1, accumulate: 2, more: ['--shard-optimizer'] },
];
const folder = mkdtempSync(join(tmpdir(), 'ultrafastbert-ranks-'));
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

function measure({ name, ranks, threads, accumulate, more = [] }, round) {
  const out = join(folder, `${name.replace(/\W+/g, '-')}-${round}`);
  const own = ['--threads', threads, '--accumulate', accumulate, '--tokens', values.tokens, '--out', out, '--log', `${out}.log`, ...more];
  const command = [
    process.execPath,
    program,
    'pretrain',
    '--corpus',
    values.corpus,
    '--held-out-every',
    '0',
    ...values.options.split(' '),
    ...own,
  ];
  const [start, ...rest] = ranks > 1 ? ['mpirun', '-n', `${ranks}`, ...command.map(String)] : command.map(String);
  const { status, stderr } = spawnSync(start, rest, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${name} ended with ${status}:\n${stderr}`);
  const steps = readFileSync(`${out}.log`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ event }) => event === 'step');
  const [middle, last] = [steps[Math.floor(steps.length / 2)], steps[steps.length - 1]];
  return {
    rate: (last.tokens - middle.tokens) / (last.seconds - middle.seconds),
    step: (last.seconds - middle.seconds) / (last.step - middle.step),
    exchanged: /exchanged [^\n]*/.exec(stderr)?.[0],
  };
}

try {
  const found = setups.map(() => []);
  for (let round = 0; round < Number(values.rounds); round++)
    for (const [i, setup] of setups.entries()) found[i].push(measure(setup, round));
  for (const [i, { name }] of setups.entries()) {
    const rate = Math.round(median(found[i].map(({ rate }) => rate)));
    const step = (1000 * median(found[i].map(({ step }) => step))).toFixed(0);
    console.log(`${name}: ${rate} tokens/s, ${step} ms a step${found[i][0].exchanged ? `; ${found[i].at(-1).exchanged}` : ''}`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
