import { type Command, Option } from 'commander';
import { InputError, printable } from '../../errors.ts';
import type { TrainingProgress } from '../../tokenizer/merge_symbols.ts';
import type { TextStyleName } from '../../tokenizer/word_piece_json.ts';
import { addCommonOptions, type CommonOptions, givenTo, normalizerOption, notice, parseCount, print, printJson } from '../common.ts';
import { checkOutput } from '../outputs.ts';

interface TokenizerOptions extends CommonOptions {
  corpus: string[];
  vocabulary: number;
  type: 'wordpiece' | 'bpe';
  normalizer: TextStyleName;
  out: string;
}

export function tokenizerCommand(program: Command): void {
  const command = program
    .command('tokenizer')
    .description('train a tokenizer on text files')
    .requiredOption('--corpus <file...>', 'text files in UTF-8, plain or gzipped')
    .addOption(
      new Option('--type <type>', 'wordpiece, of models that fill blanks; bpe: byte-level, of models that write')
        .choices(['wordpiece', 'bpe'])
        .default('wordpiece'),
    )
    .option('--vocabulary <count>', 'tokens wanted, the special ones included', parseCount, 8192)
    .addOption(normalizerOption())
    .requiredOption('-o, --out <file>', 'the tokenizer.json to write');
  addCommonOptions(command)
    .addHelpText('after', '\nExample:\n  ufb tokenizer --corpus wikipedia.txt.gz books.txt --vocabulary 8192 --out tokenizer.json')
    .action(async (options: TokenizerOptions) => {
      if (options.type === 'bpe' && givenTo(command)('normalizer'))
        throw new InputError('--normalizer is of WordPiece, but there is --type bpe, which keeps every character; leave it out');
      await trainTokenizer(options);
    });
}

async function trainTokenizer(options: TokenizerOptions): Promise<void> {
  const start = performance.now();
  const [{ ProgressBar }, { checkWritable, readLines, writeFileAtomic }, { trainWordPiece }, { trainBytePairs }, { allPassages }] =
    await Promise.all([
      import('../progress.ts'),
      import('../../io/files.ts'),
      import('../../tokenizer/train_wordpiece.ts'),
      import('../../tokenizer/train_bpe.ts'),
      import('../../training/causal_objective.ts'),
    ]);
  await checkWritable(options.out);
  await checkOutput('--out', options.out, { read: options.corpus });
  // How much there is to count is not known before.
  const counting = new ProgressBar(options, '', 'counting words: {millions} million characters');
  const bar = new ProgressBar(options, '{tokens} tokens  ');
  let characters = 0;
  let counted = 0;
  let json: Awaited<ReturnType<typeof trainWordPiece | typeof trainBytePairs>>;
  const onNotice = (line: string) => notice(line, options);
  async function* allLines(): AsyncGenerator<string> {
    for (const path of options.corpus) yield* readLines(path, 'pieces', onNotice);
  }
  try {
    const settings = {
      vocabularySize: options.vocabulary,
      onProgress({ phase, done, total = 0 }: TrainingProgress) {
        if (phase === 'counting') {
          characters = done;
          counting.update(0, 0, { millions: Math.round(done / 1e6) });
          return;
        }
        counting.stop();
        counted ||= performance.now();
        bar.update(done / total, (performance.now() - counted) / 1000, { tokens: `${done} of ${total}` });
      },
    };
    json =
      options.type === 'bpe'
        ? await trainBytePairs(allPassages(options.corpus, onNotice), settings)
        : await trainWordPiece(allLines(), { ...settings, normalizer: options.normalizer, onNotice });
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
