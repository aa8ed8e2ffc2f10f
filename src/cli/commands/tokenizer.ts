import type { Command } from 'commander';
import { printable } from '../../errors.ts';
import type { TextStyleName } from '../../tokenizer/word_piece_json.ts';
import { addCommonOptions, type CommonOptions, normalizerOption, notice, parseCount, print, printJson } from '../common.ts';
import { checkOutput } from '../outputs.ts';

interface TokenizerOptions extends CommonOptions {
  corpus: string[];
  vocabulary: number;
  normalizer: TextStyleName;
  out: string;
}

export function tokenizerCommand(program: Command): void {
  const command = program
    .command('tokenizer')
    .description('train a WordPiece tokenizer on text files')
    .requiredOption('--corpus <file...>', 'text files in UTF-8, plain or gzipped')
    .option('--vocabulary <count>', 'tokens wanted, the special ones included', parseCount, 8192)
    .addOption(normalizerOption())
    .requiredOption('--out <file>', 'the tokenizer.json to write');
  addCommonOptions(command)
    .addHelpText('after', '\nExample:\n  ufb tokenizer --corpus wikipedia.txt.gz books.txt --vocabulary 8192 --out tokenizer.json')
    .action(trainTokenizer);
}

async function trainTokenizer(options: TokenizerOptions): Promise<void> {
  const start = performance.now();
  const [{ ProgressBar }, { checkWritable, readLines, writeFileAtomic }, { trainWordPiece }] = await Promise.all([
    import('../progress.ts'),
    import('../../io/files.ts'),
    import('../../tokenizer/train_wordpiece.ts'),
  ]);
  await checkWritable(options.out);
  await checkOutput('--out', options.out, { read: options.corpus });
  // How much there is to count is not known before.
  const counting = new ProgressBar(options, '', 'counting words: {millions} million characters');
  const bar = new ProgressBar(options, '{tokens} tokens  ');
  let characters = 0;
  let counted = 0;
  let json: Awaited<ReturnType<typeof trainWordPiece>>;
  async function* allLines(): AsyncGenerator<string> {
    for (const path of options.corpus) yield* readLines(path, 'pieces', (line) => notice(line, options));
  }
  try {
    json = await trainWordPiece(allLines(), {
      vocabularySize: options.vocabulary,
      normalizer: options.normalizer,
      onNotice: (line) => notice(line, options),
      onProgress({ phase, done, total = 0 }) {
        if (phase === 'counting') {
          characters = done;
          counting.update(0, 0, { millions: Math.round(done / 1e6) });
          return;
        }
        counting.stop();
        counted ||= performance.now();
        bar.update(done / total, (performance.now() - counted) / 1000, { tokens: `${done} of ${total}` });
      },
    });
  } finally {
    counting.stop();
    bar.stop();
  }
  await writeFileAtomic(options.out, `${JSON.stringify(json, undefined, 1)}\n`);

  const vocabulary = Object.keys(json.model.vocab).length;
  const seconds = (performance.now() - start) / 1000;
  if (vocabulary < options.vocabulary) {
    notice(`the corpus is too small for ${options.vocabulary} tokens: it yields ${vocabulary}`, options);
  }
  if (options.json) printJson({ out: options.out, vocabulary, characters, seconds });
  else
    print(
      `${printable(options.out)}: ${vocabulary} tokens, from ${(characters / 1e6).toFixed(1)} million characters in ${seconds.toFixed(1)} s`,
    );
}
