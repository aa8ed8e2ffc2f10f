/** crammedBERT's recipe for GLUE, the same for every task (arXiv 2212.14034); `length` in tokens of a text, `batch` in texts. */
export const fineTuningRecipe = { epochs: 5, batch: 16, learningRate: 4e-5, length: 128 };
