import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import { modelFiles } from '../../src/io/model_files.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

const folder = temporaryFolder();
const model = join(folder, 'model');
const copy = join(folder, 'copy');
const backend = new ReferenceBackend();
beforeAll(async () => {
  await writeTinyModel(model);
  mkdirSync(copy);
});

/** Opens and uses a model one of whose files was replaced; true if it was refused with an InputError. Any other error fails the test. */
async function refused(damagedName: string, damaged: Uint8Array | string): Promise<boolean> {
  for (const name of modelFiles) writeFileSync(join(copy, name), name === damagedName ? damaged : readFileSync(join(model, name)));
  try {
    const fill = await pipeline('fill-mask', copy, { backend });
    await fill(['a [MASK]', 'the cat sees [MASK] .']).finally(() => fill.dispose());
    return false;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    expect(error.message).not.toContain('\n');
    return true;
  }
}

const byteChanges = fc.array(fc.record({ at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), byte: fc.nat(255) }), {
  minLength: 1,
  maxLength: 4,
});

test.each(modelFiles)('%s with changed bytes, or cut short, is used or refused, never a crash', async (name) => {
  const good = readFileSync(join(model, name));
  expect(await refused(name, good)).toBe(false);
  let refusals = 0;
  await fc.assert(
    fc.asyncProperty(byteChanges, fc.option(fc.nat(good.length - 1), { freq: 3 }), async (changes, length) => {
      const damaged = Buffer.from(good);
      for (const { at, byte } of changes) damaged[Math.floor(at * good.length)] = byte;
      if (await refused(name, damaged.subarray(0, length ?? good.length))) refusals++;
    }),
    { numRuns: 120 },
  );
  expect(refusals).toBeGreaterThan(0);
});

/** Every value in a JSON document, by its path. */
function pathsOf(value: unknown, path: string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [path];
  return [
    path,
    ...Object.entries(value)
      .slice(0, 40)
      .flatMap(([key, inner]) => pathsOf(inner, [...path, key])),
  ];
}

test.each(['config.json', 'tokenizer.json'] as const)(
  '%s with a value replaced or removed is used or refused, never a crash',
  async (name) => {
    const text = readFileSync(join(model, name), 'utf8');
    const paths = pathsOf(JSON.parse(text)).filter((path) => path.length > 0);
    const replacement = fc.oneof(
      fc.constantFrom<unknown>(
        undefined,
        null,
        true,
        0,
        -1,
        0.5,
        1e9,
        1e300,
        '',
        'x',
        '[MASK]',
        [],
        {},
        [[]],
        [null],
        { type: 'x' },
        { type: 'Sequence' },
      ),
      fc.jsonValue({ maxDepth: 2 }),
    );
    let refusals = 0;
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), replacement, async (path, value) => {
        const document = JSON.parse(text);
        const parent = path.slice(0, -1).reduce((inner, key) => inner[key], document);
        const key = path.at(-1) as string;
        if (value === undefined && !Array.isArray(parent)) delete parent[key];
        else parent[key] = value;
        if (await refused(name, JSON.stringify(document))) refusals++;
      }),
      { numRuns: 200 },
    );
    expect(refusals).toBeGreaterThan(0);
  },
);
