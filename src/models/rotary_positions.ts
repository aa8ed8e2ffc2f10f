/** Rotary positions (arXiv 2104.09864) as Llama and its kin have them. */
export interface RotaryPositions {
  /** The wavelengths' base: pair i of a head of n elements turns by base^(-2i / n) a position. */
  base: number;
  /** Elements of each head that turn; all of them if absent. */
  size?: number;
  /** How a model was stretched to more positions than it was first trained on. */
  scaling?:
    | { kind: 'linear'; factor: number }
    | { kind: 'llama3'; factor: number; lowFrequencyFactor: number; highFrequencyFactor: number; originalPositions: number };
}

/** By how much each pair turns a position, rounded where transformers rounds to float32. */
export function frequencies({ base, scaling }: RotaryPositions, size: number): Float32Array {
  const inverse = Float32Array.from({ length: size / 2 }, (_, i) => 1 / Math.fround(base ** Math.fround((2 * i) / size)));
  if (!scaling) return inverse;
  if (scaling.kind === 'linear') return inverse.map((frequency) => frequency / scaling.factor);
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalPositions: length } = scaling;
  // Long wavelengths are stretched, short ones stay, and those between are a mixture.
  return inverse.map((frequency) => {
    const wavelength = Math.fround((2 * Math.PI) / frequency);
    if (wavelength > length / low) return frequency / factor;
    if (wavelength < length / high) return frequency;
    const smooth = (length / wavelength - low) / (high - low);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}

/** For each position the cosines of its angles and then the sines: [positions, size], as the operation rotary takes them. */
export function rotationOf(positions: Int32Array, inverse: Float32Array): Float32Array {
  const half = inverse.length;
  const rotation = new Float32Array(positions.length * 2 * half);
  positions.forEach((position, t) => {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * inverse[i]);
      rotation[t * 2 * half + i] = Math.cos(angle);
      rotation[t * 2 * half + half + i] = Math.sin(angle);
    }
  });
  return rotation;
}
