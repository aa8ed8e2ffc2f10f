/** A student whose feedforward layers are trained on inputs whose mean is 0. */
import { alone } from '../distributed/group.ts';
import type { Encoder } from '../models/encoder.ts';
import { exportParameter } from '../nn/parameter_arrays.ts';
import { type CenteredFeedforward, foldedBiases } from './centered_feedforward.ts';

/** Of a step's deviation, how much the mean follows: the last hundred steps or so count. */
const followed = 0.01;

/**
 * A student whose feedforward layers take in x - mean, and whose biases c are those of that input: a plain layer computes the same with the
 * biases c - w . mean. The hidden states of BERT have a mean far longer than they deviate from it, so that a step of plain weights moves the
 * logits of all tokens together, and tokens come to one side of every split.
 */
export class Centering {
  /** `layers`: for each of the encoder's blocks, what is put around its feedforward layer; undefined where that stays plain. */
  constructor(
    private readonly encoder: Encoder,
    private readonly layers: readonly (CenteredFeedforward | undefined)[],
  ) {
    this.center();
  }

  /**
   * After a step: the means follow those of its passes, on all ranks, which training moves, and with them each neuron's threshold. `share`: how
   * much of the way they go.
   */
  async follow(share = followed, group = alone): Promise<void> {
    const layers = this.layers.filter((layer) => layer !== undefined);
    if (layers.length === 0) return;
    const all = await group.gather('means', await Promise.all(layers.map((layer) => layer.takeDeviations())));
    for (const [i, layer] of layers.entries()) {
      const deviations = all.flatMap((ofRank) => ofRank[i]);
      if (deviations.length > 0) layer.follow(deviations, share);
    }
  }

  /** Does `work` on the plain layers: what is measured, and what others get. */
  async folded<Result>(work: () => Promise<Result>): Promise<Result> {
    const folds = this.layers.flatMap((layer) => (layer?.weights ?? []).map((weights) => ({ ...weights, mean: layer!.mean })));
    const kept = await Promise.all(folds.map(({ bias: { value } }) => value.device.read(value)));
    try {
      for (const [i, { layers }] of this.encoder.blocks.entries()) layers.feedforward = this.layers[i]?.layer ?? layers.feedforward;
      for (const [i, { weight, bias, mean }] of folds.entries()) {
        const [{ values }] = await exportParameter(weight);
        bias.value.device.write(bias.value, foldedBiases(values, kept[i], mean));
      }
      return await work();
    } finally {
      for (const [i, { bias }] of folds.entries()) bias.value.device.write(bias.value, kept[i]);
      this.center();
    }
  }

  /** Of each block's layer, in the order of the blocks; null where it is plain. A resumed run goes on with those it had. */
  get means(): (number[] | null)[] {
    return this.layers.map((layer) => (layer ? Array.from(layer.mean) : null));
  }

  set means(means: (number[] | null)[]) {
    for (const [i, layer] of this.layers.entries()) if (layer) layer.mean = Float64Array.from(means[i] as number[]);
  }

  dispose(): void {
    for (const layer of this.layers) layer?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private center(): void {
    for (const [i, { layers }] of this.encoder.blocks.entries()) layers.feedforward = this.layers[i] ?? layers.feedforward;
  }
}
