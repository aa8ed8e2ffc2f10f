import { ReferenceDevice } from '../src/backend/reference.ts';
import { createCausalLanguageModel, saveCheckpoint } from '../src/models/checkpoint.ts';
import type { ModelConfig } from '../src/models/config.ts';
import { gptConfig } from '../src/models/families/gpt2.ts';
import { trainBytePairs } from '../src/tokenizer/train_bpe.ts';
import { generatedSentences } from './tiny_model.ts';

/**
 * Writes a folder with a tiny untrained decoder (64 positions, trees of depth 3, but for `changes`) and a byte-level tokenizer of generated text, in which
 * characters beyond ASCII are several tokens. What it writes is not sense, but not always the same either.
 */
export async function writeTinyDecoder(folder: string, changes: Partial<ModelConfig> = {}): Promise<void> {
  using device = new ReferenceDevice();
  const tokenizer = await trainBytePairs(generatedSentences(), { vocabularySize: 300 });
  const config = gptConfig({
    vocabSize: Object.keys(tokenizer.model.vocab).length,
    hiddenSize: 16,
    numAttentionHeads: 2,
    numHiddenLayers: 2,
    maxPositionEmbeddings: 64,
    bosTokenId: 0,
    eosTokenIds: [0],
    feedforward: { kind: 'fff', trees: 1, depth: 3 },
    initializerRange: 0.5,
    ...changes,
  });
  using model = createCausalLanguageModel(config, device, 1);
  await saveCheckpoint(folder, model, { tokenizer });
}
