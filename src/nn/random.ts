import { fmix32 } from '../backend/dropout.ts';

/** FNV-1a over the UTF-16 code units of a text: a stream number for each parameter's name. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/**
 * `count` values of a normal distribution with mean 0. Counter-based: value i depends on seed, stream and i alone, so that a parameter
 * starts the same whatever else the model has. Box-Muller on pairs of 32-bit uniforms.
 */
export function normalValues(count: number, standardDeviation: number, seed: number, stream: number): Float32Array {
  const key = fmix32(fmix32(seed >>> 0) ^ stream);
  const values = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const uniform = (fmix32(fmix32(i) ^ key) + 0.5) / 2 ** 32;
    const angle = (2 * Math.PI * fmix32(fmix32(i + 1) ^ key)) / 2 ** 32;
    const radius = standardDeviation * Math.sqrt(-2 * Math.log(uniform));
    values[i] = radius * Math.cos(angle);
    if (i + 1 < count) values[i + 1] = radius * Math.sin(angle);
  }
  return values;
}
