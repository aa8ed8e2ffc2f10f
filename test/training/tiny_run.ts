/** Pretraining runs of seconds, and what they leave behind. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Device } from '../../src/backend/device.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { writeSafetensors } from '../../src/io/safetensors_writer.ts';
import { type PretrainOptions, type PretrainSession, pretrain } from '../../src/training/pretrain.ts';
import { generatedSentences } from '../tiny_model.ts';
import { writeCorpus } from './corpora.ts';

/** Documents of five sentences. */
function writeSentences(folder: string): string {
  const sentences = generatedSentences();
  const documents = Array.from({ length: Math.floor(sentences.length / 5) }, (_, i) => sentences.slice(i * 5, i * 5 + 5));
  return writeCorpus(folder, 'corpus.txt.gz', documents);
}

export const tokensPerStep = 2 * 2 * 16;

/** Each document is one letter over and over: hardly anything without context, easy with it. */
export function writeLetters(folder: string): string {
  const letters = Array.from('abcdefghijklmnopqrstuvwxyz');
  const documents = Array.from({ length: 4 }, () =>
    letters.map((letter) => new Array(3).fill(new Array(30).fill(letter).join(' '))),
  ).flat();
  return writeCorpus(folder, 'letters.txt', documents);
}

export function tinyRun(folder: string, changes: Partial<PretrainOptions> = {}): PretrainOptions {
  return {
    corpus: [writeSentences(folder)],
    vocabulary: 100,
    layers: 2,
    hidden: 16,
    heads: 2,
    feedforward: 'fff',
    trees: 2,
    depth: 2,
    intermediate: 32,
    length: 16,
    batch: 2,
    accumulate: 2,
    tokens: 30 * tokensPerStep,
    learningRate: 1e-2,
    schedule: 'budget-triangle',
    seed: 5,
    heldOutEvery: 9,
    heldOutSequences: 8,
    shuffle: 64,
    dtype: 'F32',
    ...changes,
  };
}

export async function run(
  out: string,
  options: PretrainOptions,
  session: Partial<PretrainSession> = {},
  device: Device = new ReferenceDevice(),
) {
  try {
    return await pretrain(options, { device, out, resume: false, checkpointEvery: 1e9, evaluateEvery: 1e9, ...session });
  } finally {
    device.dispose();
  }
}

/** Everything that a run leaves behind: its weights, and its state without the clock. */
export async function remains(out: string) {
  await using state = await readSafetensors(join(out, 'run', 'state.safetensors'));
  // The checksum is of the seconds too.
  const names = state.names.filter((name) => name !== 'checksum');
  const tensors = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await state.readRaw(name)])));
  const progress = { ...JSON.parse(state.metadata.progress), seconds: 0 };
  return { tensors, progress, stream: state.metadata.stream, model: readFileSync(join(out, 'model.safetensors')) };
}

/** A clock that advances by a second at each look, so that intervals in seconds do not depend on the machine. */
export function steadyClock() {
  let time = 0;
  return () => (time += 1000);
}

/** Makes of a run what versions left that noted no checksums. */
export async function withoutChecksums(out: string) {
  const file = join(out, 'run', 'options.json');
  const { run: _, ...options } = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify(options, undefined, 2));
  await withState(out, (metadata) => metadata);
}

/** Writes a run's state anew, its metadata changed and without a checksum. */
export async function withState(
  out: string,
  change: (metadata: Record<string, string>) => Record<string, string>,
  changeTensor: (name: string, values: Float32Array | Int32Array) => void = () => {},
) {
  const path = join(out, 'run', 'state.safetensors');
  await using state = await readSafetensors(path);
  const tensors = [];
  for (const name of state.names.filter((name) => name !== 'checksum')) {
    const { dtype, shape } = state.info(name);
    const values = dtype === 'I32' ? await state.readIntegers(name) : await state.read(name);
    changeTensor(name, values);
    tensors.push({ name, dtype: dtype as 'F32' | 'I32', shape, values });
  }
  await writeSafetensors(path, tensors, change({ ...state.metadata }));
}
