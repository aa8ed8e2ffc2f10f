import { type Command, Option } from 'commander';
import { InputError, printable, printableLines } from '../../errors.ts';
import type { Chat } from '../../generation/chat.ts';
import type { GenerationEnd, TextGenerationOptions, TextGenerationPipeline } from '../../pipelines/text_generation.ts';
import {
  addCommonOptions,
  addDeviceOptions,
  addModelOption,
  addPrecisionOption,
  type InferenceOptions,
  notice,
  openDevice,
  openPipeline,
  parseCount,
  parseInteger,
  parseNumber,
  parsePositive,
  print,
  printJson,
  style,
} from '../common.ts';
import { groupOptions } from '../help.ts';
import { areWords, Refusals } from '../sentences.ts';

interface GenerateOptions extends InferenceOptions {
  maxNewTokens: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  seed?: number;
  repetitionPenalty?: number;
  stop?: string[];
  count: number;
  chat?: boolean;
  system?: string;
}

/** What was written to one prompt. */
interface Written extends GenerationEnd {
  text: string;
}

export function generateCommand(program: Command): void {
  const command = program
    .command('generate')
    .description('write on from a text, printed as it comes')
    .argument('[prompts...]', "texts to go on from; '-', or none: all of standard input is one")
    .option('--max-new-tokens <count>', 'tokens to write, at most', parseInteger, 100)
    .option(
      '--temperature <number>',
      'draw tokens, by probabilities that below 1 favor the likely ones; 0: always the most probable',
      parseNumber,
    )
    .option('-k, --top-k <count>', 'draw among so many of the most probable; 0: all', parseInteger)
    .option('--top-p <share>', 'draw among the most probable that have this probability together', parsePositive)
    .option('--seed <number>', 'of what is drawn: the same seed, the same text (default: another each time)', parseInteger)
    .option('--repetition-penalty <factor>', 'above 1: tokens that are in the text already become less probable', parsePositive)
    .option('--stop <text...>', 'end before the first of these texts')
    .option('--count <texts>', 'texts for each prompt; several are drawn', parseCount, 1)
    .addOption(new Option('--chat', 'the prompt is what a user says: answer it by the chat template of the model'))
    .addOption(new Option('--system <text>', 'with --chat: what the model is told before').implies({ chat: true }));
  addPrecisionOption(addModelOption(addDeviceOptions(addCommonOptions(command)), 'a decoder, a GPT-2 say', { mandatory: false }));
  groupOptions(command, {
    'What is written:': '--model --revision --max-new-tokens --stop --count --chat --system',
    'How tokens are drawn (with any of these they are; else as the model says, or the most probable):':
      '--temperature --top-k --top-p --seed',
    'Also:': '--repetition-penalty --json --quiet',
    'What computes:': '--device --threads --dtype',
  });
  command
    .addHelpText(
      'after',
      '\nExamples:\n  ufb generate --model my-decoder "The river"\n  echo "The river" | ufb generate --model my-decoder --temperature 0.8 --seed 1',
    )
    .action(generate);
}

async function generate(prompts: string[], options: GenerateOptions): Promise<void> {
  if (areWords(prompts))
    throw new InputError(
      `the ${prompts.length} arguments are one word each, expected texts in quotes: ufb generate "${prompts.join(' ').slice(0, 200)}"`,
    );
  if (options.model === undefined)
    throw new InputError(
      "--model is missing: no model that writes ships with the program yet; name a folder that 'ufb pretrain --objective causal' made, or a decoder of the Hugging Face hub, distilbert/distilgpt2 say",
    );
  const start = performance.now();
  using device = await openDevice(options);
  const generator = await openPipeline('text-generation', device, options);
  try {
    const loaded = performance.now() - start;
    const answers: { prompt: string; texts: Written[] }[] = [];
    const refusals = new Refusals();
    const speed = new Speed();
    for (const { text, name } of await promptsOf(prompts)) {
      try {
        const texts = await answer(generator, text, options, speed);
        if (options.json) answers.push({ prompt: text, texts });
      } catch (error) {
        refusals.add(name, error);
      }
    }
    const { json } = speed;
    if (options.json)
      printJson({ device: device.name, description: device.description, loadMilliseconds: loaded, ...json, answers, ...refusals.json });
    else if (speed.tokens > 0) notice(`${speed.line}; ${device.name} backend (${device.description})`, options);
    refusals.finish(speed.texts, options);
  } finally {
    await generator.dispose();
  }
}

/** Prompts with what messages call them. A line end at the end of standard input is none of the text. */
async function promptsOf(prompts: readonly string[]): Promise<{ text: string; name: string }[]> {
  const all = prompts.length === 0 ? ['-'] : prompts;
  const texts: { text: string; name: string }[] = [];
  for (const [index, prompt] of all.entries()) {
    const text = prompt === '-' ? (await standardInput()).replace(/\r?\n$/, '') : prompt;
    texts.push({ text, name: all.length === 1 ? 'the text' : `text ${index + 1}` });
  }
  return texts;
}

async function standardInput(): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const bytes of process.stdin) text += decoder.decode(bytes as Uint8Array, { stream: true });
  return text + decoder.decode();
}

/** Writes what goes on from a prompt, or answers it, and prints it as it comes, unless it goes into JSON. */
async function answer(generator: TextGenerationPipeline, text: string, options: GenerateOptions, speed: Speed): Promise<Written[]> {
  const { json, count, chat, system } = options;
  const messages: Chat | undefined = chat
    ? [...(system === undefined ? [] : [{ role: 'system', content: system }]), { role: 'user', content: text }]
    : undefined;
  const begin = () => {
    if (!json && !messages) process.stdout.write(style.bold(printableLines(text)));
  };
  const texts: Written[] = [];
  for (let index = 0; index < count; index++) {
    if (!json && index > 0) print();
    // What cannot be gone on with is told before anything is printed.
    let begun = false;
    const written = await speed.watch(generator.stream(messages ?? text, { ...asked(options), sequence: index }), async (piece) => {
      if (!begun) begin();
      begun = true;
      if (!json && !process.stdout.write(printableLines(piece))) await new Promise((resolve) => process.stdout.once('drain', resolve));
    });
    if (!begun) begin();
    if (!json) print();
    texts.push(written);
  }
  return texts;
}

function asked({ temperature, topK, topP, seed, count, ...options }: GenerateOptions): TextGenerationOptions {
  const draws = [temperature, topK, topP, seed].some((value) => value !== undefined) || count > 1;
  return {
    max_new_tokens: options.maxNewTokens,
    ...(draws && temperature !== 0 && { do_sample: true, temperature, top_k: topK, top_p: topP, seed }),
    ...(temperature === 0 && { do_sample: false }),
    repetition_penalty: options.repetitionPenalty,
    stop_strings: options.stop,
  };
}

/** How fast texts are written. */
class Speed {
  texts = 0;
  tokens = 0;
  private prompt = 0;
  /** ms, up to a text's first token and from there on. */
  private first = 0;
  private rest = 0;

  /** Hands the pieces of a text on as they come; returns all of it. */
  async watch(pieces: AsyncGenerator<string, GenerationEnd>, take: (piece: string) => Promise<void>): Promise<Written> {
    const start = performance.now();
    let first: number | undefined;
    let text = '';
    for (;;) {
      const { done, value } = await pieces.next();
      first ??= performance.now();
      if (done) {
        this.texts++;
        this.tokens += value.generated_tokens;
        this.prompt += value.prompt_tokens;
        this.first += first - start;
        this.rest += performance.now() - first;
        return { text, ...value };
      }
      text += value;
      await take(value);
    }
  }

  /** Tokens after each text's first, by the time that they took. */
  get tokensPerSecond(): number | undefined {
    const later = this.tokens - this.texts;
    return later > 0 && this.rest > 0 ? (1000 * later) / this.rest : undefined;
  }

  get json() {
    const { tokens, prompt, tokensPerSecond } = this;
    return { promptTokens: prompt, generatedTokens: tokens, firstTokenMilliseconds: this.first / Math.max(1, this.texts), tokensPerSecond };
  }

  get line(): string {
    const { tokensPerSecond } = this;
    const rate = tokensPerSecond === undefined ? '' : `, ${tokensPerSecond.toFixed(tokensPerSecond < 100 ? 1 : 0)} tokens/s`;
    return printable(`${this.tokens} tokens${rate}, the first after ${(this.first / this.texts).toFixed(0)} ms`);
  }
}
