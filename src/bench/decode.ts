/** How fast a decoder writes: tokens a second with trees and with dense layers, over a cache, as it is used. */
import type { Device } from '../backend/device.ts';
import type { Precision } from '../backend/prepared_weight.ts';
import type { CausalLanguageModel } from '../models/causal_language_model.ts';
import { createCausalLanguageModel } from '../models/checkpoint.ts';
import { describeFeedforward, type FeedforwardConfig, type ModelConfig, neuronsOf } from '../models/config.ts';
import { gptConfig } from '../models/families/gpt2.ts';
import type { KeyValueCache } from '../models/key_value_cache.ts';
import { Session } from '../models/session.ts';
import { type Contestant, contest } from './contest.ts';
import type { Timing } from './timing.ts';
import { checkFinite } from './work.ts';

export interface DecodeBenchmarkOptions {
  /** GPT-2's shape; its feedforward part is `feedforwards` in turn. */
  shape: Pick<ModelConfig, 'vocabSize' | 'hiddenSize' | 'numHiddenLayers' | 'numAttentionHeads'>;
  feedforwards: readonly FeedforwardConfig[];
  /** Tokens of a prompt, which is read once, and of what is then written, again and again. */
  prompt: number;
  written: number;
  /** Texts written side by side. */
  batches: readonly number[];
  dtypes: readonly Precision[];
  rounds: number;
  roundMilliseconds: number;
}

export interface DecodeRow {
  name: string;
  dtype: Precision;
  batch: number;
  /** Of all texts together. */
  tokensPerSecond: Timing;
  /** To read one prompt. */
  promptMilliseconds: Timing;
  /** Of weights that one token reads, and the rate at which one text's tokens then read them, in 10^9 bytes a second. */
  bytes: number;
  bandwidth: number;
}

const bytesOf = { f32: 4, bf16: 2, i8: 1 } as const satisfies Record<Precision, number>;

/**
 * Times writing and reading of prompts for each kind of feedforward layer and precision by turns, with random weights. Tokens that are written are the
 * most probable ones: logits are read and looked through, as in use.
 */
export async function benchmarkDecode(device: Device, options: DecodeBenchmarkOptions): Promise<DecodeRow[]> {
  const { shape, prompt, written } = options;
  const rows: DecodeRow[] = [];
  const models: { name: string; dtype: Precision; model: CausalLanguageModel; bytes: number }[] = [];
  try {
    for (const feedforward of options.feedforwards) {
      const config = gptConfig({ ...shape, maxPositionEmbeddings: prompt + written, feedforward });
      for (const dtype of options.dtypes) {
        const model = createCausalLanguageModel(config, device, 0);
        models.push({ name: `ours ${describeFeedforward(feedforward)}`, dtype, model, bytes: weightsRead(config) * bytesOf[dtype] });
        for (const parameter of model.parameters) parameter.prepare(dtype);
      }
    }
    for (const batch of options.batches) rows.push(...(await measure(device, options, models, batch)));
    return rows;
  } finally {
    for (const { model } of models) model.dispose();
  }
}

/** Numbers of the weights that one token's products read: its rows of the embeddings, norms and biases left out. */
export function weightsRead({ hiddenSize, numHiddenLayers, vocabSize, feedforward }: ModelConfig): number {
  return numHiddenLayers * (4 * hiddenSize ** 2 + 2 * hiddenSize * neuronsOf(feedforward).used) + vocabSize * hiddenSize;
}

async function measure(
  device: Device,
  options: DecodeBenchmarkOptions,
  models: readonly { name: string; dtype: Precision; model: CausalLanguageModel; bytes: number }[],
  batch: number,
): Promise<DecodeRow[]> {
  using session = new Session(device);
  const writers = [];
  for (const { model } of models) writers.push(await Writer.open(session, model, batch, options));
  const timings = await contest(
    writers.flatMap((writer) => [writer.writing, writer.reading]),
    options,
  );
  return models.map(({ name, dtype, bytes }, index) => {
    const [{ median, low, high }, promptMilliseconds] = timings.slice(2 * index, 2 * index + 2);
    // A contestant's time is that of a token of each text.
    const rate = (milliseconds: number) => (1000 * batch) / milliseconds;
    const tokensPerSecond = { median: rate(median), low: rate(high), high: rate(low) };
    return { name, dtype, batch, tokensPerSecond, promptMilliseconds, bytes, bandwidth: bytes / median / 1e6 };
  });
}

/** Writes on from one prompt, over and over. */
class Writer {
  private tokens: number[] = [];
  private left = 0;

  private constructor(
    private readonly session: Session,
    private readonly model: CausalLanguageModel,
    /** Its first row has the prompt, and stays so. */
    private readonly cache: KeyValueCache,
    /** Its first row is empty. */
    private readonly empty: KeyValueCache,
    private readonly prompt: readonly number[],
    private readonly batch: number,
    private readonly written: number,
  ) {}

  static async open(
    session: Session,
    model: CausalLanguageModel,
    batch: number,
    { prompt: length, written }: DecodeBenchmarkOptions,
  ): Promise<Writer> {
    const prompt = Array.from({ length }, (_, i) => (i * 7919) % model.config.vocabSize);
    const maxLength = length + written;
    const cache = session.createCache(model, { batch: batch + 1, maxLength });
    cache.select([0]);
    const empty = session.createCache(model, { batch: 2, maxLength: length });
    const writer = new Writer(session, model, cache, empty, prompt, batch, written);
    const logits = await writer.step([prompt], cache);
    checkFinite(`${describeFeedforward(model.config.feedforward)}`, logits);
    return writer;
  }

  readonly writing: Contestant = {
    run: async (times) => {
      for (let i = 0; i < times; i++) {
        if (this.left === 0) {
          this.cache.select([0, ...new Array<number>(this.batch).fill(0)]);
          this.tokens = Array.from({ length: this.batch }, (_, row) => (row * 104_729) % this.model.config.vocabSize);
          this.left = this.written;
        }
        const logits = await this.step([[], ...this.tokens.map((token) => [token])], this.cache);
        const { vocabSize } = this.model.config;
        this.tokens = this.tokens.map((_, row) => largest(logits.subarray(row * vocabSize, (row + 1) * vocabSize)));
        this.left--;
      }
    },
  };

  readonly reading: Contestant = {
    run: async (times) => {
      for (let i = 0; i < times; i++) {
        this.empty.select([0, 0]);
        await this.step([[], this.prompt], this.empty);
      }
    },
  };

  private step(tokens: readonly (readonly number[])[], cache: KeyValueCache): Promise<Float32Array> {
    return this.session.pass((context) => context.device.read(this.model.step(context, tokens, cache)));
  }
}

function largest(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  return best;
}
