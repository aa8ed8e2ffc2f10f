import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import { toBfloat16, toFloat16 } from '../../src/io/half_floats.ts';
import { modelFiles } from '../../src/io/model_files.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { type Pipelines, pipeline } from '../../src/pipelines/pipeline.ts';
import { type BlockWatch, watchBlocks } from '../backend/blocks.ts';
import { goldenPath } from '../goldens.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

const folder = temporaryFolder();
const copy = join(folder, 'copy');
/** Models and what they are opened for. */
const uses = [
  ['tiny', 'fill-mask'],
  ['hf-bert', 'fill-mask'],
  ['hf-bert', 'feature-extraction'],
  ['hf-bert-classify', 'text-classification'],
] as const;
type Task = (typeof uses)[number][1];

let device: ReferenceDevice;
let blocks: BlockWatch;
beforeAll(async () => {
  const tiny = join(folder, 'tiny');
  await writeTinyModel(tiny);
  for (const model of ['hf-bert', 'hf-bert-classify']) {
    mkdirSync(join(folder, model));
    for (const name of ['config.json', 'model.safetensors']) cpSync(goldenPath(model, name), join(folder, model, name));
    // The goldens have no tokenizer; this one has fewer tokens than they.
    cpSync(join(tiny, 'tokenizer.json'), join(folder, model, 'tokenizer.json'));
  }
});
beforeEach(() => {
  device = new ReferenceDevice();
  blocks = watchBlocks(device);
});
afterEach(() => device.dispose());

/** No file here has a megabyte. */
const largestBlock = 2 ** 22;

/**
 * Opens and uses a model some of whose files were replaced; returns the message of the InputError that refused it, which must be one short line,
 * or undefined. Any other error, memory that is not given back and a huge allocation fail the test.
 */
async function refusal(model: string, task: Task, damaged: Record<string, Uint8Array | string>): Promise<string | undefined> {
  rmSync(copy, { recursive: true, force: true });
  cpSync(join(folder, model), copy, { recursive: true });
  for (const [name, content] of Object.entries(damaged)) writeFileSync(join(copy, name), content);
  let message: string | undefined;
  try {
    const answer = (await pipeline(task, copy, { device })) as Pipelines['feature-extraction'];
    await answer(['a [MASK]', 'the cat sees [MASK] .']).finally(() => answer.dispose());
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    message = error.message;
    expect(message).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
    expect(message.length).toBeLessThan(5000);
  }
  expect(blocks.held).toBe(0);
  expect(blocks.largest).toBeLessThan(largestBlock);
  return message;
}

const byteChanges = fc.array(fc.record({ at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), byte: fc.nat(255) }), {
  minLength: 1,
  maxLength: 4,
});

test.each(modelFiles)('%s with changed bytes, or cut short, is used or refused, never a crash', async (name) => {
  const good = readFileSync(join(folder, 'tiny', name));
  const refused = async (damaged: Uint8Array) => (await refusal('tiny', 'fill-mask', { [name]: damaged })) !== undefined;
  expect(await refused(good)).toBe(false);
  let refusals = 0;
  await fc.assert(
    fc.asyncProperty(byteChanges, fc.option(fc.nat(good.length - 1), { freq: 3 }), async (changes, length) => {
      const damaged = Buffer.from(good);
      for (const { at, byte } of changes) damaged[Math.floor(at * good.length)] = byte;
      if (await refused(damaged.subarray(0, length ?? good.length))) refusals++;
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

/** In place of this stands an array in an array and so on, deeper than the stack. */
const nested = '(nested)';
const withNested = (json: string) => json.replace(JSON.stringify(nested), () => `${'['.repeat(50_000)}${']'.repeat(50_000)}`);

test.each([...uses.map(([model, task]) => [model, task, 'config.json'] as const), ['tiny', 'fill-mask', 'tokenizer.json'] as const])(
  '%s, %s: %s with a value replaced or removed is used or refused, never a crash',
  async (model, task, name) => {
    const text = readFileSync(join(folder, model, name), 'utf8');
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
        { 'a\nb\u2028': 3 },
        'x'.repeat(100_000),
        nested,
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
        if ((await refusal(model, task, { [name]: withNested(JSON.stringify(document)) })) !== undefined) refusals++;
      }),
      { numRuns: 150 },
    );
    expect(refusals).toBeGreaterThan(0);
  },
);

describe.each(uses.filter(([model]) => model !== 'tiny'))('%s, %s: in config.json', (model, task) => {
  const property = async <Value>(
    value: fc.Arbitrary<Value>,
    change: (config: Record<string, unknown>, value: Value) => RegExp | undefined,
  ) => {
    const text = readFileSync(join(folder, model, 'config.json'), 'utf8');
    await fc.assert(
      fc.asyncProperty(value, async (drawn) => {
        const config = JSON.parse(text);
        const expected = change(config, drawn);
        const message = await refusal(model, task, { 'config.json': JSON.stringify(config) });
        if (expected === undefined) expect(message).toBeUndefined();
        else {
          expect(message).toMatch(expected);
          expect([join(copy, 'config.json'), join(copy, 'model.safetensors')]).toContain(message?.split(': ')[0]);
        }
      }),
      { numRuns: 60 },
    );
  };
  const count = fc.oneof(
    fc.integer({ min: 1, max: 300 }),
    fc.constantFrom(2 ** 9, 2 ** 14, 2 ** 16, 2 ** 21, 2 ** 24, 2 ** 31, 1e9, 2 ** 53),
  );

  const sizes = ['hidden_size', 'num_hidden_layers', 'intermediate_size', 'vocab_size', 'max_position_embeddings', 'type_vocab_size'];
  test.each(sizes)('%s is not that of the tensors', (key) =>
    property(count, (config, value) => {
      fc.pre(config[key] !== value);
      config[key] = value;
      // Blocks that config.json does not count are left out.
      if (key === 'num_hidden_layers' && value < (JSON.parse(readFileSync(join(folder, model, 'config.json'), 'utf8'))[key] as number))
        return undefined;
      return new RegExp(`'${key}' is|hidden size|tensor '`);
    }),
  );

  test('heads do not divide the hidden size', () =>
    property(count, (config, value) => {
      config.num_attention_heads = value;
      return 48 % value === 0 ? undefined : /'num_attention_heads' is|hidden size 48 cannot be divided among \d+ attention heads/;
    }));

  test('there are other classes than the tensors have', () =>
    property(count, (config, value) => {
      config.num_labels = value;
      if (value > 2 ** 16) return /'num_labels' is/;
      return task !== 'text-classification' || value === 2 ? undefined : /tensor 'classifier\.weight' is \[2,48\]/;
    }));

  test('the type of model is another', () =>
    property(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('gpt2', 'roberta', 'distilbert', 'BERT', 'ultrafastbert', 'crammedBERT', '__proto__'),
      ),
      (config, value) => {
        fc.pre(value !== 'bert');
        config.model_type = value;
        return otherTypes.get(value) ?? /'model_type' is "/;
      },
    ));
});

/** What a BERT's configuration or weights lack for other families. */
const otherTypes = new Map([
  ['ultrafastbert', /'intermed_type' is missing/],
  ['crammedBERT', /'arch' is missing/],
  ['roberta', /model\.safetensors: .*tensor/],
  ['distilbert', /model\.safetensors: .*tensor|'dim' is missing/],
]);

/** A tensor of a file, as it lies there. */
interface RawTensor {
  dtype: string;
  shape: number[];
  bytes: Uint8Array;
}

async function tensorsOf(model: string): Promise<Map<string, RawTensor>> {
  await using file = await readSafetensors(join(folder, model, 'model.safetensors'));
  const tensors = new Map<string, RawTensor>();
  for (const name of file.names) {
    const { dtype, shape } = file.info(name);
    tensors.set(name, { dtype, shape: [...shape], bytes: await file.readRaw(name) });
  }
  return tensors;
}

function safetensorsOf(tensors: ReadonlyMap<string, RawTensor>): Uint8Array {
  let end = 0;
  const entries = [...tensors].map(([name, { dtype, shape, bytes }]) => {
    const start = end;
    end += bytes.length;
    return [name, { dtype, shape, data_offsets: [start, end] }] as const;
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, ...[...tensors.values()].map(({ bytes }) => bytes)]);
}

const bytesOf = ({ buffer }: ArrayBufferView<ArrayBuffer>) => new Uint8Array(buffer);
const floatsOf = ({ bytes }: RawTensor) => new Float32Array(bytes.slice().buffer);
const sizeOf = ({ shape }: RawTensor) => shape.reduce((a, b) => a * b, 1);

describe.each(uses)('%s, %s: in model.safetensors', (model, task) => {
  let tensors: Map<string, RawTensor>;
  let names: string[];
  beforeAll(async () => {
    tensors = await tensorsOf(model);
    names = [...tensors.keys()];
  });

  /** Changes one tensor of each example, in a copy. What refuses it is the file, and names the tensor. */
  const property = async <Value>(
    value: fc.Arbitrary<Value>,
    change: (all: Map<string, RawTensor>, name: string, value: Value) => string | undefined,
    numRuns = 60,
  ) => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), value, async (name, drawn) => {
        const all = new Map(
          [...tensors].map(([key, { dtype, shape, bytes }]) => [key, { dtype, shape: [...shape], bytes: bytes.slice() }]),
        );
        const named = change(all, name, drawn);
        const message = await refusal(model, task, { 'model.safetensors': safetensorsOf(all) });
        if (named === undefined) expect(message).toBeUndefined();
        else {
          expect(message).toContain(`${join(copy, 'model.safetensors')}: `);
          expect(message).toContain(named);
        }
      }),
      { numRuns },
    );
  };
  /** Vectors are made without the head. */
  const isUnused = (name: string) => task === 'feature-extraction' && name.startsWith('cls.');
  /** Of these two either does: the decoder is a copy. */
  const isCopied = (name: string) => ['decoder.weight', 'encoder.embedding.word_embedding.weight'].includes(name);

  test('a tensor is missing', () =>
    property(fc.constant(undefined), (all, name) => {
      all.delete(name);
      return isUnused(name) || isCopied(name) || name.endsWith('.norm_factor') ? undefined : `'${name}'`;
    }));

  test('there is one too many, of any name: it is left out', () =>
    property(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('__proto__', 'constructor', 'a\nb', 'x'.repeat(100_000), 'bert.encoder.layer.3.output.dense.weight'),
      ),
      (all, _, extra) => {
        fc.pre(!all.has(extra) && extra !== '__metadata__');
        all.set(extra, { dtype: 'F32', shape: [1], bytes: new Uint8Array(4) });
        return undefined;
      },
    ));

  test('one has another name', () =>
    property(fc.constantFrom('x', '.weight', '\n', ' ', '\0'), (all, name, suffix) => {
      const tensor = all.get(name) as RawTensor;
      all.delete(name);
      all.set(name + suffix, tensor);
      return isUnused(name) || isCopied(name) || name.endsWith('.norm_factor') ? undefined : `'${name}`;
    }));

  test('two have changed their names', () =>
    property(fc.nat(), (all, name, at) => {
      const other = names[at % names.length];
      const [one, two] = [all.get(name), all.get(other)] as [RawTensor, RawTensor];
      all.set(name, two);
      all.set(other, one);
      const isKept = String(one.shape) === String(two.shape) || (isUnused(name) && isUnused(other));
      return isKept ? undefined : 'expected [';
    }));

  test('one is of another shape with as many values', () =>
    property(fc.constantFrom('transposed', 'flat', 'one more', 'scalar'), (all, name, how) => {
      const tensor = all.get(name) as RawTensor;
      const { shape } = tensor;
      if (how === 'transposed') tensor.shape = shape.toReversed();
      else if (how === 'flat') tensor.shape = [sizeOf(tensor)];
      else if (how === 'one more') tensor.shape = [...shape, 1];
      else Object.assign(tensor, { shape: [], bytes: tensor.bytes.slice(0, 4) });
      const isSame = String(tensor.shape) === String(shape) && tensor.shape.length === shape.length;
      return isSame || isUnused(name) ? undefined : `'${name}'`;
    }));

  test('one is larger or smaller by a row, or has nothing', () =>
    property(fc.constantFrom(1, -1, 'none' as const), (all, name, rows) => {
      const tensor = all.get(name) as RawTensor;
      fc.pre(tensor.shape.length > 0);
      const [first, ...rest] = tensor.shape;
      tensor.shape = [rows === 'none' ? 0 : first + rows, ...rest];
      tensor.bytes = new Uint8Array(4 * sizeOf(tensor));
      if (isUnused(name)) return undefined;
      // Its rows say how many classes there are; then the bias does not fit.
      return name === 'classifier.weight' ? "'classifier." : `'${name}'`;
    }));

  test('one holds integers, in as many bytes as they take', () =>
    property(fc.constantFrom<[string, number]>(['I64', 8], ['I32', 4], ['I16', 2], ['U8', 1], ['BOOL', 1]), (all, name, [dtype, bytes]) => {
      const tensor = all.get(name) as RawTensor;
      Object.assign(tensor, { dtype, bytes: new Uint8Array(bytes * sizeOf(tensor)) });
      return isUnused(name) ? undefined : `tensor '${name}' is ${dtype}`;
    }));

  test('one is of a type that is not known', () =>
    property(fc.oneof(fc.string(), fc.constantFrom('F4', 'F8_E4M3', 'C64', 'f32', '__proto__')), (all, name, dtype) => {
      (all.get(name) as RawTensor).dtype = dtype;
      return `tensor '${name}' has dtype "`;
    }));

  test('one holds its values in another floating point format: it is used', () =>
    property(fc.constantFrom('F64', 'F16', 'BF16'), (all, name, dtype) => {
      const tensor = all.get(name) as RawTensor;
      const values = floatsOf(tensor);
      const converted = { F64: () => Float64Array.from(values), F16: () => toFloat16(values), BF16: () => toBfloat16(values) }[dtype];
      Object.assign(tensor, { dtype, bytes: bytesOf((converted as () => Float64Array<ArrayBuffer>)()) });
      // Rounded, it is no copy any more.
      return isCopied(name) && dtype !== 'F64' ? 'an untied decoder is not supported' : undefined;
    }));

  test('one holds what is no number', () =>
    property(
      fc.record({
        at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        value: fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
        dtype: fc.constantFrom('F32', 'F64', 'F16', 'BF16'),
      }),
      (all, name, { at, value, dtype }) => {
        const tensor = all.get(name) as RawTensor;
        const values = floatsOf(tensor);
        const index = Math.floor(at * values.length);
        values[index] = value;
        const converted = {
          F32: () => values,
          F64: () => Float64Array.from(values),
          F16: () => toFloat16(values),
          BF16: () => toBfloat16(values),
        };
        Object.assign(tensor, { dtype, bytes: bytesOf(converted[dtype as 'F64']()) });
        return isUnused(name) ? undefined : `tensor '${name}' holds ${value} at element ${index}`;
      },
    ));
});
