import { expect, test } from 'vitest';
import { learningRateFor } from '../../src/training/fine_tune_recipe.ts';

test("the recipe's learning rate at its own width, higher ones for narrower models, within bounds", () => {
  expect([64, 128, 256, 384, 512, 768, 1024, 4096].map(learningRateFor)).toEqual([3e-4, 3e-4, 3e-4, 2e-4, 9e-5, 4e-5, 2e-5, 2e-5]);
});
