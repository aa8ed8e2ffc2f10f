import type { Device } from '../../src/backend/device.ts';
import { dropoutKey } from '../../src/backend/dropout.ts';
import type { StridedOperand } from '../../src/backend/operations/operation.ts';
import { precisions, productPrecisions } from '../../src/backend/prepared_weight.ts';
import type { Tensor } from '../../src/backend/tensor.ts';
import { innerNodes } from '../../src/backend/tree_shape.ts';
import { input, normal, type Operand, output, type Tensors } from '../backend/cases/case.ts';
import type { Random } from '../backend/random.ts';

/** The third mode of the operation cases: one call of one operation on operands of a model's sizes. */
export interface SpeedCase {
  name: string;
  operands(random: Random): Record<string, Operand>;
  /** What is timed; what `setUp` made is at hand. */
  run(device: Device, tensors: Tensors, made: Disposable | undefined): void;
  /** Runs once before. */
  setUp?(device: Device, tensors: Tensors): Disposable;
  /** Floating-point operations of a call (a multiplication and an addition are two). */
  operations?: number;
  /** Bytes that a call must at least move, where that is what limits it. */
  bytes?: number;
}

/** BERT-base's: a sequence of 128, 12 heads of 64, four times the width between. */
const [tokens, width, heads, headSize, inner, vocabulary] = [128, 768, 12, 64, 3072, 8192];
const depth = 11;
const nodes = 2 ** (depth + 1) - 1;

const zeros = (shape: readonly number[]): Operand => input(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));
const flags = (count: number): Operand =>
  input(
    [count],
    Int32Array.from({ length: count }, (_, i) => (i % 4 === 0 ? 1 : 0)),
  );

/** f32 operands of one shape, by name. */
const alike =
  (shape: readonly number[], ...names: string[]) =>
  (random: Random): Record<string, Operand> =>
    Object.fromEntries(names.map((name) => [name, normal(random, shape)]));

const elements = tokens * inner;
const elementwise: SpeedCase[] = [
  {
    name: 'fill',
    operands: alike([elements], 'output'),
    run: (device, { output }) => device.fill({ output, value: 1 }),
    bytes: 4 * elements,
  },
  {
    name: 'fillIntegers',
    operands: () => ({ output: output([elements], 'i32') }),
    run: (device, { output }) => device.fill({ output, value: 1 }),
    bytes: 4 * elements,
  },
  {
    name: 'copy',
    operands: alike([elements], 'input', 'output'),
    run: (device, { input, output }) => device.copy({ input, output }),
    bytes: 8 * elements,
  },
  {
    name: 'add',
    operands: alike([elements], 'a', 'b', 'output'),
    run: (device, { a, b, output }) => device.add({ a, b, output }),
    bytes: 12 * elements,
  },
  ...(['gelu', 'geluTanh', 'silu', 'relu', 'tanh'] as const).map(
    (name): SpeedCase => ({
      name,
      operands: alike([elements], 'input', 'output'),
      run: (device, { input, output }) => device[name]({ input, output }),
      bytes: 8 * elements,
    }),
  ),
  ...(['geluBackward', 'geluTanhBackward', 'siluBackward'] as const).map(
    (name): SpeedCase => ({
      name,
      operands: alike([elements], 'input', 'gradOutput', 'gradInput'),
      run: (device, { input, gradOutput, gradInput }) => device[name]({ input, gradOutput, gradInput }),
      bytes: 12 * elements,
    }),
  ),
  {
    name: 'reluBackward',
    operands: alike([elements], 'output', 'gradOutput', 'gradInput'),
    run: (device, { output, gradOutput, gradInput }) => device.reluBackward({ output, gradOutput, gradInput }),
    bytes: 12 * elements,
  },
  {
    name: 'tanhBackward',
    operands: alike([elements], 'output', 'gradOutput', 'gradInput'),
    run: (device, { output, gradOutput, gradInput }) => device.tanhBackward({ output, gradOutput, gradInput }),
    bytes: 12 * elements,
  },
  {
    name: 'dropout',
    operands: alike([elements], 'input', 'output'),
    run: (device, { input, output }) => device.dropout({ input, output, dropout: { probability: 0.1, key: dropoutKey(1, 2, 3) } }),
    bytes: 8 * elements,
  },
];

const stridedCopy: SpeedCase[] = [
  { name: 'as it is', rows: nodes, columns: width, offset: 0, rowStride: 2 * width, columnStride: 1 },
  { name: 'transposed', rows: width, columns: nodes, offset: width, rowStride: 1, columnStride: 2 * width },
].map(({ name, ...placement }) => ({
  name: `stridedCopy BF16, ${name}`,
  operands: () => ({
    input: { role: 'input', shape: [2 * nodes * width], dtype: 'i8', values: new Int8Array(2 * nodes * width) },
    output: zeros([nodes, 2 * width]),
  }),
  run: (device, { input, output }) => device.stridedCopy({ input, type: 'BF16', output, ...placement }),
  bytes: 6 * nodes * width,
}));

const layerNorm: SpeedCase[] = [
  {
    name: 'layerNorm',
    operands: (random) => ({ ...alike([tokens, width], 'input', 'output')(random), ...alike([width], 'gamma', 'beta')(random) }),
    run: (device, { input, gamma, beta, output }) => device.layerNorm({ input, gamma, beta, epsilon: 1e-12, output }),
    bytes: 8 * tokens * width,
  },
  {
    name: 'layerNormBackward',
    operands: (random) => ({
      ...alike([tokens, width], 'input', 'gradOutput', 'gradInput')(random),
      ...alike([width], 'gamma', 'gradGamma', 'gradBeta')(random),
      ...alike([tokens], 'mean', 'rstd')(random),
    }),
    run: (device, { input, gamma, mean, rstd, gradOutput, gradInput, gradGamma, gradBeta }) =>
      device.layerNormBackward({ input, gamma, mean, rstd, gradOutput, gradInput, gradGamma, gradBeta }),
    bytes: 12 * tokens * width,
  },
];

const linearOperands =
  (rows: number, ...names: ('input' | 'output' | 'weight')[]) =>
  (random: Random): Record<string, Operand> => {
    const shapes = { input: [rows, width], output: [rows, inner], weight: [inner, width] };
    return Object.fromEntries(names.map((name) => [name, normal(random, shapes[name])]));
  };
const linear: SpeedCase[] = [
  ...[1, tokens].flatMap((rows): SpeedCase[] => [
    {
      name: `linear ${rows} x ${width} x ${inner}`,
      operands: linearOperands(rows, 'input', 'weight', 'output'),
      run: (device, { input, weight, output }) => device.linear({ input, weight, output }),
      operations: 2 * rows * width * inner,
    },
    ...precisions.map(
      (precision): SpeedCase => ({
        name: `linear ${rows} x ${width} x ${inner}, prepared in ${precision}`,
        operands: linearOperands(rows, 'input', 'weight', 'output'),
        setUp: (device, { weight }) => device.prepareLinear({ weight, precision }),
        run: (device, { input, output }, weight) => device.linear({ input, weight: weight as never, output }),
        operations: 2 * rows * width * inner,
      }),
    ),
  ]),
  ...precisions.map(
    (precision): SpeedCase => ({
      name: `prepareLinear ${precision}`,
      operands: linearOperands(1, 'weight'),
      run: (device, { weight }) => device.prepareLinear({ weight, precision }).dispose(),
      bytes: 4 * width * inner,
    }),
  ),
  {
    name: `linear ${tokens} x ${width} x ${inner} in bf16, not prepared`,
    operands: linearOperands(tokens, 'input', 'weight', 'output'),
    run: (device, { input, weight, output }) => device.linear({ input, weight, output, precision: 'bf16' }),
    operations: 2 * tokens * width * inner,
  },
  {
    name: 'linearBackwardInput',
    operands: linearOperands(tokens, 'input', 'weight', 'output'),
    run: (device, { input, weight, output }) => device.linearBackwardInput({ gradOutput: output, weight, gradInput: input }),
    operations: 2 * tokens * width * inner,
  },
  {
    name: 'linearBackwardWeight',
    operands: linearOperands(tokens, 'input', 'weight', 'output'),
    run: (device, { input, weight, output }) => device.linearBackwardWeight({ input, gradOutput: output, gradWeight: weight }),
    operations: 2 * tokens * width * inner,
  },
];

const operand = (tensor: Tensor): StridedOperand => ({
  tensor,
  offset: 0,
  batchStride: tokens * width,
  rowStride: width,
  headStride: headSize,
});
const attentionArguments = (t: Tensors) => ({
  query: operand(t.query),
  key: operand(t.key),
  value: operand(t.value),
  ...{ batch: 1, heads, headSize, queryLength: tokens, keyLength: tokens },
});
const attention: SpeedCase[] = productPrecisions.flatMap((precision): SpeedCase[] => [
  {
    name: precision === 'f32' ? 'attention' : `attention in ${precision}`,
    operands: alike([tokens, width], 'query', 'key', 'value', 'output'),
    run: (device, t) => device.attention({ ...attentionArguments(t), precision, output: t.output }),
    operations: 4 * tokens * tokens * width,
  },
  {
    name: precision === 'f32' ? 'attentionBackward' : `attentionBackward in ${precision}`,
    operands: (random) => ({
      ...alike([tokens, width], 'query', 'key', 'value', 'output', 'gradOutput', 'gradQuery', 'gradKey', 'gradValue')(random),
      logSumExp: input([heads, tokens], new Float32Array(heads * tokens).fill(40)),
    }),
    run: (device, t) =>
      device.attentionBackward({
        ...attentionArguments(t),
        precision,
        output: t.output,
        logSumExp: t.logSumExp,
        gradOutput: t.gradOutput,
        gradQuery: operand(t.gradQuery),
        gradKey: operand(t.gradKey),
        gradValue: operand(t.gradValue),
      }),
    operations: 10 * tokens * tokens * width,
  },
]);

const embeddingOperands = (random: Random) => ({
  table: normal(random, [vocabulary, width]),
  indices: input([tokens], random.integers(tokens, vocabulary)),
  rows: normal(random, [tokens, width]),
  scale: zeros([1]),
});
const embedding: SpeedCase[] = [
  {
    name: 'embedding',
    operands: embeddingOperands,
    run: (device, { table, indices, rows }) => device.gather({ table, indices, output: rows }),
    bytes: 8 * tokens * width,
  },
  {
    name: 'embeddingBackward',
    operands: embeddingOperands,
    run: (device, { table, indices, rows }) => device.scatterAdd({ indices, input: rows, table: table }),
    bytes: 12 * tokens * width,
  },
  {
    name: 'embeddingScaleBackward',
    operands: embeddingOperands,
    run: (device, { table, indices, rows, scale }) => device.gatherScaleBackward({ table, indices, gradOutput: rows, gradScale: scale }),
    bytes: 8 * tokens * width,
  },
];

const visits = depth + 1;
const fffOperands = (rows: number) => (random: Random) => ({
  input: normal(random, [rows, width]),
  nodes: normal(random, [nodes, 2 * width], 1 / Math.sqrt(width)),
  bias: zeros([nodes]),
  output: normal(random, [rows, width]),
});
const shape = { trees: 1, depth };
/** The nodes from the root to a leaf, which is counted from the left. */
const pathTo = (leaf: number) => Array.from({ length: visits }, (_, level) => ((2 ** depth + leaf) >> (depth - level)) - 1);
const fff: SpeedCase[] = [
  ...[1, tokens, 2048].flatMap((rows): SpeedCase[] => [
    {
      name: `fff ${rows} x ${width}, 1 x depth ${depth}`,
      operands: fffOperands(rows),
      run: (device, { input, nodes, bias, output }) => device.fff({ input, nodes, bias, ...shape, output }),
      operations: 4 * rows * visits * width,
    },
    ...(['bf16', 'i8'] as const).map(
      (precision): SpeedCase => ({
        name: `fff ${rows} x ${width}, 1 x depth ${depth}, prepared in ${precision}`,
        operands: fffOperands(rows),
        setUp: (device, { nodes }) => device.prepareNodes({ nodes, precision }),
        run: (device, { input, bias, output }, nodes) => device.fff({ input, nodes: nodes as never, bias, ...shape, output }),
        operations: 4 * rows * visits * width,
      }),
    ),
  ]),
  ...(['bf16', 'i8'] as const).map(
    (precision): SpeedCase => ({
      name: `prepareNodes ${precision}`,
      operands: fffOperands(1),
      run: (device, { nodes }) => device.prepareNodes({ nodes, precision }).dispose(),
      bytes: 8 * nodes * width,
    }),
  ),
  {
    name: `fff ${tokens} x ${width}, 1 x depth ${depth}, thresholds`,
    operands: (random) => ({ ...fffOperands(tokens)(random), thresholds: normal(random, [innerNodes(depth)], 0.3) }),
    run: (device, { input, nodes, bias, thresholds, output }) => device.fff({ input, nodes, bias, thresholds, ...shape, output }),
    operations: 4 * tokens * visits * width,
  },
  {
    name: `countSplits ${tokens}, 1 x depth ${depth}`,
    operands: (random) => ({
      pathNodes: input([tokens, 1, visits], Int32Array.from([...random.integers(tokens, 2 ** depth)].flatMap(pathTo))),
      counts: output([innerNodes(depth), 2], 'i32'),
    }),
    run: (device, { pathNodes, counts }) => device.countSplits({ pathNodes, counts, ...shape }),
    bytes: 4 * tokens * visits,
  },
  {
    name: `balanceThresholds, 1 x depth ${depth}`,
    operands: (random) => ({
      counts: input([innerNodes(depth), 2], random.integers(2 * innerNodes(depth), 9)),
      thresholds: normal(random, [innerNodes(depth)]),
    }),
    run: (device, { counts, thresholds }) => device.balanceThresholds({ counts, thresholds, rate: 0.3, pseudoCount: 64 }),
    bytes: 16 * innerNodes(depth),
  },
  {
    name: `fffBackward ${tokens} x ${width}, 1 x depth ${depth}`,
    operands: (random) => ({
      ...fffOperands(tokens)(random),
      gradInput: zeros([tokens, width]),
      gradNodes: zeros([nodes, 2 * width]),
      gradBias: zeros([nodes]),
      rowMask: output([nodes], 'i32'),
      pathNodes: output([tokens, 1, visits], 'i32'),
      logits: output([tokens, 1, visits]),
    }),
    setUp(device, { input, nodes, bias, output, pathNodes, logits }) {
      device.fff({ input, nodes, bias, ...shape, output, pathNodes, logits });
      return { [Symbol.dispose]() {} };
    },
    run: (device, { input, nodes, pathNodes, logits, output, gradInput, gradNodes, gradBias, rowMask }) =>
      device.fffBackward({ input, nodes, ...shape, pathNodes, logits, gradOutput: output, gradInput, gradNodes, gradBias, rowMask }),
    operations: 8 * tokens * visits * width,
  },
];

const poolShape = { batch: 8, length: tokens, kind: 'mean' } as const;
const pool: SpeedCase[] = [
  {
    name: 'pool mean',
    operands: (random) => ({ input: normal(random, [8 * tokens, width]), output: zeros([8, width]) }),
    run: (device, { input, output }) => device.pool({ input, ...poolShape, output }),
    bytes: 4 * 8 * tokens * width,
  },
  {
    name: 'poolBackward mean',
    operands: (random) => ({ gradOutput: normal(random, [8, width]), gradInput: zeros([8 * tokens, width]) }),
    run: (device, { gradOutput, gradInput }) => device.poolBackward({ ...poolShape, gradOutput, gradInput }),
    bytes: 4 * 8 * tokens * width,
  },
];

const losses: SpeedCase[] = [
  {
    name: 'crossEntropy',
    operands: (random) => ({
      logits: normal(random, [32, vocabulary], 2),
      labels: input([32], random.integers(32, vocabulary)),
      losses: output([32]),
      gradLogits: output([32, vocabulary]),
    }),
    run: (device, { logits, labels, losses, gradLogits }) => device.crossEntropy({ logits, labels, losses, gradLogits }),
    bytes: 8 * 32 * vocabulary,
  },
  {
    name: 'squaredError',
    operands: alike([elements], 'predictions', 'targets', 'losses', 'gradPredictions'),
    run: (device, { predictions, targets, losses, gradPredictions }) =>
      device.squaredError({ predictions, targets, losses, gradPredictions }),
    bytes: 16 * elements,
  },
  {
    name: 'columnMean',
    operands: (random) => ({ input: normal(random, [tokens, width]), output: output([width]) }),
    run: (device, { input, output }) => device.columnMean({ input, output }),
    bytes: 4 * tokens * width,
  },
  {
    name: 'addRow',
    operands: (random) => ({ row: normal(random, [width]), output: zeros([tokens, width]) }),
    run: (device, { row, output }) => device.addRow({ row, output }),
    bytes: 8 * tokens * width,
  },
  {
    name: 'sum',
    operands: (random) => ({ input: normal(random, [elements]), output: output([1]) }),
    run: (device, { input, output }) => device.sum({ input, output }),
    bytes: 4 * elements,
  },
  {
    name: 'sumOfSquares',
    operands: (random) => ({ input: normal(random, [elements]), output: output([1]) }),
    run: (device, { input, output }) => device.sumOfSquares({ input, output }),
    bytes: 4 * elements,
  },
];

const optimizer: SpeedCase[] = [
  {
    name: 'clipScale',
    operands: () => ({ sums: zeros([100]), output: output([2]) }),
    run: (device, { sums, output }) => device.clipScale({ sums, maximum: 0.5, output }),
  },
  {
    name: 'adamw',
    operands: (random) => ({
      ...alike([inner, width], 'parameter', 'gradient', 'mean')(random),
      variance: input([inner, width], new Float32Array(inner * width).fill(1)),
    }),
    run: (device, { parameter, gradient, mean, variance }) =>
      device.adamw({
        ...{ parameter, gradient, mean, variance },
        ...{ learningRate: 1e-3, beta1: 0.9, beta2: 0.98, epsilon: 1e-12, weightDecay: 0.01, step: 10 },
      }),
    bytes: 28 * inner * width,
  },
  {
    name: 'clearRows, one of four',
    operands: () => ({ gradient: zeros([nodes, 2 * width]), rowMask: flags(nodes) }),
    run: (device, { gradient, rowMask }) => device.clearRows({ gradient, rowMask }),
    bytes: 2 * nodes * width,
  },
];

/** A leaf of 32 neurons of each of two trees of depth 6. */
const [choices, blocks, blockSize] = [2, 128, 32];
const choiceShapes = { input: [tokens, width], weight: [blocks * blockSize, width], products: [tokens, choices * blockSize] };
const conditional = { operations: 2 * tokens * choices * blockSize * width };
const chosenOf = (random: Random) => input([tokens, choices], random.integers(tokens * choices, blocks));
const conditionalMatmul: SpeedCase[] = [
  {
    name: `conditionalMatmul ${tokens} x ${width}, ${choices} of ${blocks} blocks of ${blockSize}`,
    operands: (random) => ({
      input: normal(random, choiceShapes.input),
      weight: normal(random, choiceShapes.weight),
      chosen: chosenOf(random),
      output: output(choiceShapes.products),
    }),
    run: (device, { input, weight, chosen, output }) => device.conditionalMatmul({ input, weight, chosen, blockSize, output }),
    ...conditional,
  },
  {
    name: `conditionalMatmulBackwardInput ${tokens} x ${width}`,
    operands: (random) => ({
      gradOutput: normal(random, choiceShapes.products),
      weight: normal(random, choiceShapes.weight),
      chosen: chosenOf(random),
      gradInput: output(choiceShapes.input),
    }),
    run: (device, { gradOutput, weight, chosen, gradInput }) =>
      device.conditionalMatmulBackwardInput({ gradOutput, weight, chosen, blockSize, gradInput }),
    ...conditional,
  },
  {
    name: `conditionalMatmulBackwardWeight ${tokens} x ${width}`,
    operands: (random) => ({
      input: normal(random, choiceShapes.input),
      gradOutput: normal(random, choiceShapes.products, 1e-3),
      chosen: chosenOf(random),
      gradWeight: zeros(choiceShapes.weight),
    }),
    run: (device, { input, gradOutput, chosen, gradWeight }) =>
      device.conditionalMatmulBackwardWeight({ input, gradOutput, chosen, blockSize, gradWeight }),
    ...conditional,
  },
];

export const speedCases: readonly SpeedCase[] = [
  ...elementwise,
  ...stridedCopy,
  ...layerNorm,
  ...linear,
  ...attention,
  ...embedding,
  ...fff,
  ...conditionalMatmul,
  ...pool,
  ...losses,
  ...optimizer,
];
