import { expect, test } from 'vitest';
import { learningRateFor } from '../../src/training/fine_tune_recipe.ts';

test("the recipe's learning rate at its own width, the measured one at 256 and below, between them what lies between", () => {
  expect([64, 256, 384, 512, 768, 1024].map(learningRateFor)).toEqual([3e-4, 3e-4, 1e-4, 8e-5, 4e-5, 2e-5]);
});
