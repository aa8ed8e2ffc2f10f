/** What the commands share: options, the device, and how they print. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { DeviceName } from '../backend/create.ts';
import type { Device } from '../backend/device.ts';
import { type Precision, precisions } from '../backend/prepared_weight.ts';
import { InputError, printable, printableLines } from '../errors.ts';
import type { PipelineOptions, Pipelines } from '../pipelines/pipeline.ts';
import { textStyles } from '../tokenizer/word_piece_json.ts';
import { clearLine, terminal } from './terminal.ts';

/** Options that most commands have. */
export interface CommonOptions {
  json?: boolean;
  quiet?: boolean;
}

/** Options of commands that compute. */
export interface DeviceOptions {
  device?: DeviceName;
  threads?: number;
}

/** Adds --json and --quiet. */
export function addCommonOptions(command: Command): Command {
  return command.option('-j, --json', 'print JSON instead of text').option('-q, --quiet', 'print results only: no progress, no notices');
}

/** Adds --device and --threads; `threads` says how many by default. */
export function addDeviceOptions(command: Command, threads = 'as many as the processor quota allows'): Command {
  return command
    .addOption(
      new Option('-d, --device <name>', 'what computes (default: native if it can be loaded, else wasm)').choices([
        'native',
        'wasm',
        'webgpu',
        'reference',
      ]),
    )
    .option('-t, --threads <count>', `threads that compute (default: ${threads})`, parseCount);
}

/** Adds --dtype, for commands that run a model without training it. */
export function addPrecisionOption(command: Command): Command {
  return command.addOption(
    new Option(
      '--dtype <precision>',
      'of weights and what they are multiplied by; bf16 and i8 take less memory and, where the processor has them, less time',
    )
      .choices(precisions)
      .default('f32'),
  );
}

/** Adds the options that say how a new model is built, and how long its sequences are; by default as the shipped one. */
export function addShapeOptions(command: Command): Command {
  return addFeedforwardOptions(
    command
      .option('--layers <count>', 'transformer blocks', parseCount, 6)
      .option('--hidden <width>', 'hidden size', parseCount, 256)
      .option('--heads <count>', 'attention heads', parseCount, 4)
      .option('--length <tokens>', 'tokens a sequence', parseCount, 128),
    1024,
  );
}

/** --normalizer, of a tokenizer that is trained. */
export function normalizerOption(): Option {
  return new Option(
    '--normalizer <name>',
    'how it reads texts, in lower case all: bert keeps every script, and accents; crammed, the recipe of crammedBERT, keeps ASCII alone',
  )
    .choices(Object.keys(textStyles))
    .default('bert');
}

/** Options that shape feedforward layers, trees and dense ones. */
export interface FeedforwardOptions {
  trees: number;
  depth: number;
  leafWidth: number;
  alwaysOn: number;
  intermediate: number;
}

/** Adds {@link FeedforwardOptions}. `intermediate`: the default neurons of dense layers. */
export function addFeedforwardOptions(command: Command, intermediate: number): Command {
  return command
    .option('--trees <count>', 'fff: trees a layer', parseCount, 1)
    .option('--depth <levels>', 'fff: depth of a tree; a token uses depth + leaf width neurons of it', parseInteger, 11)
    .option('--leaf-width <count>', 'fff: neurons of each leaf', parseCount, 1)
    .option('--always-on <count>', 'fff: neurons beside the trees that every token uses', parseInteger, 0)
    .option('--intermediate <count>', 'dense: neurons a layer', parseCount, intermediate);
}

const treeOptions = ['trees', 'depth', 'leafWidth', 'alwaysOn', 'branchRate', 'balance', 'fitBalance'];
const withoutUse = { fff: ['intermediate'], dense: treeOptions, none: [...treeOptions, 'intermediate'] };

/** @throws InputError if an option is given that such feedforward layers, which `owner` has, do not have */
export function checkFeedforward(kind: keyof typeof withoutUse, given: (name: string) => boolean, owner = `--feedforward ${kind}`): void {
  const other = withoutUse[kind].find(given);
  if (other) throw new InputError(`--${dashed(other)} is given, which ${owner} does not have`);
}

/** Whether an option, by its name in code, was given on the command line. */
export const givenTo = (command: Command) => (name: string) => command.getOptionValueSource(name) === 'cli';

/** An option as it is written. */
export const dashed = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** @throws InputError if the heads do not share the hidden size evenly */
export function checkShape({ hidden, heads }: { hidden: number; heads: number }): void {
  if (hidden % heads !== 0) throw new InputError(`--hidden ${hidden} is not a multiple of --heads ${heads}`);
}

/** Options of commands that open a model. */
export interface ModelOptions {
  model?: string;
  revision?: string;
}

export const dimensionsHelp =
  'numbers of each vector that are kept, the first ones, for models that were trained so (Matryoshka) (default: all, or what the model says)';

/** What models of sentences must be, for {@link addModelOption}. */
export const sentenceModel = 'a model of sentence-transformers, or any encoder, whose token vectors are then averaged';

/**
 * Adds --model and --revision. `what` says what the model must be, where the shipped one does not do; unless `mandatory` is false the option must
 * be given. `otherwise`: what is taken without the option.
 */
export function addModelOption(
  command: Command,
  what?: string,
  { mandatory = true, otherwise = 'the shipped model' }: { mandatory?: boolean; otherwise?: string } = {},
): Command {
  const files = 'folder with config.json, model.safetensors and tokenizer.json, or OWNER/NAME of a model on the Hugging Face hub';
  const withModel = what
    ? command.addOption(new Option('-m, --model <model>', `${what}: ${files}`).makeOptionMandatory(mandatory))
    : command.option('-m, --model <model>', `${files} (default: ${otherwise})`);
  return withModel.option('--revision <name>', 'branch, tag or commit of a model on the hub (default: main)');
}

/** Options of commands that run a model without training it. */
export interface InferenceOptions extends CommonOptions, DeviceOptions, ModelOptions {
  dtype: Precision;
}

/** Adds {@link InferenceOptions}. `what`: see {@link addModelOption}. */
export const addInferenceOptions = (command: Command, what?: string): Command =>
  addPrecisionOption(addModelOption(addDeviceOptions(addCommonOptions(command)), what));

/** The pipeline that a command's options ask for, on a device that stays the command's; `more`: what the command sets itself. */
export async function openPipeline<Name extends keyof Pipelines>(
  task: Name,
  device: Device,
  options: InferenceOptions,
  more: Pick<PipelineOptions, 'prompt' | 'prompt_name' | 'notice'> = {},
): Promise<Pipelines[Name]> {
  const { pipeline } = await import('../pipelines/pipeline.ts');
  const folder = await openModelFolder(options, task === 'feature-extraction');
  return await pipeline(task, folder, { device, dtype: options.dtype, notice: (line) => notice(line, options), ...more });
}

/**
 * The folder of the model asked for, which is downloaded, with a progress bar, if it is one of the hub's. `forSentences`: vectors are made
 * with it.
 */
export async function openModelFolder(
  { model, revision, ...options }: ModelOptions & { quiet?: boolean },
  forSentences = false,
): Promise<string> {
  const [{ resolveModelFolder }, { ProgressBar }] = await Promise.all([import('../io/model_folder.ts'), import('./progress.ts')]);
  const bar = new ProgressBar(options, '{file}  ');
  let [current, started] = ['', 0];
  try {
    return await resolveModelFolder(model, {
      revision,
      forSentences,
      notice: (line) => notice(line, options),
      progress_callback({ file, loaded, total }) {
        if (file !== current) [current, started] = [file, performance.now()];
        bar.update(loaded / total, (performance.now() - started) / 1000, { file });
      },
    });
  } finally {
    bar.stop();
  }
}

/** For options that take a whole number from 1. */
export function parseCount(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('expected a whole number from 1.');
  return value;
}

/** For options that take a whole number from 0, such as seeds. */
export function parseInteger(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError('expected a whole number from 0.');
  return value;
}

/** For options that take a number from 0. */
export function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value < Number.POSITIVE_INFINITY)) throw new InvalidArgumentError('expected a number from 0.');
  return value;
}

/** For options that take a number greater than 0. */
export function parsePositive(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value > 0 && value < Number.POSITIVE_INFINITY))
    throw new InvalidArgumentError('expected a number greater than 0.');
  return value;
}

/** The device asked for. Says on stderr, in one line, why it is not the native one if none was named. */
export async function openDevice(options: DeviceOptions & CommonOptions): Promise<Device> {
  const { createDevice, deviceNotice } = await import('../backend/create.ts');
  const device = await createDevice({ name: options.device, threads: options.threads });
  const reason = options.device ? undefined : deviceNotice();
  if (reason) notice(reason, options);
  return device;
}

/** Prints a line of results, or several, without what a terminal would take as commands; what is not to break a line goes through {@link printable}. */
export function print(line = ''): void {
  if (terminal.showsBar && process.stdout.isTTY) process.stderr.write(clearLine);
  // What stands at odd places are our own styles.
  process.stdout.write(
    `${line
      .split(ownStyle)
      .map((part, i) => (i % 2 === 0 ? printableLines(part) : part))
      .join('')}\n`,
  );
}

/** A number with so many digits behind the point; what rounds to nothing has no sign. */
export function fixed(value: number, digits: number): string {
  return value.toFixed(digits).replace(/^-(?=[0.]*$)/, '');
}

export function printJson(value: unknown): void {
  // JSON leaves some of them as they are, which within its strings may be escaped too.
  print(JSON.stringify(value, undefined, 2));
}

/** Prints a line about what is going on, on stderr. */
export function notice(line: string, options: CommonOptions): void {
  if (!options.quiet) process.stderr.write(`${terminal.showsBar ? clearLine : ''}${printable(line)}\n`);
}

/** Terminal styles; plain text where stdout is no terminal or NO_COLOR is set. */
export const style = {
  bold: (text: string) => styled(text, 1, 22),
  dim: (text: string) => styled(text, 2, 22),
  cyan: (text: string) => styled(text, 36, 39),
};

/** Where there are no styles, nothing is taken for one. */
const isStyled = () => process.stdout.isTTY && !process.env.NO_COLOR;
// biome-ignore lint/suspicious/noControlCharactersInRegex: styles begin with one
const ownStyle = isStyled() ? /(\u001b\[(?:1|22|2|36|39)m)/ : /(?!)/;

function styled(text: string, on: number, off: number): string {
  return isStyled() ? `\u001b[${on}m${printable(text)}\u001b[${off}m` : printable(text);
}
