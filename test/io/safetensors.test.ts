import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RandomAccessFile } from '#platform';
import { InputError } from '../../src/errors.ts';
import { toBfloat16, toFloat16 } from '../../src/io/half_floats.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { type TensorToWrite, writeSafetensors } from '../../src/io/safetensors_writer.ts';
import { temporaryFolder } from '../temporary.ts';

const folder = temporaryFolder();
let files = 0;
const newPath = () => join(folder, `${++files}.safetensors`);

/** A file with this header (an object, or text as it is) and so many bytes of values. */
function writeRaw(header: unknown, valueBytes: number, path = newPath()): string {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([length, text, Buffer.alloc(valueBytes)]));
  return path;
}

const f32 = (...offsets: number[]) => ({ dtype: 'F32', shape: [(offsets[1] - offsets[0]) / 4], data_offsets: offsets });

async function messageOf(path: string): Promise<string> {
  const error = await readSafetensors(path).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(InputError);
  expect((error as Error).message).toContain(path);
  expect((error as Error).message).not.toContain('\n');
  return (error as Error).message;
}

describe('reading', () => {
  test('widens every dtype', async () => {
    const path = newPath();
    const header = Buffer.from(
      JSON.stringify({
        f64: { dtype: 'F64', shape: [2], data_offsets: [0, 16] },
        i64: { dtype: 'I64', shape: [2], data_offsets: [16, 32] },
        i32: { dtype: 'I32', shape: [1], data_offsets: [32, 36] },
        f16: { dtype: 'F16', shape: [7], data_offsets: [36, 50] },
        bf16: { dtype: 'BF16', shape: [3], data_offsets: [50, 56] },
        bool: { dtype: 'BOOL', shape: [2], data_offsets: [56, 58] },
        scalar: { dtype: 'U8', shape: [], data_offsets: [58, 59] },
        empty: { dtype: 'F32', shape: [0, 3], data_offsets: [59, 59] },
      }),
    );
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    const raw = (array: ArrayBufferView) => Buffer.from(array.buffer);
    writeFileSync(
      path,
      Buffer.concat([
        length,
        header,
        raw(new Float64Array([1.5, -2])),
        raw(new BigInt64Array([-7n, 2n ** 40n])),
        raw(new Int32Array([-5])),
        raw(new Uint16Array([0x3c00, 0xc000, 0x3555, 0x0001, 0x7bff, 0x7c00, 0x7e00])),
        raw(new Uint16Array([0x3f80, 0xc040, 0x7fc0])),
        raw(new Uint8Array([0, 1])),
        raw(new Uint8Array([200])),
      ]),
    );
    await using file = await readSafetensors(path);
    expect(file.names).toEqual(['f64', 'i64', 'i32', 'f16', 'bf16', 'bool', 'scalar', 'empty']);
    expect(file.info('empty')).toMatchObject({ dtype: 'F32', shape: [0, 3] });
    expect([...(await file.read('f64'))]).toEqual([1.5, -2]);
    expect([...(await file.read('i64'))]).toEqual([-7, 2 ** 40]);
    expect([...(await file.readIntegers('i32'))]).toEqual([-5]);
    // The halves of IEEE 754's own examples: 1, -2, the nearest to 1/3, the smallest, the largest, infinity, NaN.
    expect([...(await file.read('f16'))]).toEqual([1, -2, 0.333251953125, 2 ** -24, 65504, Number.POSITIVE_INFINITY, Number.NaN]);
    expect([...(await file.read('bf16'))]).toEqual([1, -3, Number.NaN]);
    expect([...(await file.readIntegers('bool'))]).toEqual([0, 1]);
    expect([...(await file.read('scalar'))]).toEqual([200]);
    expect(await file.read('empty')).toHaveLength(0);
    await expect(file.readIntegers('f16')).rejects.toThrow("tensor 'f16' is F16, expected integers");
    await expect(file.readIntegers('i64')).rejects.toThrow('leaves the range of int32');
    await expect(file.read('absent')).rejects.toThrow(`${path}: has no tensor 'absent'`);
  });

  test('says what is wrong with a file', async () => {
    expect(await messageOf(join(folder, 'absent'))).toContain('no such file');
    expect(await messageOf(folder)).toContain('is a folder');

    const short = newPath();
    writeFileSync(short, 'abc');
    expect(await messageOf(short)).toContain('3 bytes is too short');

    const huge = newPath();
    writeFileSync(huge, Buffer.from('ffffffffffffff7f00', 'hex'));
    expect(await messageOf(huge)).toContain('expected at most 100000000');

    const cut = writeRaw({ x: f32(0, 8) }, 8);
    truncateSync(cut, 20);
    expect(await messageOf(cut)).toContain('too short for its header');

    expect(await messageOf(writeRaw('{"x":', 0))).toContain('not valid JSON');
    expect(await messageOf(writeRaw('[]', 0))).toContain('not an object');
    expect(await messageOf(writeRaw({ x: 3 }, 0))).toContain("tensor 'x' is not described by an object");
    expect(await messageOf(writeRaw({ x: { ...f32(0, 8), dtype: 'F31' } }, 8))).toContain('has dtype "F31", expected one of F64');
    expect(await messageOf(writeRaw({ x: { ...f32(0, 8), shape: [-2] } }, 8))).toContain('has shape [-2]');
    expect(await messageOf(writeRaw({ x: { ...f32(0, 8), shape: [2 ** 40, 2 ** 40] } }, 8))).toContain('data_offsets span 8');
    expect(await messageOf(writeRaw({ x: { ...f32(0, 8), data_offsets: [8, 0] } }, 8))).toContain('expected [start, end]');
    expect(await messageOf(writeRaw({ x: { ...f32(0, 8), shape: [3] } }, 8))).toContain(
      'F32 [3] takes 12 bytes, but its data_offsets span 8',
    );
    expect(await messageOf(writeRaw({ x: f32(0, 8), y: f32(4, 12) }, 12))).toContain(
      "tensor 'y' starts at byte 4 of the values, expected 8",
    );
    expect(await messageOf(writeRaw({ x: f32(0, 8), y: f32(16, 24) }, 24))).toContain('must lie end to end');
    expect(await messageOf(writeRaw({ x: f32(0, 8) }, 7))).toContain(
      'holds 7 bytes of values, but its header describes 8; it may have been cut short',
    );
    expect(await messageOf(writeRaw({ x: f32(0, 8) }, 9))).toContain('holds 9 bytes');
  });

  test('refuses a key that comes twice, wherever it stands and however it is written', async () => {
    const x = JSON.stringify(f32(0, 8));
    expect(await messageOf(writeRaw(`{"x":${x},"\\u0078":${x}}`, 8))).toContain("the key 'x' twice");
    expect(await messageOf(writeRaw(`{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"shape":[2]}}`, 8))).toContain(
      "the key 'shape' twice",
    );
    const file = await readSafetensors(
      writeRaw({ 'a"b\\': f32(0, 4), dtype: f32(4, 8), '{"x":': f32(8, 12), __proto__x: f32(12, 16) }, 16),
    );
    expect(file.names).toEqual(['a"b\\', 'dtype', '{"x":', '__proto__x']);
    await file.close();
  });

  test('a header with strings of millions of characters, escaped ones too', async () => {
    for (const text of ['x'.repeat(10_000_000), '"'.repeat(5_000_000)]) {
      const header = JSON.stringify({ __metadata__: { text }, x: f32(0, 8) });
      await using file = await readSafetensors(writeRaw(header, 8));
      expect(file.metadata.text.length).toBe(text.length);
      expect(await messageOf(writeRaw(`${header.slice(0, -1)},"x":3}`, 8))).toContain("the key 'x' twice");
    }
  });
});

describe('a header that is not right is refused, and nothing is read that the file does not have', () => {
  const size = 16;
  const layout = () => ({ x: f32(0, 8), y: f32(8, 12), z: f32(12, 16) });
  /** What a header of so many bytes, as its length says, gives. */
  const refusal = async (header: unknown, lengthOf = (bytes: number) => BigInt(bytes)) => {
    const path = writeRaw(header, size);
    const bytes = readFileSync(path);
    bytes.writeBigUInt64LE(lengthOf(Number(bytes.readBigUInt64LE())));
    const file: RandomAccessFile = {
      name: path,
      size: bytes.length,
      async read(offset, length) {
        if (offset < 0 || offset + length > bytes.length) throw new Error(`reads ${length} bytes from ${offset} of ${bytes.length}`);
        return new Uint8Array(bytes.subarray(offset, offset + length));
      },
      async close() {},
    };
    const error = await readSafetensors(file).then(
      () => undefined,
      (reason: unknown) => reason as Error,
    );
    expect(error).toBeInstanceOf(InputError);
    expect(error?.message).toContain(path);
    return (error as Error).message;
  };

  const offset = fc.oneof(fc.nat(40), fc.maxSafeInteger(), fc.double(), fc.constantFrom('0', null, true, [], {}, 2 ** 53, 1e300));
  test('any one offset', async () => {
    const name = fc.constantFrom('x' as const, 'y' as const, 'z' as const);
    await fc.assert(
      fc.asyncProperty(name, fc.nat(1), offset, async (tensor, end, value) => {
        const header = layout();
        fc.pre(header[tensor].data_offsets[end] !== value);
        header[tensor].data_offsets[end] = value as number;
        // Named where one is at fault; where two do not fit, one of the two.
        expect(await refusal(header)).toMatch(/tensor '[xyz]'|16 bytes of values/);
      }),
    );
  });

  test('any other length of the header', async () => {
    const length = fc.oneof(
      fc.bigInt({ min: 0n, max: 400n }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.constantFrom(2n ** 32n, 2n ** 33n, 10n ** 8n),
    );
    await fc.assert(
      fc.asyncProperty(length, async (bytes) => {
        const header = layout();
        fc.pre(bytes !== BigInt(JSON.stringify(header).length));
        await refusal(header, () => bytes);
      }),
    );
  });

  test('any shape, any number of dimensions', async () => {
    const extent = fc.oneof(fc.nat(4), fc.maxSafeInteger(), fc.constantFrom(2 ** 53, -1, 0.5, '2', null));
    await fc.assert(
      fc.asyncProperty(fc.array(extent, { maxLength: 20 }), async (shape) => {
        fc.pre(
          shape.some((value) => !Number.isSafeInteger(value) || Number(value) < 0) ||
            shape.reduce<number>((a, b) => a * Number(b), 1) !== 2,
        );
        expect(await refusal({ ...layout(), x: { ...f32(0, 8), shape } })).toContain("tensor 'x'");
      }),
    );
  });

  test('values within each other deeper than the stack', async () => {
    const nested = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    for (const key of ['dtype', 'shape', 'data_offsets', 'more']) {
      const text = JSON.stringify({ ...layout(), x: { ...f32(0, 8), [key]: '@' } }).replace('"@"', nested);
      expect(await refusal(text)).toContain('nested more than');
    }
  });

  test('more in the header than any has', async () => {
    expect(await refusal(`{"a":[${'[],'.repeat(400_000)}1]}`)).toContain('header: holds more than 1000000 values');
    const keys = Array.from({ length: 300_000 }, (_, i) => `"${i}":"v"`).join();
    expect(await refusal(`{"__metadata__":{${keys}}}`)).toContain('header: holds more than 1000000 values');
  });
});

describe('writing', () => {
  const dtypes = ['F32', 'BF16', 'F64', 'I32', 'U8'] as const;
  const tensor = fc
    .record({
      name: fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('0', '7', 'constructor', '__proto__', 'x.weight')),
      dtype: fc.constantFrom(...dtypes),
      shape: fc.array(fc.nat(4), { maxLength: 3 }),
    })
    .chain(({ name, dtype, shape }) => {
      const length = shape.reduce((a, b) => a * b, 1);
      const list = <T>(value: fc.Arbitrary<T>) => fc.array(value, { minLength: length, maxLength: length });
      const values: fc.Arbitrary<TensorToWrite['values']> =
        dtype === 'I32'
          ? list(fc.integer()).map((v) => Int32Array.from(v))
          : dtype === 'U8'
            ? list(fc.nat(255)).map((v) => Uint8Array.from(v))
            : dtype === 'F64'
              ? list(fc.double()).map((v) => Float64Array.from(v))
              : list(fc.float()).map((v) => Float32Array.from(v));
      return values.map((values): TensorToWrite => ({ name, dtype, shape, values }));
    });
  const tensors = fc
    .uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 6 })
    .filter((all) => all.every(({ name }) => name !== '__metadata__'));

  test('what was written is read again', async () => {
    const path = newPath();
    await fc.assert(
      fc.asyncProperty(tensors, fc.boolean(), async (all, lazily) => {
        await writeSafetensors(path, lazily ? all.map((t) => ({ ...t, values: async () => t.values as Float32Array })) : all, {
          format: 'pt',
        });
        await using file = await readSafetensors(path);
        expect(file.metadata).toEqual({ format: 'pt' });
        expect([...file.names].sort()).toEqual(all.map(({ name }) => name).sort());
        for (const { name, dtype, shape, values } of all) {
          expect(file.info(name)).toMatchObject({ dtype, shape });
          const expected =
            dtype === 'BF16' ? new Uint8Array(toBfloat16(values as Float32Array).buffer) : new Uint8Array((values as Float32Array).buffer);
          expect(await file.readRaw(name)).toEqual(expected);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('lies aligned, in the order given, and identically each time', async () => {
    const all: TensorToWrite[] = [
      { name: 'b', dtype: 'U8', shape: [3], values: new Uint8Array(3) },
      { name: 'z', dtype: 'F32', shape: [2], values: new Float32Array(2) },
      { name: 'a', dtype: 'F32', shape: [1], values: new Float32Array(1) },
    ];
    const [first, second] = [newPath(), newPath()];
    await writeSafetensors(first, all);
    await writeSafetensors(second, all);
    expect(readFileSync(first).equals(readFileSync(second))).toBe(true);
    expect(Number(readFileSync(first).readBigUInt64LE()) % 8).toBe(0);
    await using file = await readSafetensors(first);
    expect(file.names).toEqual(['z', 'a', 'b']);
  });

  test('rounds to bfloat16 to nearest, ties to even', () => {
    const bits = (...words: number[]) => new Float32Array(Uint32Array.from(words).buffer);
    expect([...toBfloat16(bits(0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0xbf808001, 0x7f7fffff, 0x7f800001, 0x00000000))]).toEqual([
      0x3f80, 0x3f82, 0x3f81, 0x3f80, 0xbf81, 0x7f80, 0x7fc0, 0,
    ]);
  });

  test('leaves nothing behind when it fails, and the old file as it was', async () => {
    const path = newPath();
    await writeSafetensors(path, [{ name: 'x', dtype: 'F32', shape: [1], values: new Float32Array([1]) }]);
    const before = readFileSync(path);
    const count = readdirSync(folder).length;
    const broken = () => Promise.reject(new Error('no values'));
    await expect(writeSafetensors(path, [{ name: 'x', dtype: 'F32', shape: [1], values: broken }])).rejects.toThrow('no values');
    await expect(writeSafetensors(path, [{ name: 'x', dtype: 'F32', shape: [2], values: new Float32Array(1) }])).rejects.toThrow(
      'got 1 values',
    );
    await expect(
      writeSafetensors(
        path,
        [1, 2].map(() => ({ name: 'x', dtype: 'F32', shape: [1], values: new Float32Array(1) })),
      ),
    ).rejects.toThrow("tensor 'x' cannot be written twice");
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(readdirSync(folder)).toHaveLength(count);
    await expect(writeSafetensors(join(path, 'inside', 'x'), [])).rejects.toThrow(InputError);
  });
});

test('a damaged file gives an InputError or other values, never a crash', async () => {
  const path = newPath();
  const good = newPath();
  await writeSafetensors(
    good,
    ['embedding', 'layer.0.weight', 'layer.0.bias'].map((name) => ({
      name,
      dtype: 'F32' as const,
      shape: [4, 3],
      values: new Float32Array(12),
    })),
    { format: 'pt' },
  );
  const bytes = readFileSync(good);
  const change = fc.record({ at: fc.nat(bytes.length - 1), byte: fc.nat(255) });
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 8 }), fc.option(fc.nat(bytes.length), { freq: 4 }), async (changes, length) => {
      const damaged = Buffer.from(bytes);
      for (const { at, byte } of changes) damaged[at] = byte;
      writeFileSync(path, damaged.subarray(0, length ?? bytes.length));
      try {
        await using file = await readSafetensors(path);
        for (const name of file.names) expect((await file.readRaw(name)).length).toBeLessThanOrEqual(bytes.length);
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        expect(error.message).not.toContain('\n');
        refused++;
      }
    }),
    { numRuns: 400 },
  );
  expect(refused).toBeGreaterThan(0);
});

test('float16 is the nearest there is, ties to even, and what it does not hold is refused', async () => {
  // Every number of the format, the middles between neighbors, and a bit above and below each.
  const all = Uint16Array.from({ length: 0x7c00 }, (_, bits) => bits);
  const path = newPath();
  writeFileSync(path, readFileSync(writeRaw({ x: { dtype: 'F16', shape: [all.length], data_offsets: [0, 2 * all.length] } }, 0)));
  writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.from(all.buffer)]));
  await using file = await readSafetensors(path);
  const values = await file.read('x');
  expect(toFloat16(values)).toEqual(all);
  expect(toFloat16(values.map((value) => -value))).toEqual(all.map((bits) => bits | 0x8000));
  const middles = values.slice(1).map((value, i) => (value + values[i]) / 2);
  expect(toFloat16(middles)).toEqual(Uint16Array.from(middles, (_, i) => (i % 2 === 0 ? i : i + 1)));
  expect(toFloat16(middles.map((value) => value * (1 + 2 ** -20)))).toEqual(Uint16Array.from(middles, (_, i) => i + 1));
  expect([...toFloat16(Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0))]).toEqual([
    0x7e00, 0x7c00, 0xfc00, 0x8000,
  ]);
  expect(() => toFloat16(Float32Array.of(1, 65520), 'weights')).toThrow(/tensor 'weights' holds 65520, more than float16 holds/);
  expect([...toFloat16(Float32Array.of(65519))]).toEqual([0x7bff]);
});
