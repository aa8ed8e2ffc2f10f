import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ReferenceDevice } from '../src/backend/reference.ts';
import { weightsIndex } from '../src/io/model_files.ts';
import { readSafetensors } from '../src/io/safetensors.ts';
import { writeSafetensors } from '../src/io/safetensors_writer.ts';
import { createModel, loadSequenceClassifier, type Model, saveCheckpoint } from '../src/models/checkpoint.ts';
import { crammedBertConfig, type ModelConfig } from '../src/models/config.ts';
import { trainWordPiece } from '../src/tokenizer/train_wordpiece.ts';

const subjects = ['the cat', 'a dog', 'my sister', 'the old man', 'their teacher', 'a small bird'];
const verbs = ['sees', 'finds', 'likes', 'carries', 'draws', 'forgets'];
const objects = ['the house', 'a river', 'green apples', 'the letter', 'a long road', 'the window'];

/** Sentences made of a few words. */
export function generatedSentences(): string[] {
  return subjects.flatMap((subject) => verbs.flatMap((verb) => objects.map((object) => `${subject} ${verb} ${object} .`)));
}

async function* texts() {
  yield* generatedSentences();
}

/** What makes a tiny model one of Hugging Face's: dense, post-norm, with biases and token types. */
export const tinyBert: Partial<ModelConfig> = {
  family: 'bert',
  typeVocabSize: 2,
  bias: { queryKeyValue: true, dense: true },
  feedforward: { kind: 'dense', neurons: 24 },
};

/**
 * Writes a folder with a tiny untrained model (a masked language model, 64 positions, FFF of depth 3, but for `changes`) and a tokenizer
 * of generated text.
 */
export async function writeTinyModel(folder: string, changes: Partial<ModelConfig> = {}, task: Model['task'] = 'masked-lm'): Promise<void> {
  using device = new ReferenceDevice();
  const tokenizer = await trainWordPiece(texts(), { vocabularySize: 120 });
  const vocabularySize = Object.keys((tokenizer as { model: { vocab: object } }).model.vocab).length;
  const config = crammedBertConfig({
    vocabSize: vocabularySize,
    hiddenSize: 16,
    numAttentionHeads: 2,
    numHiddenLayers: 2,
    maxPositionEmbeddings: 64,
    feedforward: { kind: 'fff', trees: 1, depth: 3 },
    initializerRange: 0.3,
    ...changes,
  });
  const model = createModel(task, config, device, 1);
  await saveCheckpoint(folder, model, { tokenizer, dtype: 'F32' });
  model.dispose();
}

/** Writes a folder with a classifier: a model's, its head untrained. */
export async function writeTinyClassifier(model: string, to: string): Promise<void> {
  using device = new ReferenceDevice();
  using classifier = await loadSequenceClassifier(model, device, { fresh: { labels: 3, labelNames: ['cat', 'dog', 'bird'], seed: 3 } });
  await saveCheckpoint(to, classifier, { tokenizer: JSON.parse(readFileSync(join(model, 'tokenizer.json'), 'utf8')), dtype: 'F32' });
}

/** Copies a model's folder, its weights (F32) in three files; returns which file holds which tensor, as the index says it. */
export async function copyInShards(model: string, to: string): Promise<Record<string, string>> {
  cpSync(model, to, { recursive: true });
  rmSync(join(to, 'model.safetensors'));
  await using whole = await readSafetensors(join(model, 'model.safetensors'));
  const map: Record<string, string> = {};
  for (let i = 0; i < 3; i++) {
    const file = `model-0000${i + 1}-of-00003.safetensors`;
    const tensors = [];
    for (const tensor of whole.names.filter((_, at) => at % 3 === i)) {
      map[tensor] = file;
      tensors.push({ name: tensor, dtype: 'F32' as const, shape: whole.info(tensor).shape, values: await whole.read(tensor) });
    }
    await writeSafetensors(join(to, file), tensors);
  }
  writeFileSync(join(to, weightsIndex), JSON.stringify({ metadata: { total_size: 1 }, weight_map: map }));
  return map;
}
