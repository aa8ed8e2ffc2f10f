/** Metrics by the names that text-embeddings-inference has, for Prometheus. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { CallTiming } from '../pipelines/text_pipeline.ts';
import type { FailureReason } from './errors.ts';

const seconds = Array.from({ length: 35 }, (_, k) => 1e-5 * 1.5 ** k);
const sizes = Array.from({ length: 21 }, (_, k) => 2 ** k);

/** What is done to a text, in metrics' names; what else is done has the request's alone. */
export type Work = 'embed' | 'predict';
/** Whether a request has one text or a list of them. */
export type Method = 'single' | 'batch';

export type Metrics = ReturnType<typeof createMetrics>;

/** @param queued texts that wait, whenever it is asked for */
export function createMetrics(queued: () => number) {
  const register = new Registry();
  collectDefaultMetrics({ register });
  const registers = [register];
  const counter = <Label extends string>(name: string, help: string, labelNames: Label[] = []) =>
    new Counter({ name, help, labelNames, registers });
  const histogram = (name: string, help: string, buckets: number[]) => new Histogram({ name, help, buckets, registers });
  const durations = (of: string, what: string) => ({
    total: histogram(`te_${of}_duration`, `Seconds from a ${what}'s arrival to its answer`, seconds),
    tokenization: histogram(`te_${of}_tokenization_duration`, `Seconds of a ${what}'s tokenization`, seconds),
    queue: histogram(`te_${of}_queue_duration`, `Seconds that a ${what} waited for its pass`, seconds),
    inference: histogram(`te_${of}_inference_duration`, `Seconds of the pass of a ${what}`, seconds),
  });
  const count = counter('te_request_count', 'Requests for answers', ['method']);
  const success = counter('te_request_success', 'Requests that were answered', ['method']);
  const failure = counter('te_request_failure', 'Requests that were not answered, by the reason', ['err']);
  const ofRequest = durations('request', 'request');
  const ofWork = {
    embed: { ...worked('embed'), ...durations('embed', 'text that is embedded') },
    predict: { ...worked('predict'), ...durations('predict', 'text that is classified') },
  };
  const inputLength = histogram('te_request_input_length', 'Tokens of a text', sizes);
  const batchTexts = histogram('te_batch_next_size', 'Texts of a batch', sizes);
  const batchTokens = histogram('te_batch_next_tokens', 'Tokens of a batch, padding included', sizes);
  new Gauge({
    name: 'te_queue_size',
    help: 'Texts that wait for their pass',
    registers,
    collect() {
      this.set(queued());
    },
  });
  function worked(work: Work) {
    return {
      count: counter(`te_${work}_count`, `Texts to ${work}`),
      success: counter(`te_${work}_success`, `Texts that were answered`),
    };
  }
  return {
    requested: (method: Method) => count.inc({ method }),
    failed: (err: FailureReason) => failure.inc({ err }),
    batched({ texts, tokens }: { texts: number; tokens: number }) {
      batchTexts.observe(texts);
      batchTokens.observe(tokens);
    },
    asked: (work: Work | undefined, texts: number) => work && ofWork[work].count.inc(texts),
    /** A request that was answered. `milliseconds`: in all. */
    answered(method: Method, work: Work | undefined, timing: CallTiming, milliseconds: number) {
      success.inc({ method });
      const { texts } = timing;
      const share = timing.tokenization / Math.max(texts.length, 1);
      ofRequest.total.observe(milliseconds / 1000);
      ofRequest.tokenization.observe(timing.tokenization / 1000);
      ofRequest.queue.observe(mean(texts.map(({ queue }) => queue)) / 1000);
      ofRequest.inference.observe(mean(texts.map(({ inference }) => inference)) / 1000);
      for (const { tokens, queue, inference } of texts) {
        inputLength.observe(tokens);
        if (!work) continue;
        const { success: done, total, tokenization, queue: waited, inference: computed } = ofWork[work];
        done.inc();
        total.observe((share + queue + inference) / 1000);
        tokenization.observe(share / 1000);
        waited.observe(queue / 1000);
        computed.observe(inference / 1000);
      }
    },
    contentType: register.contentType,
    text: () => register.metrics(),
  };
}

export const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);
