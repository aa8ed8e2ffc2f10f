/** crammedBERT's recipe for GLUE, the same for every task (arXiv 2212.14034); `length` in tokens of a text, `batch` in texts. */
export const fineTuningRecipe = { epochs: 5, batch: 16, learningRate: 4e-5, length: 128 };

/** What was best for the shipped model, 256 wide (docs/decisions/30-fine-tuning.md). */
const narrow = { hiddenSize: 256, learningRate: 3e-4 };

/**
 * The peak learning rate for a model of this width: the recipe's at 768, which leaves narrower models where they began, and the power of
 * the width that runs through it and the one measured at 256. Narrower models get that one, for nothing was measured there.
 */
export function learningRateFor(hiddenSize: number): number {
  const { learningRate } = fineTuningRecipe;
  const exponent = Math.log(narrow.learningRate / learningRate) / Math.log(768 / narrow.hiddenSize);
  const rate = learningRate * (768 / hiddenSize) ** exponent;
  return Number(Math.min(rate, narrow.learningRate).toPrecision(1));
}
