import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import { loadMaskedLanguageModel } from '../../src/models/checkpoint.ts';
import { pathsOf } from '../../src/pipelines/token_paths.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

const folder = temporaryFolder();

test.each([
  [{ kind: 'dense', neurons: 8 }, 'dense feedforward layers, in which every token uses every neuron'],
  [{ kind: 'none' }, 'no feedforward layers'],
] as const)('there are none in a model with %j', async (feedforward, found) => {
  const model = join(folder, feedforward.kind);
  await writeTinyModel(model, { feedforward });
  using device = new ReferenceDevice();
  const { encoder } = await loadMaskedLanguageModel(model, device);
  const tokenizer = await Tokenizer.load(join(model, 'tokenizer.json'));
  await expect(pathsOf(encoder, tokenizer, device, 'a dog')).rejects.toThrow(
    new InputError(`this model has ${found}: there are no paths, expected a model with trees`),
  );
});
