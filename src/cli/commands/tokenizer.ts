import type { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import type { TrainingProgress } from '../../tokenizer/train_wordpiece.ts';
import { addCommonOptions, type CommonOptions, notice, parseCount, print, printJson } from '../common.ts';

interface TokenizerOptions extends CommonOptions {
  corpus: string[];
  vocabulary: number;
  out: string;
}

export function tokenizerCommand(program: Command): void {
  const command = program
    .command('tokenizer')
    .description('train a WordPiece tokenizer on text files')
    .requiredOption('--corpus <file...>', 'text files in UTF-8, plain or gzipped')
    .option('--vocabulary <count>', 'tokens wanted, the special ones included', parseCount, 8192)
    .requiredOption('--out <file>', 'the tokenizer.json to write');
  addCommonOptions(command)
    .addHelpText('after', '\nExample:\n  ufb tokenizer --corpus wikipedia.txt.gz books.txt --vocabulary 8192 --out tokenizer.json')
    .action(trainTokenizer);
}

async function trainTokenizer(options: TokenizerOptions): Promise<void> {
  const start = performance.now();
  const [{ SingleBar }, { readLines, writeFileAtomic }, { trainWordPiece }] = await Promise.all([
    import('cli-progress'),
    import('../../io/files.ts'),
    import('../../tokenizer/train_wordpiece.ts'),
  ]);
  await checkWritable(options.out);
  const bar = new TokenizerBar(SingleBar, options);
  let characters = 0;
  let json: Awaited<ReturnType<typeof trainWordPiece>>;
  async function* allLines(): AsyncGenerator<string> {
    for (const path of options.corpus) yield* readLines(path);
  }
  try {
    json = await trainWordPiece(allLines(), {
      vocabularySize: options.vocabulary,
      onProgress(progress) {
        if (progress.phase === 'counting') characters = progress.done;
        bar.update(progress);
      },
    });
  } finally {
    bar.stop();
  }
  await writeFileAtomic(options.out, `${JSON.stringify(json, undefined, 1)}\n`);

  const vocabulary = Object.keys(json.model.vocab).length;
  const seconds = (performance.now() - start) / 1000;
  if (vocabulary < options.vocabulary) {
    notice(`the corpus is too small for ${options.vocabulary} tokens: it yields ${vocabulary}`, options);
  }
  if (options.json) printJson({ out: options.out, vocabulary, characters, seconds });
  else print(`${options.out}: ${vocabulary} tokens, from ${(characters / 1e6).toFixed(1)} million characters in ${seconds.toFixed(1)} s`);
}

/** Says before the work, not after it, if the result cannot be written. */
async function checkWritable(path: string): Promise<void> {
  const [{ writeAside }, { fileError }] = await Promise.all([import('#platform'), import('../../io/files.ts')]);
  try {
    await (await writeAside(path)).abort();
  } catch (error) {
    throw fileError(error, path, 'write');
  }
}

/** Progress on stderr; nothing without a terminal or with --quiet. */
class TokenizerBar {
  private bar: SingleBar | undefined;
  private phase: TrainingProgress['phase'] | undefined;
  private readonly shown: boolean;

  constructor(
    private readonly Bar: typeof SingleBar,
    options: CommonOptions,
  ) {
    this.shown = !options.quiet && process.stderr.isTTY;
  }

  update({ phase, done, total }: TrainingProgress): void {
    if (!this.shown) return;
    if (phase !== this.phase) {
      this.stop();
      this.phase = phase;
      const format =
        phase === 'counting' ? 'counting words: {millions} million characters' : '{bar} {percentage} %  {value} of {total} tokens';
      this.bar = new this.Bar({ format, stream: process.stderr, hideCursor: true, barsize: 24, fps: 4, gracefulExit: false });
      this.bar.start(total ?? 1, 0, { millions: 0 });
    }
    this.bar?.update(phase === 'counting' ? 0 : done, { millions: Math.round(done / 1e6) });
  }

  stop(): void {
    this.bar?.stop();
    this.bar = undefined;
  }
}
