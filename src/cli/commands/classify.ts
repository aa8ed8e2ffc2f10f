import type { Command } from 'commander';
import { InputError, printable } from '../../errors.ts';
import {
  addInferenceOptions,
  fixed,
  type InferenceOptions,
  notice,
  openDevice,
  openPipeline,
  parseCount,
  print,
  printJson,
} from '../common.ts';
import { areWords, Refusals, type Sentence, sentencesOf } from '../sentences.ts';

interface Options extends InferenceOptions {
  topK: number;
}

export function classifyCommand(program: Command): void {
  const command = program
    .command('classify')
    .description('the class of each text')
    .argument('<texts...>', "texts; '-' reads them from standard input, one a line, a pair with a tab between")
    .option('-k, --top-k <count>', 'classes to show for each text', parseCount, 1);
  addInferenceOptions(command, 'a classifier')
    .addHelpText('after', '\nExample:\n  ufb classify --model my-classifier "What a fine day."')
    .action(async (texts: string[], options: Options) => {
      using device = await openDevice(options);
      using classify = await openPipeline('text-classification', device, options);
      const answers: { text: string; classes: { label: string; score: number }[] }[] = [];
      if (areWords(texts))
        notice(
          `each of the ${texts.length} arguments is taken for a text: put one of several words in quotes, "${texts.join(' ').slice(0, 200)}"`,
          options,
        );
      const refusals = new Refusals();
      let answered = 0;
      const waiting: Sentence[] = [];
      /** Of those that the pipeline has been given. */
      const names: string[] = [];
      async function* inputs() {
        for await (const sentence of sentencesOf(texts)) {
          const [text, pair, ...more] = sentence.text.split('\t');
          if (more.length > 0) {
            refusals.add(
              sentence.name,
              new InputError(`the text has ${more.length + 1} tabs, expected one at most, between the two of a pair`),
            );
            continue;
          }
          waiting.push(sentence);
          names.push(sentence.name);
          yield { text, text_pair: pair };
        }
      }
      const refused_callback = (error: InputError, index: number) => {
        refusals.add(names[index], error);
        waiting.splice(
          waiting.findIndex(({ name }) => name === names[index]),
          1,
        );
      };
      for await (const classes of classify(inputs(), { top_k: options.topK, refused_callback })) {
        answered++;
        const { text } = waiting.shift() as Sentence;
        if (options.json) answers.push({ text, classes });
        else
          print(
            `${classes.map(({ label, score }) => `${printable(label)} ${fixed(score, 4)}`).join('  ')}\t${text.split('\t').map(printable).join('\t')}`,
          );
      }
      if (options.json) printJson({ answers, ...refusals.json });
      refusals.finish(answered, options);
    });
}
