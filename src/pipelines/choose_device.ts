import { joinPath } from '#platform';
import { createDevice, graphicsDevice } from '../backend/create.ts';
import type { Device } from '../backend/device.ts';
import { readJson } from '../io/files.ts';
import { type ModelConfig, neuronsOf } from '../models/config.ts';
import { parseConfig } from '../models/config_json.ts';

/** A call that is taken for a usual one: tokens of a text. */
const usualTokens = 128;
/** Floating point operations a second of a processor's few cores; and seconds that a dispatch takes before it computes, at most 71e-6 on real systems. */
const processorRate = 1e11;
const dispatchTime = 7e-5;
const dispatchesPerLayer = 7;

/**
 * Whether a usual call takes a processor several times as long as the dispatches alone take a graphics processor: small models, and such with
 * trees, are slower there.
 */
export function gainsByGraphics(config: ModelConfig): boolean {
  const { hiddenSize: width, numHiddenLayers: layers, feedforward } = config;
  const perToken = 2 * layers * (4 * width * width + 2 * width * neuronsOf(feedforward).used);
  return (perToken * usualTokens) / processorRate > 4 * dispatchesPerLayer * layers * dispatchTime;
}

/** The device that 'auto' stands for, by the model that is going to be on it. @throws InputError if its config.json is none */
export async function chooseDevice(folder: string, options: { threads?: number; config?: object }): Promise<Device> {
  const path = joinPath(folder, 'config.json');
  const config = parseConfig({ ...((await readJson(path)) as object), ...options.config }, path);
  const graphics = gainsByGraphics(config) ? await graphicsDevice() : undefined;
  return graphics ?? (await createDevice({ threads: options.threads }));
}
