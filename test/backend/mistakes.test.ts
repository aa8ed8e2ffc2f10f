/** Mistakes are thrown at the call, with names. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import type { StridedOperand } from '../../src/backend/operations/operation.ts';
import type { Tensor } from '../../src/backend/tensor.ts';
import { ShapeError } from '../../src/errors.ts';
import { candidates, describeOnEach } from './backends.ts';

describeOnEach(candidates, ({ create }) => {
  let device: Device;
  beforeAll(() => {
    device = create();
  });
  afterAll(() => device?.dispose());
  const f32 = (name: string, ...shape: number[]) => device.zeros(name, shape);
  const i32 = (name: string, ...shape: number[]) => device.zeros(name, shape, 'i32');

  // Each call and what its message must say.
  const placed = (rowStride: number, columnStride: number) =>
    device.stridedCopy({
      ...{ input: device.borrow('bytes', new Uint8Array(12)), type: 'BF16', output: f32('c', 6) },
      ...{ rows: 2, columns: 3, offset: 0, rowStride, columnStride },
    });
  /** Two sequences of three tokens, two heads of two; query, key and value, and their gradients, are parts of one tensor each. */
  type Part = (i: number) => StridedOperand;
  const attentionGradients = (...places: ((part: Part, read: Part) => StridedOperand)[]) => {
    const parts =
      (tensor: Tensor): Part =>
      (i) => ({ tensor, offset: 4 * i, batchStride: 36, rowStride: 12, headStride: 2 });
    const [read, part] = [parts(f32('qkv', 2, 3, 12)), parts(f32('gradients', 2, 3, 12))];
    const [gradQuery, gradKey, gradValue] = places.map((place) => place(part, read));
    const shape = { batch: 2, heads: 2, headSize: 2, queryLength: 3, keyLength: 3 };
    const kept = { output: f32('y', 6, 4), logSumExp: f32('kept', 6, 2), gradOutput: f32('dy', 6, 4) };
    device.attentionBackward({ query: read(0), key: read(1), value: read(2), ...kept, gradQuery, gradKey, gradValue, ...shape });
  };
  const mistakes: [string, () => void, RegExp][] = [
    ['values placed past the end', () => placed(4, 1), /^stridedCopy: reaches element 6 of 'c' f32 \[6\]$/],
    ['values placed on each other', () => placed(2, 1), /^stridedCopy: with strides 2 and 1, values of \[2, 3\] fall on each other$/],
    ['strides that are no sizes', () => placed(-1, 1), /^stridedCopy: \[2,3,0,-1,1\] are not all sizes$/],
    [
      'size',
      () => device.add({ a: f32('a', 4), b: f32('b', 5), output: f32('c', 4) }),
      /^add: b 'b' f32 \[5\] has 5 elements, expected 4$/,
    ],
    ['dtype', () => device.gelu({ input: i32('words', 4), output: f32('c', 4) }), /^gelu: input 'words' i32 \[4\] must be f32$/],
    ['dtype of a copy', () => device.copy({ input: i32('a', 4), output: f32('b', 4) }), /^copy: output 'b'.*must be i32$/],
    ['write', () => device.write(f32('w', 2, 2), [1, 2, 3]), /^write: 'w' f32 \[2,2\] takes 4 values, got 3$/],
    ['extent', () => device.tensor('bad', [2, -1]), /'bad': extent -1 in \[2,-1\]/],
    ['fractional extent', () => device.tensor('bad', [1.5]), /extent 1.5/],
    ['too large', () => device.tensor('huge', [2 ** 30, 2 ** 30]), /'huge'.*too large/],
    [
      'linear',
      () => device.linear({ input: f32('x', 3, 5), weight: f32('w', 5, 6), output: f32('y', 3, 5) }),
      /^linear: input 'x' f32 \[3,5\] is not made of rows of 6$/,
    ],
    [
      'linear: weight',
      () => device.linear({ input: f32('x', 3, 4), weight: f32('w', 20), output: f32('y', 3, 5) }),
      /^linear: weight 'w' f32 \[20\] must be \[outputs, inputs\]$/,
    ],
    [
      'linear: accumulate with GELU',
      () => device.linear({ input: f32('x', 3, 4), weight: f32('w', 5, 4), output: f32('y', 3, 5), activation: 'gelu', accumulate: true }),
      /^linear: accumulate and an activation/,
    ],
    [
      'linear: preActivation without GELU',
      () => device.linear({ input: f32('x', 3, 4), weight: f32('w', 5, 4), output: f32('y', 3, 5), preActivation: f32('z', 3, 5) }),
      /^linear: preActivation/,
    ],
    [
      'fff: nodes',
      () => device.fff({ input: f32('x', 2, 4), nodes: f32('n', 7, 8), bias: f32('b', 7), trees: 1, depth: 3, output: f32('y', 2, 4) }),
      /^fff: nodes 'n' f32 \[7,8\] must be \[15, 2 width\] for 1 trees of depth 3$/,
    ],
    [
      'fff: depth',
      () => device.fff({ input: f32('x', 2, 4), nodes: f32('n', 7, 8), bias: f32('b', 7), trees: 1, depth: 25, output: f32('y', 2, 4) }),
      /^fff: depth 25/,
    ],
    [
      'fff: leaf width',
      () => {
        const shape = { trees: 1, depth: 1, leafWidth: 0 };
        device.fff({ input: f32('x', 2, 4), nodes: f32('n', 1, 8), bias: f32('b', 1), ...shape, output: f32('y', 2, 4) });
      },
      /^fff: leafWidth 0 is not a count$/,
    ],
    [
      'fff: nodes of another leaf width',
      () => {
        const shape = { trees: 2, depth: 3, leafWidth: 4 };
        device.fff({ input: f32('x', 2, 4), nodes: f32('n', 30, 8), bias: f32('b', 30), ...shape, output: f32('y', 2, 4) });
      },
      /^fff: nodes 'n' f32 \[30,8\] must be \[78, 2 width\] for 2 trees of depth 3 with 4 neurons a leaf$/,
    ],
    [
      'fff: logits of another leaf width',
      () => {
        const shape = { trees: 1, depth: 1, leafWidth: 3 };
        const [output, logits] = [f32('y', 2, 4), f32('z', 2, 1, 2)];
        device.fff({ input: f32('x', 2, 4), nodes: f32('n', 7, 8), bias: f32('b', 7), ...shape, output, logits });
      },
      /^fff: logits 'z' f32 \[2,1,2\].* 8/,
    ],
    [
      'fffBackward: half of the gradients',
      () =>
        device.fffBackward({
          input: f32('x', 2, 4),
          nodes: f32('n', 3, 8),
          trees: 1,
          depth: 1,
          pathNodes: i32('v', 2, 1, 2),
          logits: f32('z', 2, 1, 2),
          gradOutput: f32('dy', 2, 4),
          gradInput: f32('dx', 2, 4),
          gradNodes: f32('dn', 3, 8),
        }),
      /^fffBackward: gradNodes, gradBias and rowMask/,
    ],
    [
      'attention out of its tensor',
      () => {
        const operand = { tensor: f32('qkv', 2, 3, 4), offset: 1, batchStride: 12, rowStride: 4, headStride: 4 };
        const shape = { batch: 2, heads: 1, headSize: 4, queryLength: 3, keyLength: 3 };
        device.attention({ query: operand, key: operand, value: operand, ...shape, output: f32('y', 6, 4) });
      },
      /^attention: an operand reaches element 25 of 'qkv' f32 \[2,3,4\]$/,
    ],
    [
      'heads that cannot be shared',
      () => {
        const operand = { tensor: f32('qkv', 2, 12), offset: 0, batchStride: 0, rowStride: 12, headStride: 4 };
        const shape = { batch: 1, heads: 3, keyValueHeads: 2, headSize: 4, queryLength: 2, keyLength: 2 };
        device.attention({ query: operand, key: operand, value: operand, ...shape, output: f32('y', 2, 12) });
      },
      /^attention: 3 heads cannot share 2 heads of keys and values$/,
    ],
    [
      'sequences and a mask',
      () => {
        const operand = { tensor: f32('qkv', 2, 4), offset: 0, batchStride: 0, rowStride: 4, headStride: 4 };
        const shape = { batch: 1, heads: 1, headSize: 4, queryLength: 2, keyLength: 2 };
        const both = { sequences: i32('s', 1, 4), paddingMask: i32('m', 1, 2) };
        device.attention({ query: operand, key: operand, value: operand, ...shape, ...both, output: f32('y', 2, 4) });
      },
      /^attention: sequences and paddingMask exclude each other$/,
    ],
    [
      'columns that rows do not have',
      () => device.scatterRows({ input: f32('x', 3, 6), indices: i32('i', 3), table: f32('w', 7, 4), column: 3 }),
      /^scatterRows: columns 3 to 7 are not in rows of 6 of input 'x' f32 \[3,6\]$/,
    ],
    ...[
      { rotation: [2, 3], message: /^rotary: rotation 'r' f32 \[2,3\] has not as many sines as cosines$/ },
      { rotation: [2, 6], message: /^rotary: rotation 'r' f32 \[2,6\] is of more than a head's 4 elements$/ },
      { rotation: [3, 4], message: /^rotary: vectors reach element 24 of 'x' f32 \[2,8\]$/ },
    ].map(({ rotation, message }): [string, () => void, RegExp] => [
      `a rotation of ${rotation}`,
      () => {
        const vectors = { tensor: f32('x', 2, 8), offset: 0, batchStride: 0, rowStride: 8, headStride: 4 };
        device.rotary({ vectors, rotation: f32('r', ...rotation), rows: rotation[0], heads: 2 });
      },
      message,
    ]),
    [
      'dropout',
      () => device.dropout({ input: f32('x', 4), output: f32('y', 4), dropout: { probability: 1, key: 0 } }),
      /^dropout: .*1 is not in/,
    ],
    ['pool', () => device.pool({ input: f32('x', 6, 4), batch: 2, length: 4, kind: 'mean', output: f32('y', 2, 4) }), /^pool: input 'x'/],
    [
      'poolBackward max without selected',
      () => device.poolBackward({ gradOutput: f32('dy', 2, 4), gradInput: f32('dx', 6, 4), batch: 2, length: 3, kind: 'max' }),
      /^poolBackward: kind 'max' needs selected$/,
    ],
    [
      'a precision that products of tensors do not have',
      () => device.linear({ input: f32('x', 2, 3), weight: f32('w', 4, 3), output: f32('y', 2, 4), precision: 'i8' as 'bf16' }),
      /^linear: precision 'i8' is none of f32, bf16$/,
    ],
    [
      'a precision that attention does not have',
      () => {
        const operand = { tensor: f32('qkv', 2, 12), offset: 0, batchStride: 0, rowStride: 12, headStride: 4 };
        const shape = { batch: 1, heads: 1, headSize: 4, queryLength: 2, keyLength: 2, precision: 'i8' as 'bf16' };
        device.attention({ query: operand, key: operand, value: operand, ...shape, output: f32('y', 2, 4) });
      },
      /^attention: precision 'i8' is none of f32, bf16$/,
    ],
    [
      'gather',
      () => device.gather({ table: f32('t', 5, 4), indices: f32('i', 2), output: f32('y', 2, 4) }),
      /^gather: indices 'i' f32 \[2\] must be i32$/,
    ],
    [
      'crossEntropy',
      () => device.crossEntropy({ logits: f32('z', 7), labels: i32('l', 2), losses: f32('y', 2) }),
      /^crossEntropy: logits 'z'.* 2 labels$/,
    ],
    [
      'adamw',
      () => {
        const tensors = { parameter: f32('p', 4), gradient: f32('g', 4), mean: f32('m', 4), variance: f32('v', 4) };
        device.adamw({ ...tensors, learningRate: 1, beta1: 0.9, beta2: 0.98, epsilon: 1e-12, weightDecay: 0, step: 0 });
      },
      /^adamw: step 0/,
    ],
    [
      'adamw: a factor of no elements',
      () => {
        const tensors = { parameter: f32('p', 4), gradient: f32('g', 4), mean: f32('m', 4), variance: f32('v', 4) };
        const numbers = { learningRate: 1, beta1: 0.9, beta2: 0.98, epsilon: 1e-12, weightDecay: 0, step: 1 };
        device.adamw({ ...tensors, gradientScale: f32('s', 0), ...numbers });
      },
      /^adamw: gradientScale 's' f32 \[0\] has no elements, expected a factor/,
    ],
    [
      'an output over an input that it may not be',
      () => {
        const x = f32('x', 3, 4);
        device.linear({ input: x, weight: f32('w', 4, 4), output: x.view([3, 4], 0, 'y') });
      },
      /^linear: output 'y' f32 \[3,4\] and input 'x' f32 \[3,4\] share memory$/,
    ],
    [
      'an output shifted over the input that it may be',
      () => {
        const x = f32('x', 6);
        device.gelu({ input: x.view([4]), output: x.view([4], 2, 'y') });
      },
      /^gelu: output 'y' f32 \[4\] and input 'x' f32 \[4\] share memory$/,
    ],
    [
      'two outputs in the same place',
      () => {
        const kept = f32('kept', 2);
        const [gamma, beta] = [f32('gamma', 4), f32('beta', 4)];
        device.layerNorm({ input: f32('x', 2, 4), gamma, beta, epsilon: 1, output: f32('y', 2, 4), mean: kept, rstd: kept });
      },
      /^layerNorm: mean 'kept' f32 \[2\] and rstd 'kept' f32 \[2\] share memory$/,
    ],
    [
      'a gradient that is added to in the place of another',
      () => {
        const dy = f32('dy', 2, 4);
        const kept = { gamma: f32('gamma', 4), mean: f32('mean', 2), rstd: f32('rstd', 2) };
        device.layerNormBackward({ input: f32('x', 2, 4), ...kept, gradOutput: dy, gradInput: dy, accumulate: true });
      },
      /^layerNormBackward: gradInput 'dy' f32 \[2,4\] and gradOutput 'dy' f32 \[2,4\] share memory$/,
    ],
    [
      'gradients of attention in one place',
      () =>
        attentionGradients(
          (part) => part(0),
          (part) => part(1),
          (part) => part(1),
        ),
      /^attentionBackward: gradKey 'gradients' f32 \[2,3,12\] and gradValue 'gradients' f32 \[2,3,12\] share elements$/,
    ],
    [
      'gradients of attention that reach into each other',
      () =>
        attentionGradients(
          (part) => part(0),
          (part) => ({ ...part(1), offset: 3 }),
          (part) => part(2),
        ),
      /^attentionBackward: gradQuery 'gradients' f32 \[2,3,12\] and gradKey 'gradients' f32 \[2,3,12\] share elements$/,
    ],
    [
      'a gradient of attention in the place of what it reads',
      () =>
        attentionGradients(
          (_, read) => read(0),
          (part) => part(1),
          (part) => part(2),
        ),
      /^attentionBackward: gradQuery 'qkv' f32 \[2,3,12\] and query 'qkv' f32 \[2,3,12\] share elements$/,
    ],
    [
      'a gradient of attention whose elements fall on each other',
      () =>
        attentionGradients(
          (part) => ({ ...part(0), headStride: 1 }),
          (part) => part(1),
          (part) => part(2),
        ),
      /^attentionBackward: gradQuery 'gradients' f32 \[2,3,12\] has elements that fall on each other$/,
    ],
    // What only plain JavaScript can leave out.
    ['no output', () => device.gelu({ input: f32('x', 4) } as never), /^gelu: output is missing: hand in a tensor/],
    ['no input', () => device.gelu({ output: f32('y', 4) } as never), /^gelu: input is missing/],
    ['no gradInput', () => device.tanhBackward({ output: f32('y', 4), gradOutput: f32('dy', 4) } as never), /: gradInput is missing/],
    [
      'values instead of a tensor',
      () => device.add({ a: f32('a', 4), b: new Float32Array(4) as never, output: f32('c', 4) }),
      /^add: b is no tensor \(\[object Float32Array\]\): hand in/,
    ],
    [
      'fff without bias',
      () => device.fff({ input: f32('x', 2, 4), nodes: f32('n', 3, 8), trees: 1, depth: 1, output: f32('y', 2, 4) } as never),
      /^fff: bias is missing/,
    ],
    [
      'fffBackward without visited',
      () => {
        const rows = { input: f32('x', 2, 4), gradOutput: f32('dy', 2, 4), gradInput: f32('dx', 2, 4) };
        device.fffBackward({ ...rows, nodes: f32('n', 3, 8), trees: 1, depth: 1, logits: f32('z', 2, 1, 2) } as never);
      },
      /^fffBackward: pathNodes is missing/,
    ],
    [
      'linear without weight',
      () => device.linear({ input: f32('x', 2, 4), output: f32('y', 2, 4) } as never),
      /^linear: weight is missing/,
    ],
    [
      'linear with a bias that is none',
      () => device.linear({ input: f32('x', 2, 4), weight: f32('w', 3, 4), bias: true as never, output: f32('y', 2, 3) }),
      /^linear: bias is no tensor/,
    ],
    ['no flags', () => device.clearRows({ gradient: f32('g', 2, 4) } as never), /^clearRows: rowMask is missing/],
    [
      'attention over more keys than can be counted',
      () => {
        const operand = { tensor: f32('qkv', 12), offset: 0, batchStride: 0, rowStride: 0, headStride: 0 };
        const shape = { batch: 1, heads: 1, headSize: 3, queryLength: 1, keyLength: 2 ** 60 };
        device.attention({ query: operand, key: operand, value: operand, ...shape, output: f32('y', 3) });
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
      () => device.pool({ input: f32('x', 0), batch, length, kind: 'first', output: f32('y', 0) }),
      /^pool: batch \S+ and length \S+ must be counts, the length at least 1$/,
    ]),
    [
      'an activation that is none',
      () => device.linear({ input: f32('x', 2, 4), weight: f32('w', 3, 4), output: f32('y', 2, 3), activation: 'relu' as never }),
      /^linear: activation 'relu' is none of none, gelu$/,
    ],
    [
      'flags of no row',
      () => device.sumOfSquares({ input: f32('g', 2, 4), rowMask: i32('flags', 0), output: f32('y', 1) }),
      /^sumOfSquares: 'g' f32 \[2,4\] is not made of 0 rows$/,
    ],
    ['more than int32 holds', () => device.fill({ output: i32('i', 2), value: 3e9 }), /^fill: value 3000000000 is no 32-bit integer$/],
    ['a NaN as an integer', () => device.fill({ output: i32('i', 2), value: Number.NaN }), /^fill: value NaN is no 32-bit integer$/],
    [
      'a label that is none',
      () => device.crossEntropy({ logits: f32('z', 2, 3), labels: i32('l', 2), losses: f32('y', 2), ignoreIndex: 0.5 }),
      /^crossEntropy: ignoreIndex 0\.5 is no 32-bit integer$/,
    ],
    [
      'attentionBackward without logSumExp',
      () => {
        const operand = { tensor: f32('qkv', 2, 12), offset: 0, batchStride: 0, rowStride: 12, headStride: 4 };
        const shape = { batch: 1, heads: 1, headSize: 4, queryLength: 2, keyLength: 2 };
        const gradients = { gradQuery: operand, gradKey: operand, gradValue: operand, gradOutput: f32('dy', 2, 4) };
        device.attentionBackward({
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
    await device.finish();
  });
});
