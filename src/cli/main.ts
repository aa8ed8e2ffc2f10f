#!/usr/bin/env node
/**
 * The `ufb` program. Each command is a file in commands/, which parses, calls and prints; what it calls is imported when it runs, so
 * that starting is quick. Exit codes: 0 done, 1 failed, 2 usage or bad input.
 */
import { Command, CommanderError } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { FailureError, InputError, memoryError, printable, printableLines } from '../errors.ts';
import { benchCommand } from './commands/bench.ts';
import { classifyCommand } from './commands/classify.ts';
import { completionCommand } from './commands/completion.ts';
import { convertCommand } from './commands/convert.ts';
import { curvesCommand } from './commands/curves.ts';
import { embedCommand } from './commands/embed.ts';
import { evalCommand } from './commands/eval.ts';
import { exportCommand } from './commands/export.ts';
import { fillMaskCommand } from './commands/fill_mask.ts';
import { finetuneCommand } from './commands/finetune.ts';
import { generateCommand } from './commands/generate.ts';
import { glueCommand } from './commands/glue.ts';
import { inspectCommand } from './commands/inspect.ts';
import { pretrainCommand } from './commands/pretrain.ts';
import { rerankCommand } from './commands/rerank.ts';
import { serveCommand } from './commands/serve.ts';
import { similarCommand } from './commands/similar.ts';
import { tokenizerCommand } from './commands/tokenizer.ts';
import { helpConfiguration } from './help.ts';

function createProgram(): Command {
  const program = new Command('ufb')
    .description('UltraFastBERT: BERT whose feedforward layers use a dozen neurons out of thousands for each token')
    .version(packageJson.version)
    .exitOverride()
    .configureHelp(helpConfiguration)
    .configureOutput({
      outputError: (text, write) => write(`ufb: ${printable(oneLine(hinted(text).replace(/^error: /, '')))} (see --help)\n`),
    });
  // In the order of use.
  const groups = {
    'Use a model:': [fillMaskCommand, generateCommand, embedCommand, similarCommand, rerankCommand, classifyCommand, inspectCommand],
    'Train one:': [tokenizerCommand, pretrainCommand, convertCommand, finetuneCommand],
    'Measure it:': [evalCommand, glueCommand, curvesCommand, benchCommand],
    'Take it elsewhere:': [exportCommand, serveCommand],
    'Set up a shell:': [completionCommand],
  };
  for (const [heading, commands] of Object.entries(groups)) {
    program.commandsGroup(heading);
    for (const add of commands) add(program);
  }
  for (const command of program.commands) command.copyInheritedSettings(program);
  return program.hook('preAction', (_, command) => refuseEmpty(command));
}

/** What a shell makes of a variable that is not set. As a path it would be the folder at hand; a title may be empty. */
function refuseEmpty(command: Command): void {
  for (const option of command.options) {
    const name = option.attributeName();
    if (name === 'title' || command.getOptionValueSource(name) !== 'cli') continue;
    if ([command.getOptionValue(name)].flat().includes('')) throw new InputError(`${option.long} is empty`);
  }
}

/** What a command that takes one text says of several words that are not in quotes. */
const hinted = (text: string) =>
  text.replace(/too many arguments for '(similar|rerank|inspect)'[^\n]*/, '$& A text of several words is written in quotes.');

const oneLine = (text: string) => text.trim().replace(/\s*\n\s*/g, ' ');

/** What the system refused outside of any file's own reading and writing, and memory that there was none of. */
async function inWords(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || error instanceof InputError || error instanceof FailureError) return error;
  if (error.name === 'NotCapable') return new FailureError(error.message); // Deno's, which names the permission that is missing
  const { path, syscall = '' } = error as NodeJS.ErrnoException;
  if (path === undefined && syscall === '') return memoryError(error, 'what was asked for');
  // Where the very modules of the program cannot be opened for lack of file handles, its words for that cannot either.
  const { fileError } = await import('../io/files.ts').catch(() => ({ fileError: () => new FailureError(error.message) }));
  return fileError(error, path ?? syscall, /^(write|rename|mkdir|f?sync|ftruncate|link|unlink|rm|chmod)/.test(syscall) ? 'write' : 'read');
}

async function main(argv: string[]): Promise<number> {
  try {
    await createProgram().parseAsync(argv);
    return Number(process.exitCode ?? 0); // a run that was stopped has set it
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // commander has printed its message
    const worded = await inWords(error);
    if (worded instanceof InputError || worded instanceof FailureError) {
      process.stderr.write(`ufb: ${oneLine(worded.message)}\n`);
      return worded instanceof InputError ? 2 : 1;
    }
    process.stderr.write(`ufb: failed: ${printableLines(error instanceof Error ? (error.stack ?? error.message) : String(error))}\n`);
    return 1;
  }
}

// A reader that has seen enough (`ufb ... | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
  process.stderr.write(`ufb: standard output cannot be written: ${error.message}\n`);
  process.exit(1);
});

// Nobody reads what is said on the side any more: no reason to lose a training (`ufb pretrain ... 2>&1 | tee log`, and Ctrl-C ends tee too).
process.stderr.on('error', () => {});

process.exitCode = await main(process.argv);
