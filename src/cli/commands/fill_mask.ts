import type { Command } from 'commander';
import { InputError, printable } from '../../errors.ts';
import type { FillMaskCandidate, FillMaskPipeline } from '../../pipelines/fill_mask.ts';
import {
  addInferenceOptions,
  type InferenceOptions,
  notice,
  openDevice,
  openPipeline,
  parseCount,
  print,
  printJson,
  style,
} from '../common.ts';
import { areWords, Refusals, sentencesOf } from '../sentences.ts';

/** Filled when no sentence is given. */
const ownSentences = [
  'She opened the [MASK] and looked out at the sea.',
  'The album was [MASK] in the United States in 2003.',
  'In the war the army was [MASK] by the enemy.',
  'The [MASK] crossed the river before the [MASK] began.',
];

interface FillMaskCommandOptions extends InferenceOptions {
  topK?: number;
  targets?: string[];
}

const defaultTopK = 5;

interface Answer {
  text: string;
  /** One list of candidates for each blank. */
  blanks: FillMaskCandidate[][];
  milliseconds: number;
}

export function fillMaskCommand(program: Command): void {
  const command = program
    .command('fill-mask')
    .description('fill the blanks, written [MASK], in sentences')
    .argument('[sentences...]', "sentences with [MASK] in them; '-' reads them from standard input, one a line; none: a few of our own")
    .option('-k, --top-k <count>', `words to show for each blank (default: ${defaultTopK}, or all of --targets)`, parseCount)
    .option('--targets <words>', 'choose among these words only, commas between them', (text: string) => text.split(','));
  addInferenceOptions(command)
    .addHelpText(
      'after',
      '\nExamples:\n  ufb fill-mask "The capital of France is [MASK]."\n  ufb fill-mask --targets good,bad "The film was very [MASK]."',
    )
    .action(fillMask);
}

async function fillMask(sentences: string[], options: FillMaskCommandOptions): Promise<void> {
  const start = performance.now();
  using device = await openDevice(options);
  const told = new Set<string>();
  const fill = await openPipeline('fill-mask', device, options, {
    // What is said of a target is said of each text.
    notice(line) {
      if (!told.has(line)) notice(line, options);
      told.add(line);
    },
  });
  try {
    const loaded = performance.now() - start;
    const { neuronsOf } = await import('../../models/config.ts');
    const neurons = neuronsOf(fill.model.config.feedforward);
    const answers: Answer[] = [];
    const own = ownSentences.map((sentence) => sentence.replaceAll('[MASK]', fill.tokenizer.maskToken ?? '[MASK]'));
    const { maskToken = '[MASK]' } = fill.tokenizer;
    if (areWords(sentences) && !sentences.every((word) => word.includes(maskToken)))
      throw new InputError(
        `the ${sentences.length} arguments are one word each, expected sentences in quotes: ufb fill-mask "${sentences.join(' ').slice(0, 200)}"`,
      );
    const refusals = new Refusals();
    let answered = 0;
    for await (const { text, name } of sentencesOf(sentences.length === 0 ? own : sentences)) {
      let answer: Answer;
      try {
        answer = await fillOne(fill, text, options);
      } catch (error) {
        refusals.add(name, error);
        continue;
      }
      answered++;
      if (options.json) answers.push(answer);
      else printAnswer(answer);
    }
    if (options.json)
      printJson({ neurons, device: device.name, description: device.description, loadMilliseconds: loaded, answers, ...refusals.json });
    else if (!options.quiet && answered > 0) {
      print(
        style.dim(
          `${neurons.used} of ${neurons.total} neurons a token and layer; ${device.name} backend (${device.description}); loaded in ${milliseconds(loaded)}`,
        ),
      );
    }
    refusals.finish(answered, options);
  } finally {
    await fill.dispose();
  }
}

async function fillOne(fill: FillMaskPipeline, text: string, { targets, topK }: FillMaskCommandOptions): Promise<Answer> {
  const start = performance.now();
  const answer = await fill(text, { top_k: topK ?? targets?.length ?? defaultTopK, targets });
  const blanks = Array.isArray(answer[0]) ? (answer as FillMaskCandidate[][]) : [answer as FillMaskCandidate[]];
  return { text, blanks, milliseconds: performance.now() - start };
}

function printAnswer({ text, blanks, milliseconds: time }: Answer): void {
  print(`${style.bold(text)}  ${style.dim(milliseconds(time))}`);
  blanks.forEach((candidates, index) => {
    if (blanks.length > 1) print(style.dim(`  blank ${index + 1}`));
    const width = Math.max(...candidates.map(({ token_str }) => printable(token_str).length));
    for (const { score, token_str } of candidates) {
      const bar = process.stdout.isTTY ? style.cyan('█'.repeat(Math.round(score * 30))) : '';
      print(`  ${(100 * score).toFixed(1).padStart(5)} %  ${printable(token_str).padEnd(width)}  ${bar}`.trimEnd());
    }
  });
  print();
}

const milliseconds = (time: number) => `${time.toFixed(time < 10 ? 1 : 0)} ms`;
