/** crammedBERT's recipe for GLUE, the same for every task (arXiv 2212.14034); `length` in tokens of a text, `batch` in texts. */
export const fineTuningRecipe = { epochs: 5, batch: 16, learningRate: 4e-5, length: 128 };

/**
 * The peak learning rate for a model of this width. The recipe's is for 768; narrower models need larger steps, and with the recipe's
 * do not leave the most frequent class in five epochs of two thousand examples (docs/decisions.md has the measurements).
 */
export function learningRateFor(hiddenSize: number): number {
  const rate = fineTuningRecipe.learningRate * (768 / hiddenSize) ** 2;
  return Number(Math.min(Math.max(rate, 2e-5), 3e-4).toPrecision(1));
}
