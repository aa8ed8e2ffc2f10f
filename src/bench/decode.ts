/** How fast a decoder writes: tokens a second with trees and with dense layers, over a cache, as it is used. */
import type { Device } from '../backend/device.ts';
import type { Precision } from '../backend/prepared_weight.ts';
import type { CausalLanguageModel } from '../models/causal_language_model.ts';
import { createCausalLanguageModel } from '../models/checkpoint.ts';
import { describeFeedforward, type FeedforwardConfig, type ModelConfig, neuronsOf } from '../models/config.ts';
import { gptConfig } from '../models/families/gpt2.ts';
import type { KeyValueCache } from '../models/key_value_cache.ts';
import { decoderGraph } from '../models/onnx_decoder.ts';
import { Session } from '../models/session.ts';
import { type Contestant, contest } from './contest.ts';
import type { OnnxRuntime } from './peers.ts';
import type { Timing } from './timing.ts';
import { largestError } from './work.ts';

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
  /** Set beside ours with the same dense weights. */
  onnxRuntime?: OnnxRuntime;
}

export interface DecodeRow {
  name: string;
  dtype: Precision;
  batch: number;
  /** Largest difference of the logits behind the prompt from ours in f32, over the largest of these. */
  error: number;
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
  const models: MeasuredModel[] = [];
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

interface MeasuredModel {
  name: string;
  dtype: Precision;
  model: CausalLanguageModel;
  bytes: number;
}

/** One that takes part. */
interface Participant {
  name: string;
  dtype: Precision;
  bytes: number;
  /** Behind the prompt, [vocabulary]; `expected`: of the same weights in f32. */
  logits: Float32Array;
  expected: Float32Array;
  /** A time of it is that of a token of each text. */
  writing: Contestant;
  reading: Contestant;
  release?(): Promise<void>;
}

/** Numbers of the weights that one token's products read: its rows of the embeddings, norms and biases left out. */
export function weightsRead({ hiddenSize, numHiddenLayers, vocabSize, feedforward }: ModelConfig): number {
  return numHiddenLayers * (4 * hiddenSize ** 2 + 2 * hiddenSize * neuronsOf(feedforward).used) + vocabSize * hiddenSize;
}

async function measure(
  device: Device,
  options: DecodeBenchmarkOptions,
  models: readonly MeasuredModel[],
  batch: number,
): Promise<DecodeRow[]> {
  using session = new Session(device);
  const participants: Participant[] = [];
  /** Of each kind of feedforward layer, by the model that has it in f32. */
  const expected = new Map<string, Float32Array>();
  try {
    for (const { name, dtype, model, bytes } of models) {
      const writer = await Writer.open(session, model, batch, options);
      const { logits, writing, reading } = writer;
      if (!expected.has(name)) expected.set(name, dtype === 'f32' ? logits : await exactLogits(device, model.config, options));
      participants.push({ name, dtype, bytes, logits, expected: expected.get(name) as Float32Array, writing, reading });
    }
    participants.push(...(await peers(device, options, models, batch, expected)));
    const timings = await contest(
      participants.flatMap(({ writing, reading }) => [writing, reading]),
      options,
    );
    return participants.map(({ name, dtype, bytes, logits, expected }, index) => {
      const [{ median, low, high }, promptMilliseconds] = timings.slice(2 * index, 2 * index + 2);
      const rate = (milliseconds: number) => (1000 * batch) / milliseconds;
      const tokensPerSecond = { median: rate(median), low: rate(high), high: rate(low) };
      const error = largestError(name, logits, expected);
      return { name, dtype, batch, error, tokensPerSecond, promptMilliseconds, bytes, bandwidth: bytes / median / 1e6 };
    });
  } finally {
    for (const { release } of participants) await release?.();
  }
}

/** Of a model with the same weights in f32, behind the prompt. */
async function exactLogits(device: Device, config: ModelConfig, options: DecodeBenchmarkOptions): Promise<Float32Array> {
  using model = createCausalLanguageModel(config, device, 0);
  using session = new Session(device);
  return (await Writer.open(session, model, 1, options)).logits;
}

/** onnxruntime with the dense weights, in the precisions that it has. */
async function peers(
  device: Device,
  { onnxRuntime, prompt: length, written }: DecodeBenchmarkOptions,
  models: readonly MeasuredModel[],
  batch: number,
  expected: ReadonlyMap<string, Float32Array>,
): Promise<Participant[]> {
  const found: Participant[] = [];
  for (const { name, dtype, model, bytes } of models) {
    if (!onnxRuntime || dtype === 'bf16' || model.config.feedforward.kind !== 'dense') continue;
    const { config } = model;
    const graph = await (async () => {
      using plain = createCausalLanguageModel(config, device, 0);
      return await decoderGraph(plain, dtype);
    })();
    const decoder = await onnxRuntime.decoder(graph, device.threads, batch);
    const prompt = promptOf(config, length);
    const rest = () => decoder.rest();
    const all = await decoder.step(new Array(batch).fill(prompt));
    const logits = all.slice((length - 1) * config.vocabSize, length * config.vocabSize);
    decoder.mark();
    let tokens = firstTokens(config, batch);
    const writing: Contestant = {
      async run(times) {
        for (let i = 0; i < times; i++) {
          if (decoder.past === length + written || decoder.past < length) {
            decoder.reset();
            tokens = firstTokens(config, batch);
          }
          tokens = mostProbable(await decoder.step(tokens.map((token) => [token])), batch);
        }
      },
      rest,
    };
    // A prompt of its own, read from the beginning.
    const reader = await onnxRuntime.decoder(graph, device.threads, 1);
    const reading: Contestant = {
      async run(times) {
        for (let i = 0; i < times; i++) {
          reader.reset();
          await reader.step([prompt]);
        }
      },
      rest,
    };
    const release = async () => {
      await decoder.release();
      await reader.release();
    };
    found.push({
      name: `${onnxRuntime.name} ${describeFeedforward(config.feedforward)}`,
      dtype,
      bytes,
      logits,
      expected: expected.get(name) as Float32Array,
      writing,
      reading,
      release,
    });
  }
  return found;
}

const promptOf = ({ vocabSize }: ModelConfig, length: number) => Array.from({ length }, (_, i) => (i * 7919) % vocabSize);
const firstTokens = ({ vocabSize }: ModelConfig, batch: number) => Array.from({ length: batch }, (_, row) => (row * 104_729) % vocabSize);

/** The token of each text that has the largest of its logits. */
function mostProbable(logits: Float32Array, batch: number): number[] {
  const vocabulary = logits.length / batch;
  return Array.from({ length: batch }, (_, row) => largest(logits.subarray(row * vocabulary, (row + 1) * vocabulary)));
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
    /** Behind the prompt, [vocabulary]. */
    readonly logits: Float32Array,
    private readonly batch: number,
    private readonly written: number,
  ) {}

  static async open(
    session: Session,
    model: CausalLanguageModel,
    batch: number,
    { prompt: length, written }: DecodeBenchmarkOptions,
  ): Promise<Writer> {
    const prompt = promptOf(model.config, length);
    const maxLength = length + written;
    const cache = session.createCache(model, { batch: batch + 1, maxLength });
    cache.select([0]);
    const empty = session.createCache(model, { batch: 2, maxLength: length });
    const logits = await session.pass((context) => context.device.read(model.step(context, [prompt], cache)));
    return new Writer(session, model, cache, empty, prompt, logits, batch, written);
  }

  readonly writing: Contestant = {
    run: async (times) => {
      for (let i = 0; i < times; i++) {
        if (this.left === 0) {
          this.cache.select([0, ...new Array<number>(this.batch).fill(0)]);
          this.tokens = firstTokens(this.model.config, this.batch);
          this.left = this.written;
        }
        const logits = await this.step([[], ...this.tokens.map((token) => [token])], this.cache);
        this.tokens = mostProbable(logits, this.batch);
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
