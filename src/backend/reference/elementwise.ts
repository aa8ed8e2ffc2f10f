import type * as operations from '../operations/elementwise.ts';
import type { Implementation } from '../operations/operation.ts';
import { dropoutFactor } from './dropout.ts';

export const fill: Implementation<typeof operations.fill> = ({ output }, { value }) => {
  output.fill(value);
};

export const fillIntegers: Implementation<typeof operations.fillIntegers> = ({ output }, { value }) => {
  output.fill(Math.trunc(value));
};

export const copy: Implementation<typeof operations.copy> = ({ input, output }) => {
  output.set(input);
};

export const add: Implementation<typeof operations.add> = ({ a, b, output }, { count, scale }) => {
  for (let i = 0; i < count; i++) output[i] = a[i] + scale * b[i];
};

export const multiply: Implementation<typeof operations.multiply> = ({ a, b, output }, { count }) => {
  for (let i = 0; i < count; i++) output[i] = a[i] * b[i];
};

export const dropout: Implementation<typeof operations.dropout> = ({ input, output }, { count, probability, key }) => {
  for (let i = 0; i < count; i++) {
    const factor = dropoutFactor(i, probability, key);
    output[i] = factor === 0 ? 0 : input[i] * factor;
  }
};

export const addRow: Implementation<typeof operations.addRow> = ({ row, output }, { rows, width, scale }) => {
  for (let r = 0; r < rows; r++) for (let i = 0; i < width; i++) output[r * width + i] += scale * row[i];
};
