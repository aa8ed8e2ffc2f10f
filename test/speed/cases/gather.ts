import { input, normal } from '../../backend/cases/case.ts';
import type { Random } from '../../backend/random.ts';
import { tokens, vocabulary, width, zeros } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

const embeddingOperands = (random: Random) => ({
  table: normal(random, [vocabulary, width]),
  indices: input([tokens], random.integers(tokens, vocabulary)),
  rows: normal(random, [tokens, width]),
  scale: zeros([1]),
});
export const embedding: SpeedCase[] = [
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
