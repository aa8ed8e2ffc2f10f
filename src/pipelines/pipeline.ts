import { joinPath } from '#platform';
import type { Backend } from '../backend/backend.ts';
import { type BackendName, createBackend } from '../backend/create.ts';
import type { Precision } from '../backend/prepared_weight.ts';
import { InputError } from '../errors.ts';
import { resolveModelFolder } from '../io/model_folder.ts';
import { loadMaskedLanguageModel } from '../models/checkpoint.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';
import { Tokenizer } from '../tokenizer/tokenizer.ts';
import { createFillMask, type FillMaskPipeline } from './fill_mask.ts';

export interface PipelineOptions {
  /**
   * What computes: a backend of your own, which stays yours to dispose, or the name of one. By default the native backend if it can
   * be loaded, else WASM.
   */
  backend?: Backend | BackendName;
  /** Threads of the backend, if it is not handed in. */
  threads?: number;
  /** The {@link Precision} of products with weights: 'f32' by default; 'bf16' and 'i8' take less memory, and less time where the processor multiplies them. */
  dtype?: Precision;
}

/**
 * Text in, answers out, with the names and the shape of answers that transformers.js has.
 *
 * @param task 'fill-mask': the most probable words for each [MASK].
 * @param model a folder with config.json, model.safetensors and tokenizer.json; by default the model that ships with this package.
 * @throws InputError if the folder is not a model's, or one of its files is damaged or does not fit the others.
 *
 * @example
 * using fill = await pipeline('fill-mask');
 * const [best] = await fill('The capital of France is [MASK].');
 * console.log(best.token_str, best.score);
 */
export async function pipeline(task: 'fill-mask', model?: string, options: PipelineOptions = {}): Promise<FillMaskPipeline> {
  if (task !== 'fill-mask') throw new InputError(`task ${JSON.stringify(task)} is not known, expected 'fill-mask'`);
  const folder = await resolveModelFolder(model);
  const given = typeof options.backend === 'object' ? options.backend : undefined;
  const backend = given ?? createBackend({ name: options.backend as BackendName | undefined, threads: options.threads });
  try {
    const [tokenizer, loaded] = await load(folder, backend, options.dtype);
    if (tokenizer.maskId === undefined) throw new InputError(`${folder}/tokenizer.json: has no mask token, which fill-mask needs`);
    if (tokenizer.vocabularySize > loaded.config.vocabularySize) {
      throw new InputError(
        `${folder}: tokenizer.json has ${tokenizer.vocabularySize} tokens, but config.json gives the model ${loaded.config.vocabularySize}: they do not belong together`,
      );
    }
    return createFillMask(loaded, tokenizer, backend, () => {
      loaded.dispose();
      if (!given) backend.dispose();
    });
  } catch (error) {
    if (!given) backend.dispose();
    throw error;
  }
}

/** The model's weights are read and converted while the tokenizer is made. */
async function load(folder: string, backend: Backend, dtype: Precision = 'f32'): Promise<[Tokenizer, MaskedLanguageModel]> {
  const [model, tokenizer] = await Promise.allSettled([
    loadMaskedLanguageModel(folder, backend, { dtype }),
    Tokenizer.load(joinPath(folder, 'tokenizer.json')),
  ]);
  if (tokenizer.status === 'fulfilled' && model.status === 'fulfilled') return [tokenizer.value, model.value];
  if (model.status === 'fulfilled') model.value.dispose();
  throw tokenizer.status === 'rejected' ? tokenizer.reason : (model as PromiseRejectedResult).reason;
}
