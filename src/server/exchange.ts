/** One request on its way: the model it asks for, its texts' permits, what it took. */
import { quoted } from '../errors.ts';
import type { CallTiming, TimingCallback } from '../pipelines/text_pipeline.ts';
import { RequestError } from './errors.ts';
import type { Log } from './log.ts';
import type { Method, Metrics, Work } from './metrics.ts';
import type { Permits } from './permits.ts';
import type { ModelKind, ModelOf, ServedModel } from './served_model.ts';
import type { ServerSettings } from './settings.ts';

/** What all requests share. */
export interface Shared {
  settings: ServerSettings;
  models: readonly ServedModel[];
  permits: Permits;
  /** Bytes of bodies that are being read. */
  bodies: Permits;
  metrics: Metrics;
  log: Log;
}

/** Options of a pipeline's call that every request sets. */
export interface CallControl {
  signal: AbortSignal;
  timing_callback: TimingCallback;
}

/** Numbers of an answer: of more, a server's memory would be one client's. */
const maxNumbers = 2 ** 24;

export class Exchange {
  readonly began = performance.now();
  /** Of all calls of pipelines; undefined before the first. */
  timing: CallTiming | undefined;
  characters = 0;
  model: ServedModel | undefined;
  private counted: { method: Method; work: Work | undefined } | undefined;

  constructor(
    readonly shared: Shared,
    readonly signal: AbortSignal,
    readonly id: string,
  ) {}

  /**
   * The model of that name, among those of the kinds; without a name the first of them. Where there is but one, another name for it is only
   * noted, as clients of OpenAI's have names of their own.
   * @throws RequestError if there is none
   */
  modelFor<Kind extends ModelKind>(kinds: readonly Kind[], name?: string | null): ModelOf<Kind> {
    const { models, log, metrics } = this.shared;
    const fit = models.filter(({ kind }) => kinds.includes(kind as Kind));
    const named = models.find((model) => model.name === name);
    if (fit.length === 0 || (named && !fit.includes(named))) {
      metrics.failed('model_type');
      const served = (named ? [named] : models).map((model) => `${model.name} (${model.kind})`);
      throw new RequestError('Backend', `this route needs a model of the kind ${kinds.join(' or ')}: served is ${served.join(', ')}`, {
        reason: 'model_type',
      });
    }
    if (!named && typeof name === 'string' && name !== '') {
      if (fit.length > 1)
        throw new RequestError(
          'Validation',
          `\`model\`: got ${quoted(name)}, expected one of ${fit.map((model) => model.name).join(', ')}`,
        );
      log('warn', 'another model is asked for than is served', { request_id: this.id, served: fit[0].name });
    }
    this.model = named ?? fit[0];
    return this.model as ModelOf<Kind>;
  }

  /**
   * Does work of a pipeline for some texts, within the limits.
   * @param texts as a request has them, and how many numbers their answer has at most
   * @throws RequestError if there are too many at a time, or the answer would be too long
   */
  async call<Answer>(
    { texts, method, work, numbers }: { texts: readonly unknown[]; method: Method; work?: Work; numbers?: number },
    ask: (control: CallControl) => Promise<Answer>,
  ): Promise<Answer> {
    const release = this.begin({ texts, method, work, numbers });
    try {
      return await ask({ signal: this.signal, timing_callback: (timing) => this.took(timing) });
    } finally {
      release();
    }
  }

  /** As {@link call}, for work that goes on: to be ended by what is returned. */
  begin({ texts, method, work, numbers = 0 }: { texts: readonly unknown[]; method: Method; work?: Work; numbers?: number }): () => void {
    const { permits, metrics, settings } = this.shared;
    if (!this.counted) {
      this.counted = { method, work };
      metrics.requested(method);
    }
    if (numbers > maxNumbers)
      throw new RequestError(
        'Validation',
        `${texts.length} texts: their answer has ${numbers} numbers, expected at most ${maxNumbers}: split the request`,
        { reason: 'batch_size' },
      );
    // A long list takes no more than its share: its batches take turns with those of others.
    const share = Math.min(texts.length, settings.maxClientBatchSize, permits.limit);
    if (!permits.take(share))
      throw new RequestError('Overloaded', `the server has ${permits.limit} texts under way, as many as it takes: try again later`);
    metrics.asked(work, texts.length);
    for (const text of texts) this.characters += lengthOf(text);
    let held = true;
    return () => {
      if (held) permits.give(share);
      held = false;
    };
  }

  /** To be called when the answer is ready to be sent. */
  answered(): void {
    if (!this.counted) return;
    const { method, work } = this.counted;
    this.shared.metrics.answered(method, work, this.timing ?? { tokenization: 0, texts: [] }, performance.now() - this.began);
  }

  get tokens(): number {
    return this.timing?.texts.reduce((sum, { tokens }) => sum + tokens, 0) ?? 0;
  }

  /** Adds what a call took. */
  took({ tokenization, texts }: CallTiming): void {
    const before = this.timing ?? { tokenization: 0, texts: [] };
    this.timing = { tokenization: before.tokenization + tokenization, texts: [...before.texts, ...texts] };
  }
}

/** Characters of a text, of a pair, or of whatever holds them; token ids have none. */
function lengthOf(text: unknown): number {
  if (typeof text === 'string') return text.length;
  return Array.isArray(text) ? text.reduce<number>((sum, each) => sum + (typeof each === 'string' ? each.length : 0), 0) : 0;
}
