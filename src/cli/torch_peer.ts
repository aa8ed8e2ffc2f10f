/** PyTorch as a peer of the training benchmark: scripts/torch_training.py in a process of its own. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { packageRoot } from '#platform';
import type { TrainingPeer } from '../bench/training.ts';
import { FailureError } from '../errors.ts';
import { saveCheckpoint } from '../models/checkpoint.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';

export interface TorchPeer {
  /** 'PyTorch 2.13.0', say. */
  name: string;
  /** Gives it a model of crammedBERT's with dense layers, whose weights it takes over, and how many threads it has. */
  open(model: MaskedLanguageModel, threads: number): Promise<TrainingPeer>;
  dispose(): void;
}

/** Starts `python` with PyTorch; else why there is none, and what to do about it. */
export async function startTorch(python: string): Promise<TorchPeer | { missing: string }> {
  const child = spawn(python, [join(packageRoot(), 'scripts', 'torch_training.py')], { stdio: ['pipe', 'pipe', 'pipe'] });
  let complaint = '';
  child.stderr.on('data', (text) => (complaint += text));
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve());
    child.once('error', (error) => {
      complaint += error.message;
      resolve();
    });
  });
  child.stdin.on('error', () => {}); // what it says of its end is in its own words
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async <Answer>(): Promise<Answer> => {
    const { value, done } = await lines.next();
    if (done) await ended;
    if (done) throw new FailureError(complaint.trim().split('\n').at(-1) || 'it ended without a word');
    return JSON.parse(value as string) as Answer;
  };
  const say = (value: object) => child.stdin.write(`${JSON.stringify(value)}\n`);
  const end = () => void child.stdin.end();
  let version: string;
  try {
    version = (await answer<{ torch: string }>()).torch;
  } catch (error) {
    end();
    const reason = error instanceof Error ? error.message : String(error);
    return { missing: `PyTorch is not measured (${python}: ${reason}): pip install torch, and name its python by --python or UFB_PYTHON` };
  }
  const name = `PyTorch ${version}`;
  return {
    name,
    async open(model, threads) {
      const folder = await mkdtemp(join(tmpdir(), 'ufb-bench-'));
      await saveCheckpoint(folder, model);
      say({ folder, threads });
      return {
        name,
        async step({ batch, length, ids, labels }, learningRate) {
          const rows = (values: Int32Array) =>
            Array.from({ length: batch }, (_, row) => Array.from(values.subarray(row * length, (row + 1) * length)));
          say({ ids: rows(ids), labels: rows(labels), learningRate });
          try {
            return await answer<{ loss: number; milliseconds: number }>();
          } catch (error) {
            throw new FailureError(`${name}: ${error instanceof Error ? error.message : String(error)}`);
          }
        },
        async dispose() {
          end();
          await rm(folder, { recursive: true, force: true });
        },
      };
    },
    dispose: end,
  };
}
