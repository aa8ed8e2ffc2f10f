import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Backend } from '../../src/backend/backend.ts';
import { ReferenceBackend } from '../../src/backend/reference.ts';
import { ShapeError } from '../../src/errors.ts';
import { candidates, describeOnEach } from './backends.ts';
import { watchBlocks } from './blocks.ts';

describeOnEach(candidates, ({ label, create }) => {
  let backend: Backend;
  beforeAll(() => {
    backend = create();
  });
  afterAll(() => backend?.dispose());
  const f32 = (name: string, ...shape: number[]) => backend.zeros(name, shape);
  const i32 = (name: string, ...shape: number[]) => backend.zeros(name, shape, 'i32');

  test('values come back as they went in, and arrays may be reused at once', async () => {
    const values = Float32Array.of(1.5, -2, Number.POSITIVE_INFINITY, 0);
    const tensor = backend.tensor('t', [2, 2], 'f32', values);
    values.fill(9);
    expect(await backend.read(tensor)).toEqual(Float32Array.of(1.5, -2, Number.POSITIVE_INFINITY, 0));
    backend.write(tensor, [1, 2, 3, 4]);
    const before = backend.readNow(tensor);
    backend.fill({ output: tensor, value: 7 });
    expect(before).toEqual(Float32Array.of(1, 2, 3, 4));
    expect(await backend.read(tensor)).toEqual(new Float32Array(4).fill(7));
    const integers = backend.tensor('i', [3], 'i32', [2 ** 31 - 1, -(2 ** 31), 5]);
    expect(await backend.readIntegers(integers)).toEqual(Int32Array.of(2 ** 31 - 1, -(2 ** 31), 5));
  });

  test('operations, writes and reads keep the order of the calls', async () => {
    const tensor = backend.tensor('t', [1], 'f32', [1]);
    const one = backend.tensor('one', [1], 'f32', [1]);
    const reads = [];
    for (let i = 0; i < 20; i++) {
      backend.add({ a: tensor, b: one, output: tensor });
      if (i === 9) backend.write(tensor, [100]);
      reads.push(backend.read(tensor));
    }
    const values = (await Promise.all(reads)).map(([value]) => value);
    expect(values).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110]);
  });

  test('an empty tensor can be made, written and read', async () => {
    const tensor = backend.tensor('empty', [0, 4], 'f32', []);
    expect(await backend.read(tensor)).toEqual(new Float32Array(0));
  });

  test('a tensor that cannot take its values leaves no memory behind', () => {
    using other = create();
    const watch = watchBlocks(other);
    expect(() => other.tensor('t', [3], 'f32', [1, 2])).toThrow("write: 't' f32 [3] takes 3 values, got 2");
    expect(watch).toEqual({ held: 0, largest: 12 });
  });

  test.skipIf(label === 'reference')('values on their way do not pile up behind the list that copies them', async () => {
    await backend.finish();
    const submit = vi.spyOn(backend, 'submit');
    const tensor = backend.tensor('t', [25_000]);
    const values = new Float32Array(25_000).fill(3);
    for (let i = 0; i < 31; i++) backend.write(tensor, values);
    expect(submit.mock.calls).toHaveLength(2); // of 100 kB each: at every megabyte
    submit.mockRestore();
    expect(await backend.read(tensor)).toEqual(values);
  });

  test('views share memory and have bounds', async () => {
    const tensor = backend.tensor(
      't',
      [4, 3],
      'f32',
      Float32Array.from({ length: 12 }, (_, i) => i),
    );
    const row = tensor.view([3], 6);
    expect(await backend.read(row)).toEqual(Float32Array.of(6, 7, 8));
    backend.fill({ output: row.view([2], 1), value: -1 });
    expect([...(await backend.read(tensor))].slice(5, 10)).toEqual([5, 6, -1, -1, 9]);
    row.dispose();
    expect(await backend.read(tensor)).toHaveLength(12);
    expect(() => tensor.view([3], 10)).toThrow(/'t' \[4,3\].*\[3\] at element 10/);
    expect(() => row.view([4])).toThrow(RangeError);
    expect(() => tensor.view([1], -1)).toThrow(RangeError);
    expect(() => tensor.view([1], 0.5)).toThrow(RangeError);
    expect(() => tensor.view([-2, 3])).toThrow("'t': extent -2 in [-2,3] is not a size");
    expect(() => tensor.view([Number.NaN])).toThrow('is not a size');
  });

  describe('mistakes are thrown at the call, with names', () => {
    // Each call and what its message must say.
    const placed = (rowStride: number, columnStride: number) =>
      backend.place({
        ...{ input: backend.lend('bytes', new Uint8Array(12)), type: 'BF16', output: f32('c', 6) },
        ...{ rows: 2, columns: 3, offset: 0, rowStride, columnStride },
      });
    const mistakes: [string, () => void, RegExp][] = [
      ['values placed past the end', () => placed(4, 1), /^place: reaches element 6 of 'c' f32 \[6\]$/],
      ['values placed on each other', () => placed(2, 1), /^place: with strides 2 and 1, values of \[2, 3\] fall on each other$/],
      ['strides that are no sizes', () => placed(-1, 1), /^place: \[2,3,0,-1,1\] are not all sizes$/],
      [
        'size',
        () => backend.add({ a: f32('a', 4), b: f32('b', 5), output: f32('c', 4) }),
        /^add: b 'b' f32 \[5\] has 5 elements, expected 4$/,
      ],
      ['dtype', () => backend.gelu({ input: i32('words', 4), output: f32('c', 4) }), /^gelu: input 'words' i32 \[4\] must be f32$/],
      ['dtype of a copy', () => backend.copy({ input: i32('a', 4), output: f32('b', 4) }), /^copy: output 'b'.*must be i32$/],
      ['write', () => backend.write(f32('w', 2, 2), [1, 2, 3]), /^write: 'w' f32 \[2,2\] takes 4 values, got 3$/],
      ['extent', () => backend.tensor('bad', [2, -1]), /'bad': extent -1 in \[2,-1\]/],
      ['fractional extent', () => backend.tensor('bad', [1.5]), /extent 1.5/],
      ['too large', () => backend.tensor('huge', [2 ** 30, 2 ** 30]), /'huge'.*too large/],
      [
        'linear',
        () => backend.linear({ input: f32('x', 3, 5), weight: f32('w', 5, 6), output: f32('y', 3, 5) }),
        /^linear: input 'x' f32 \[3,5\] is not made of rows of 6$/,
      ],
      [
        'linear: weight',
        () => backend.linear({ input: f32('x', 3, 4), weight: f32('w', 20), output: f32('y', 3, 5) }),
        /^linear: weight 'w' f32 \[20\] must be \[outputs, inputs\]$/,
      ],
      [
        'linear: accumulate with GELU',
        () =>
          backend.linear({ input: f32('x', 3, 4), weight: f32('w', 5, 4), output: f32('y', 3, 5), activation: 'gelu', accumulate: true }),
        /^linear: accumulate and an activation/,
      ],
      [
        'linear: preActivation without GELU',
        () => backend.linear({ input: f32('x', 3, 4), weight: f32('w', 5, 4), output: f32('y', 3, 5), preActivation: f32('z', 3, 5) }),
        /^linear: preActivation/,
      ],
      [
        'fff: nodes',
        () => backend.fff({ input: f32('x', 2, 4), nodes: f32('n', 7, 8), bias: f32('b', 7), trees: 1, depth: 3, output: f32('y', 2, 4) }),
        /^fff: nodes 'n' f32 \[7,8\] must be \[15, 2 width\] for 1 trees of depth 3$/,
      ],
      [
        'fff: depth',
        () => backend.fff({ input: f32('x', 2, 4), nodes: f32('n', 7, 8), bias: f32('b', 7), trees: 1, depth: 25, output: f32('y', 2, 4) }),
        /^fff: depth 25/,
      ],
      [
        'fff: leaf width',
        () => {
          const shape = { trees: 1, depth: 1, leafWidth: 0 };
          backend.fff({ input: f32('x', 2, 4), nodes: f32('n', 1, 8), bias: f32('b', 1), ...shape, output: f32('y', 2, 4) });
        },
        /^fff: leafWidth 0 is not a count$/,
      ],
      [
        'fff: nodes of another leaf width',
        () => {
          const shape = { trees: 2, depth: 3, leafWidth: 4 };
          backend.fff({ input: f32('x', 2, 4), nodes: f32('n', 30, 8), bias: f32('b', 30), ...shape, output: f32('y', 2, 4) });
        },
        /^fff: nodes 'n' f32 \[30,8\] must be \[78, 2 width\] for 2 trees of depth 3 with 4 neurons a leaf$/,
      ],
      [
        'fff: logits of another leaf width',
        () => {
          const shape = { trees: 1, depth: 1, leafWidth: 3 };
          const [output, logits] = [f32('y', 2, 4), f32('z', 2, 1, 2)];
          backend.fff({ input: f32('x', 2, 4), nodes: f32('n', 7, 8), bias: f32('b', 7), ...shape, output, logits });
        },
        /^fff: logits 'z' f32 \[2,1,2\].* 8/,
      ],
      [
        'fffBackward: half of the gradients',
        () =>
          backend.fffBackward({
            input: f32('x', 2, 4),
            nodes: f32('n', 3, 8),
            trees: 1,
            depth: 1,
            visited: i32('v', 2, 1, 2),
            logits: f32('z', 2, 1, 2),
            gradOutput: f32('dy', 2, 4),
            gradInput: f32('dx', 2, 4),
            gradNodes: f32('dn', 3, 8),
          }),
        /^fffBackward: gradNodes, gradBias and touched/,
      ],
      [
        'attention out of its tensor',
        () => {
          const operand = { tensor: f32('qkv', 2, 3, 4), offset: 1, batchStride: 12, rowStride: 4, headStride: 4 };
          const shape = { batch: 2, heads: 1, headSize: 4, queryLength: 3, keyLength: 3 };
          backend.attention({ query: operand, key: operand, value: operand, ...shape, output: f32('y', 6, 4) });
        },
        /^attention: an operand reaches element 25 of 'qkv' f32 \[2,3,4\]$/,
      ],
      [
        'dropout',
        () => backend.dropout({ input: f32('x', 4), output: f32('y', 4), dropout: { probability: 1, key: 0 } }),
        /^dropout: .*1 is not in/,
      ],
      [
        'pool',
        () => backend.pool({ input: f32('x', 6, 4), batch: 2, length: 4, kind: 'mean', output: f32('y', 2, 4) }),
        /^pool: input 'x'/,
      ],
      [
        'poolBackward max without selected',
        () => backend.poolBackward({ gradOutput: f32('dy', 2, 4), gradInput: f32('dx', 6, 4), batch: 2, length: 3, kind: 'max' }),
        /^poolBackward: kind 'max' needs selected$/,
      ],
      [
        'a precision that products of tensors do not have',
        () => backend.linear({ input: f32('x', 2, 3), weight: f32('w', 4, 3), output: f32('y', 2, 4), precision: 'i8' as 'bf16' }),
        /^linear: precision 'i8' is none of f32, bf16$/,
      ],
      [
        'a precision that attention does not have',
        () => {
          const operand = { tensor: f32('qkv', 2, 12), offset: 0, batchStride: 0, rowStride: 12, headStride: 4 };
          const shape = { batch: 1, heads: 1, headSize: 4, queryLength: 2, keyLength: 2, precision: 'i8' as 'bf16' };
          backend.attention({ query: operand, key: operand, value: operand, ...shape, output: f32('y', 2, 4) });
        },
        /^attention: precision 'i8' is none of f32, bf16$/,
      ],
      [
        'embedding',
        () => backend.embedding({ table: f32('t', 5, 4), indices: f32('i', 2), output: f32('y', 2, 4) }),
        /^embedding: indices 'i' f32 \[2\] must be i32$/,
      ],
      [
        'crossEntropy',
        () => backend.crossEntropy({ logits: f32('z', 7), labels: i32('l', 2), losses: f32('y', 2) }),
        /^crossEntropy: logits 'z'.* 2 labels$/,
      ],
      [
        'adamw',
        () => {
          const tensors = { parameter: f32('p', 4), gradient: f32('g', 4), mean: f32('m', 4), variance: f32('v', 4) };
          backend.adamw({ ...tensors, learningRate: 1, beta1: 0.9, beta2: 0.98, epsilon: 1e-12, weightDecay: 0, step: 0 });
        },
        /^adamw: step 0/,
      ],
      [
        'adamw: a factor of no elements',
        () => {
          const tensors = { parameter: f32('p', 4), gradient: f32('g', 4), mean: f32('m', 4), variance: f32('v', 4) };
          const numbers = { learningRate: 1, beta1: 0.9, beta2: 0.98, epsilon: 1e-12, weightDecay: 0, step: 1 };
          backend.adamw({ ...tensors, gradientScale: f32('s', 0), ...numbers });
        },
        /^adamw: gradientScale 's' f32 \[0\] has no elements, expected a factor/,
      ],
      // What only plain JavaScript can leave out.
      ['no output', () => backend.gelu({ input: f32('x', 4) } as never), /^gelu: output is missing: hand in a tensor/],
      ['no input', () => backend.gelu({ output: f32('y', 4) } as never), /^gelu: input is missing/],
      ['no gradInput', () => backend.tanhBackward({ output: f32('y', 4), gradOutput: f32('dy', 4) } as never), /: gradInput is missing/],
      [
        'values instead of a tensor',
        () => backend.add({ a: f32('a', 4), b: new Float32Array(4) as never, output: f32('c', 4) }),
        /^add: b is no tensor \(\[object Float32Array\]\): hand in/,
      ],
      [
        'fff without bias',
        () => backend.fff({ input: f32('x', 2, 4), nodes: f32('n', 3, 8), trees: 1, depth: 1, output: f32('y', 2, 4) } as never),
        /^fff: bias is missing/,
      ],
      [
        'fffBackward without visited',
        () => {
          const rows = { input: f32('x', 2, 4), gradOutput: f32('dy', 2, 4), gradInput: f32('dx', 2, 4) };
          backend.fffBackward({ ...rows, nodes: f32('n', 3, 8), trees: 1, depth: 1, logits: f32('z', 2, 1, 2) } as never);
        },
        /^fffBackward: visited is missing/,
      ],
      [
        'linear without weight',
        () => backend.linear({ input: f32('x', 2, 4), output: f32('y', 2, 4) } as never),
        /^linear: weight is missing/,
      ],
      [
        'linear with a bias that is none',
        () => backend.linear({ input: f32('x', 2, 4), weight: f32('w', 3, 4), bias: true as never, output: f32('y', 2, 3) }),
        /^linear: bias is no tensor/,
      ],
      ['no flags', () => backend.clearRows({ gradient: f32('g', 2, 4) } as never), /^clearRows: touched is missing/],
      [
        'attention over more keys than can be counted',
        () => {
          const operand = { tensor: f32('qkv', 12), offset: 0, batchStride: 0, rowStride: 0, headStride: 0 };
          const shape = { batch: 1, heads: 1, headSize: 3, queryLength: 1, keyLength: 2 ** 60 };
          backend.attention({ query: operand, key: operand, value: operand, ...shape, output: f32('y', 3) });
        },
        /^attention: batch, heads, headSize and lengths must be counts, got \d+$/,
      ],
      ...(
        [
          [-2, 3],
          [1.5, 3],
          [2, 1.5],
          [2, 0],
        ] as const
      ).map(([batch, length]): (typeof mistakes)[number] => [
        `pool of ${batch} sequences of ${length}`,
        () => backend.pool({ input: f32('x', 0), batch, length, kind: 'first', output: f32('y', 0) }),
        /^pool: batch \S+ and length \S+ must be counts, the length at least 1$/,
      ]),
      [
        'an activation that is none',
        () => backend.linear({ input: f32('x', 2, 4), weight: f32('w', 3, 4), output: f32('y', 2, 3), activation: 'relu' as never }),
        /^linear: activation 'relu' is none of none, gelu$/,
      ],
      [
        'flags of no row',
        () => backend.sumOfSquares({ input: f32('g', 2, 4), touched: i32('flags', 0), output: f32('y', 1) }),
        /^sumOfSquares: 'g' f32 \[2,4\] is not made of 0 rows$/,
      ],
      ['more than int32 holds', () => backend.fill({ output: i32('i', 2), value: 3e9 }), /^fill: value 3000000000 is no 32-bit integer$/],
      ['a NaN as an integer', () => backend.fill({ output: i32('i', 2), value: Number.NaN }), /^fill: value NaN is no 32-bit integer$/],
      [
        'a label that is none',
        () => backend.crossEntropy({ logits: f32('z', 2, 3), labels: i32('l', 2), losses: f32('y', 2), ignoreIndex: 0.5 }),
        /^crossEntropy: ignoreIndex 0\.5 is no 32-bit integer$/,
      ],
      [
        'attentionBackward without logSumExp',
        () => {
          const operand = { tensor: f32('qkv', 2, 12), offset: 0, batchStride: 0, rowStride: 12, headStride: 4 };
          const shape = { batch: 1, heads: 1, headSize: 4, queryLength: 2, keyLength: 2 };
          const gradients = { gradQuery: operand, gradKey: operand, gradValue: operand, gradOutput: f32('dy', 2, 4) };
          backend.attentionBackward({
            query: operand,
            key: operand,
            value: operand,
            ...shape,
            output: f32('y', 2, 4),
            ...gradients,
          } as never);
        },
        /^attentionBackward: logSumExp is missing/,
      ],
    ];
    test.each(mistakes)('%s', async (_, call, message) => {
      expect(call).toThrow(ShapeError);
      expect(call).toThrow(message);
      await backend.finish();
    });
  });

  test('a disposed tensor is refused by its name, by operations, reads and writes', async () => {
    const tensor = f32('gone', 4);
    const view = tensor.view([2], 1, 'part of it');
    const other = f32('other', 4);
    backend.copy({ input: tensor, output: other });
    tensor.dispose();
    tensor.dispose();
    expect(() => backend.copy({ input: tensor, output: other })).toThrow("copy: tensor 'gone' was disposed");
    expect(() => backend.fill({ output: view, value: 1 })).toThrow("fill: tensor 'part of it' was disposed");
    expect(() => backend.write(tensor, [1, 2, 3, 4])).toThrow("write: tensor 'gone' was disposed");
    expect(() => backend.readNow(tensor)).toThrow("tensor 'gone' was disposed");
    await expect(backend.read(tensor)).rejects.toThrow("read: tensor 'gone' was disposed");
    expect(await backend.read(other)).toEqual(new Float32Array(4));
  });

  test('using disposes', () => {
    const kept = (() => {
      using tensor = f32('scoped', 4);
      return tensor;
    })();
    expect(kept.disposed).toBe(true);
  });

  test('tensors of another backend are refused', async () => {
    using other = new ReferenceBackend();
    const foreign = other.zeros('foreign', [4]);
    expect(() => backend.gelu({ input: foreign, output: f32('y', 4) })).toThrow("gelu: 'foreign' f32 [4] belongs to another backend");
    await expect(backend.read(foreign)).rejects.toThrow('belongs to another backend');
  });

  test('after dispose every tensor is refused, and none can be made', () => {
    const ended = create();
    const tensor = ended.zeros('late', [4]);
    ended.dispose();
    expect(() => ended.fill({ output: tensor, value: 1 })).toThrow("tensor 'late' was disposed");
    expect(() => ended.tensor('later', [4])).toThrow('disposed');
    ended.dispose();
  });

  describe('arena', () => {
    /** Counts what the arena takes from the backend. */
    function counting() {
      const counts = { allocated: 0, released: 0 };
      const counted = create();
      const { allocate, release } = counted;
      counted.allocate = (bytes) => {
        counts.allocated++;
        return allocate.call(counted, bytes);
      };
      counted.release = (storage) => {
        counts.released++;
        release.call(counted, storage);
      };
      return { counts, counted };
    }

    test('a second equal or smaller run allocates nothing', () => {
      const { counts, counted } = counting();
      const arena = new Arena(counted);
      const run = (rows: number) => {
        for (let i = 0; i < 5; i++) arena.tensor(`t${i}`, [rows, i + 1]);
        arena.tensor('indices', [rows], 'i32');
        arena.reset();
      };
      run(8);
      expect(counts).toEqual({ allocated: 6, released: 0 });
      const bytes = arena.bytes;
      run(8);
      run(3);
      expect(counts).toEqual({ allocated: 6, released: 0 });
      expect(arena.bytes).toBe(bytes);
      run(9);
      expect(arena.bytes).toBeGreaterThan(bytes);
      expect(counts.allocated - counts.released).toBe(6);
      arena.dispose();
      expect(counts.allocated).toBe(counts.released);
      expect(arena.bytes).toBe(0);
      counted.dispose();
    });

    test('release hands the scratch after a mark out again, in queue order', async () => {
      const { counts, counted } = counting();
      using arena = new Arena(counted);
      const kept = arena.tensor('kept', [4]);
      counted.fill({ output: kept, value: 0 });
      for (let i = 1; i <= 10; i++) {
        const mark = arena.mark();
        const scratch = arena.tensor('scratch', [4]);
        counted.fill({ output: scratch, value: i });
        counted.add({ a: kept, b: scratch, output: kept });
        arena.release(mark);
      }
      expect(counts.allocated).toBe(2);
      expect(await counted.read(kept)).toEqual(new Float32Array(4).fill(55));
      counted.dispose();
    });

    test('after a request for which there was no memory others are served', async () => {
      const { counted } = counting();
      using arena = new Arena(counted);
      arena.tensor('small', [4]);
      arena.reset();
      const { allocate } = counted;
      counted.allocate = () => {
        throw new Error('no memory');
      };
      expect(() => arena.tensor('large', [4000])).toThrow('no memory');
      counted.allocate = allocate;
      arena.reset();
      const small = arena.tensor('small', [4]);
      counted.fill({ output: small, value: 3 });
      expect(await counted.read(small)).toEqual(new Float32Array(4).fill(3));
    });

    test('a slot that grew is refused by its old name', () => {
      const arena = new Arena(backend);
      const small = arena.tensor('small', [4]);
      arena.reset();
      arena.tensor('large', [4000]);
      expect(() => backend.fill({ output: small, value: 1 })).toThrow("tensor 'small' was disposed");
      arena.dispose();
    });
  });
});
