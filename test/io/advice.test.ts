/** Commands that messages recommend, run as a user would. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { ufb } from '../cli/ufb.ts';
import { writePythonModel } from '../python_models.ts';
import { temporaryFolder } from '../temporary.ts';

const open = { device: new ReferenceDevice(), notice: () => {} };
const blank = 'the cat sat on the [MASK] in paris .';

async function messageOf(task: 'fill-mask' | 'text-classification', folder: string): Promise<string> {
  const error = await pipeline(task, folder, open).then(
    () => undefined,
    (reason: unknown) => reason as Error,
  );
  return (error as Error).message;
}

// UFB_PYTHON names a Python with PyTorch, transformers and safetensors, which few machines have.
const python = process.env.UFB_PYTHON;
const reason = python ? '' : ' (skipped: UFB_PYTHON names no Python with PyTorch and transformers)';

describe.skipIf(!python)(`commands for Python${reason}`, () => {
  /** Runs what follows 'python' in a message in a shell that knows that name. */
  function follow(message: string): void {
    const bin = join(temporaryFolder(), 'bin');
    rmSync(bin, { recursive: true, force: true });
    mkdirSync(bin);
    // Not a link: a virtual environment is known by where its python lies.
    writeFileSync(join(bin, 'python'), `#!/bin/sh\nexec '${python}' "$@"\n`, { mode: 0o755 });
    const command = message.slice(message.indexOf('python -c'));
    execFileSync('sh', ['-c', command], {
      env: { ...process.env, PATH: `${bin}:${process.env.PATH}`, HF_HUB_OFFLINE: '1' },
      stdio: 'pipe',
    });
  }

  test('pickled weights: the head stays, and nothing is overwritten', async () => {
    const folder = join(temporaryFolder(), "it's pickled");
    cpSync(await writePythonModel('whole', {}), folder, { recursive: true });
    const expected = await (await pipeline('fill-mask', folder, open))(blank);
    const script =
      "import sys, torch, safetensors.torch as s; d = sys.argv[1]; torch.save(s.load_file(d + '/model.safetensors'), d + '/pytorch_model.bin')";
    execFileSync(python as string, ['-c', script, folder]);
    rmSync(join(folder, 'model.safetensors'));
    const others = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'pytorch_model.bin'];
    const before = others.map((name) => readFileSync(join(folder, name)));
    follow(await messageOf('fill-mask', folder));
    expect(others.map((name) => readFileSync(join(folder, name)))).toEqual(before);
    expect(await (await pipeline('fill-mask', folder, open))(blank)).toEqual(expected);
  }, 300_000);
});

test('a model without a classifier: ufb finetune makes one of it', async () => {
  const folder = await writePythonModel('headless', {});
  const command = /ufb (finetune .*)$/.exec(await messageOf('text-classification', folder))?.[1] as string;
  const train = join(temporaryFolder(), 'train.csv');
  const out = join(temporaryFolder(), 'my-classifier');
  const rows = Array.from({ length: 40 }, (_, i) => `${i % 2 ? 'the cat was good' : 'a dog ran'},${i % 2 ? 'yes' : 'no'}`);
  writeFileSync(train, ['text,label', ...rows].join('\n'));
  const given = command.replace('DIR', folder).replace('FILE', train).replace('my-classifier', out).split(' ');
  const { code } = await ufb([...given, '--epochs', '1', '--quiet']);
  expect(code).toBe(0);
  using classify = await pipeline('text-classification', out, open);
  expect((await classify('the cat was good', { top_k: null })).map(({ label }) => label).sort()).toEqual(['no', 'yes']);
}, 120_000);
