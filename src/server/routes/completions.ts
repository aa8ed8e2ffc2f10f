/** OpenAI's routes for texts that are written. */
import * as v from 'valibot';
import type { Chat } from '../../generation/chat.ts';
import type { GenerationEnd, GenerationPrompt, TextGenerationOptions } from '../../pipelines/text_generation.ts';
import { EventStream } from '../event_stream.ts';
import type { Exchange } from '../exchange.ts';
import { route } from '../route.ts';
import { count, either, fields, flag, list, modelName, texts } from '../schemas.ts';
import type { ModelOf } from '../served_model.ts';

const between = (least: number, most: number, description: string) =>
  v.pipe(v.number(), v.minValue(least, `${least} to ${most}`), v.maxValue(most, `${least} to ${most}`), v.description(description));

const settings = {
  temperature: v.nullish(between(0, 2, 'How freely tokens are drawn; 0: always the most probable.'), 1),
  top_p: v.nullish(between(0, 1, 'Tokens are drawn among the most probable ones that have so much probability together.'), 1),
  n: v.nullish(v.pipe(count('Texts for each prompt.'), v.maxValue(16, 'at most 16')), 1),
  stop: v.nullish(
    v.pipe(
      either('a string or an array of strings', v.pipe(v.string(), v.nonEmpty()), texts),
      v.description('Ends a text before the first of these.'),
    ),
  ),
  seed: v.nullish(
    v.pipe(v.number(), v.integer('a whole number'), v.minValue(0), v.maxValue(2 ** 32 - 1), v.description('The same seed, the same text.')),
  ),
  stream: flag(false, 'Send the text in pieces, as server-sent events.'),
  stream_options: v.nullish(fields({ include_usage: flag(false, 'A last event with the tokens.') })),
  model: modelName,
  user: v.nullish(v.string()),
};
type Settings = v.InferOutput<ReturnType<typeof fields<typeof settings>>>;

const usage = v.object({ prompt_tokens: v.number(), completion_tokens: v.number(), total_tokens: v.number() });
const finishReason = v.pipe(v.string(), v.description("'stop', or 'length' if there were as many tokens as asked for."));
const answerOf = <Entries extends v.ObjectEntries>(object: string, choice: Entries) =>
  v.object({
    id: v.string(),
    object: v.literal(object),
    created: v.number(),
    model: v.string(),
    choices: v.array(v.object({ index: v.number(), ...choice, finish_reason: finishReason })),
    usage,
  });

/** What the two routes have differently. */
interface Form {
  id: string;
  /** Of a whole answer, and of an event. */
  objects: readonly [string, string];
  /** What a choice has of a text. */
  whole(text: string): object;
  piece(text: string, isFirst: boolean): object;
}

const completion: Form = {
  id: 'cmpl',
  objects: ['text_completion', 'text_completion'],
  whole: (text) => ({ text, logprobs: null }),
  piece: (text) => ({ text, logprobs: null }),
};
const chat: Form = {
  id: 'chatcmpl',
  objects: ['chat.completion', 'chat.completion.chunk'],
  whole: (content) => ({ message: { role: 'assistant', content } }),
  piece: (content, isFirst) => ({
    delta: { ...(isFirst ? { role: 'assistant' } : {}), ...(content === '' && !isFirst ? {} : { content }) },
  }),
};

export const completionsRoute = route({
  paths: ['/v1/completions'],
  summary: 'What the model writes on from a text',
  kinds: ['decoder'],
  body: fields({
    prompt: either('a string or an array of strings', v.string(), list(v.string())),
    max_tokens: v.nullish(count('Tokens to write, at most.'), 16),
    echo: flag(false, 'The prompt stands before what is written.'),
    ...settings,
  }),
  answer: answerOf('text_completion', { text: v.string(), logprobs: v.null() }),
  example: { prompt: 'Once upon a time', max_tokens: 8, temperature: 0 },
  handle: ({ prompt, max_tokens, echo, ...asked }, exchange) =>
    answer(completion, typeof prompt === 'string' ? [prompt] : prompt, { ...asked, max_tokens, echo }, exchange),
});

export const chatRoute = route({
  paths: ['/v1/chat/completions'],
  summary: 'The next message of a conversation',
  kinds: ['decoder'],
  body: fields({
    messages: list(fields({ role: v.string(), content: v.string() })),
    max_tokens: v.nullish(count('Tokens to write, at most; by default as many as there is room for.')),
    max_completion_tokens: v.nullish(count('The same by its later name.')),
    ...settings,
  }),
  answer: answerOf('chat.completion', { message: v.object({ role: v.literal('assistant'), content: v.string() }) }),
  example: { messages: [{ role: 'user', content: 'Who are you?' }], max_tokens: 8 },
  handle: ({ messages, max_tokens, max_completion_tokens, ...asked }, exchange) => {
    const model = exchange.modelFor(['decoder'], asked.model);
    const most = max_completion_tokens ?? max_tokens ?? model.config.maxPositionEmbeddings;
    return answer(chat, [messages as Chat], { ...asked, max_tokens: most, echo: false }, exchange);
  },
});

async function answer(
  form: Form,
  prompts: readonly GenerationPrompt[],
  asked: Settings & { max_tokens: number; echo: boolean },
  exchange: Exchange,
): Promise<unknown> {
  const model = exchange.modelFor(['decoder'], asked.model);
  const options = optionsOf(asked, exchange.signal);
  const release = exchange.begin({ texts: prompts, method: prompts.length === 1 ? 'single' : 'batch' });
  const frame = { id: `${form.id}-${exchange.id}`, created: Math.floor(Date.now() / 1000), model: model.name };
  if (asked.stream) return new EventStream(pieces(form, model, prompts, { ...asked, options, frame, release }, exchange));
  try {
    const began = performance.now();
    const more = { num_return_sequences: asked.n, return_full_text: asked.echo };
    const answers = await model.generate(prompts as readonly string[], { ...options, ...more });
    const ends = answers.flat();
    exchange.took({ tokenization: 0, texts: [{ ...timesOf(ends, performance.now() - began) }] });
    return {
      ...frame,
      object: form.objects[0],
      choices: ends.map(({ generated_text, finish_reason }, index) => ({ index, ...form.whole(generated_text), finish_reason })),
      usage: usageOf(ends, asked.n),
    };
  } finally {
    release();
  }
}

interface Written {
  n: number;
  echo: boolean;
  stream_options?: { include_usage: boolean } | null;
  options: TextGenerationOptions;
  frame: { id: string; created: number; model: string };
  release: () => void;
}

/** The events of texts, one text after the other. */
async function* pieces(
  form: Form,
  { generate }: ModelOf<'decoder'>,
  prompts: readonly GenerationPrompt[],
  { n, echo, stream_options, options, frame, release }: Written,
  exchange: Exchange,
): AsyncGenerator<unknown, void> {
  const began = performance.now();
  const ends: GenerationEnd[] = [];
  const event = (index: number, choice: object, finish_reason: string | null) => ({
    ...frame,
    object: form.objects[1],
    choices: [{ index, ...choice, finish_reason }],
  });
  try {
    for (const [at, prompt] of prompts.entries())
      for (let sequence = 0; sequence < n; sequence++) {
        const index = at * n + sequence;
        const stream = generate.stream(prompt, { ...options, sequence });
        let isFirst = true;
        if (echo && typeof prompt === 'string') yield event(index, form.piece(prompt, true), null);
        try {
          for (let done = false; !done; isFirst = false) {
            const next = await stream.next();
            done = next.done === true;
            yield event(index, form.piece(next.done ? '' : next.value, isFirst), next.done ? next.value.finish_reason : null);
            if (next.done) ends.push(next.value);
          }
        } finally {
          // Whoever reads no more wants nothing more to be written.
          await stream.return(undefined as never);
        }
      }
    if (stream_options?.include_usage) yield { ...frame, object: form.objects[1], choices: [], usage: usageOf(ends, n) };
    exchange.took({ tokenization: 0, texts: [timesOf(ends, performance.now() - began)] });
    exchange.answered();
  } finally {
    release();
  }
}

function optionsOf(
  { max_tokens, temperature, top_p, stop, seed }: Settings & { max_tokens: number },
  signal: AbortSignal,
): TextGenerationOptions {
  const drawn = temperature > 0 && top_p > 0;
  return {
    max_new_tokens: max_tokens,
    // All tokens may be drawn: top_k is none of OpenAI's.
    ...(drawn
      ? { do_sample: true, temperature, top_p, top_k: 0, seed: seed ?? crypto.getRandomValues(new Uint32Array(1))[0] }
      : { do_sample: false }),
    ...(stop ? { stop_strings: stop } : {}),
    signal,
  };
}

function usageOf(ends: readonly GenerationEnd[], n: number) {
  // Texts of one prompt read it once.
  const prompt_tokens = ends.reduce((sum, end, i) => sum + (i % n === 0 ? end.prompt_tokens : 0), 0);
  const completion_tokens = ends.reduce((sum, end) => sum + end.generated_tokens, 0);
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
}

const timesOf = (ends: readonly GenerationEnd[], inference: number) => ({
  tokens: usageOf(ends, 1).total_tokens,
  truncated: 0,
  queue: 0,
  inference,
});
