/**
 * A training run's folder:
 *
 *     config.json, model.safetensors, tokenizer.json    the model, for others to read: as last saved (pretrain, convert), of the best epoch (finetune)
 *     loss.svg                                          the loss curve (pretrain)
 *     run/options.json                                  what the run was started with, by which command, and what its input files were
 *     run/state.safetensors                             all that a resumed run needs
 *     run/lock                                          while a process works in it: which one
 *
 * `ufb glue` keeps results.json and predictions in place of a model, and such a state for the task and seed at hand in run/TASK-SEED.
 *
 * Every file is written aside and renamed, so that a crash loses at most what came after the last save and never half a file.
 */
import * as v from 'valibot';
import { joinPath, type Lock, listFolder, makeFolder, removeFile, removeParts, startHash } from '#platform';
import { InputError } from '../errors.ts';
import { problemOf } from '../io/checked_json.ts';
import { fileError, kindOf, readJson, writeFileAtomic } from '../io/files.ts';
import { takeLock } from '../io/lock.ts';
import { readTokenizerJson } from '../tokenizer/tokenizer_json.ts';
import { type Fingerprint, fingerprintOf, fingerprintSchema, hexadecimal, sameContent } from './fingerprint.ts';

/** The command whose run it is. */
export type RunKind = 'pretrain' | 'convert' | 'finetune' | 'glue';

/** The files that a run reads, and folders of models, by the option that names them. */
export type RunInputs = Readonly<Record<string, readonly string[]>>;

const optionsFile = (folder: string) => joinPath(folder, 'run', 'options.json');
export const tokenizerFile = (folder: string) => joinPath(folder, 'tokenizer.json');
const lockFile = (folder: string) => joinPath(folder, 'run', 'lock');

const bookSchema = v.object({
  /** Tells this run from others in a log. */
  id: v.string(),
  /** Where --log writes. */
  log: v.optional(v.string()),
  /** SHA-256 of tokenizer.json, of runs that make a model. */
  tokenizer: v.optional(v.string()),
  inputs: v.record(v.string(), v.array(fingerprintSchema)),
  /** SHA-256 of all of options.json but this. */
  checksum: v.string(),
});
type Book = v.InferOutput<typeof bookSchema>;

/** Runs that are older than `command`, or `run`, lack it. */
const recordSchema = v.looseObject({ command: v.optional(v.string()), run: v.optional(bookSchema) });

/** What is noted of a run when it is started. */
export interface RunRecord {
  options: object;
  /** Absent: the run is older than this. */
  book?: Omit<Book, 'checksum'>;
}

/** What {@link openRunFolder} gives. */
export interface RunFolder {
  /** It holds no run yet: {@link record} makes it one. */
  readonly isNew: boolean;
  /** Of a run that is resumed. */
  readonly id: string;
  /** Notes the options, and what the run reads; the tokenizer of one that makes a model is in the folder by then. */
  record(options: object): Promise<void>;
  /** Takes away what was made, if no run was recorded; then others may have the folder. */
  close(): Promise<void>;
}

export interface RunFolderOptions {
  kind: RunKind;
  resume: boolean;
  inputs: RunInputs;
  log?: string;
  onNotice?(line: string): void;
}

/**
 * Makes the folder of a new run, or opens that of one that is to be resumed, for this process alone.
 * @throws InputError if another process works in it; if a new run's holds anything already or cannot be written; if one to resume holds no run
 *   or one of another command, or its options, its tokenizer or what it reads is not what it was
 */
export async function openRunFolder(folder: string, options: RunFolderOptions): Promise<RunFolder> {
  const { kind, resume } = options;
  if (resume) await readRunRecord(folder, kind);
  else await checkNew(folder);
  let made: string | undefined;
  let lock: Lock;
  try {
    made = resume ? undefined : await makeFolder(joinPath(folder, 'run'));
    lock = await takeLock(lockFile(folder), folder, 'this run');
  } catch (error) {
    throw fileError(error, folder, 'write');
  }
  try {
    // Somebody may have been faster.
    if (!resume) await clear(folder);
    const record = resume ? await readRunRecord(folder, kind) : undefined;
    await removeParts(folder, { all: true });
    if (record) await checkUnchanged(folder, record, options);
    let recorded = resume;
    const id = record?.book?.id ?? newId();
    return {
      isNew: !resume,
      id,
      async record(runOptions) {
        const book = { id, log: options.log, tokenizer: await tokenizerHash(folder), inputs: await fingerprints(options.inputs) };
        await writeRecord(folder, kind, { options: runOptions, book });
        recorded = true;
      },
      async close() {
        if (!recorded) {
          for (const name of await listFolder(folder)) if (ofStart.test(name) && name !== 'run') await removeFile(joinPath(folder, name));
          await removeFile(made ?? joinPath(folder, 'run'));
        }
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** What a start leaves that was killed before the run was recorded: nothing else may be there. */
const ofStart =
  /^(run|\..*\.part|(tokenizer|(tokenizer_|sentence_bert_)?config|config_sentence_transformers|special_tokens_map|added_tokens|modules)\.json|vocab\.txt|\d{1,2}_[A-Z]\w{0,30})$/;

/** @throws InputError if a folder holds anything but what is left of a start */
async function checkNew(folder: string): Promise<void> {
  try {
    if ((await kindOf(optionsFile(folder))) === 'file')
      throw new InputError(`${folder}: holds a run already; add --resume to go on with it, or name another folder`);
    const namesIn = async (path: string) => ((await kindOf(path)) === 'folder' ? await listFolder(path) : []);
    const inside = await namesIn(joinPath(folder, 'run'));
    // The lock is made while the folder is empty.
    const wasStarted = inside.some((name) => name === 'lock');
    const isLeft = (name: string) => name === 'run' || (wasStarted ? ofStart : /^\..*\.part$/).test(name);
    const other = (await namesIn(folder)).find((name) => !isLeft(name)) ?? inside.find((name) => !/^lock(\.|$)|\.part$/.test(name));
    if (other !== undefined) throw new InputError(`${folder}: is not empty and holds no run (but ${other}); name a new folder`);
  } catch (error) {
    throw fileError(error, folder, 'write');
  }
}

/** Under the lock: takes away what is left of a start. */
async function clear(folder: string): Promise<void> {
  await checkNew(folder);
  for (const name of await listFolder(folder)) if (name !== 'run') await removeFile(joinPath(folder, name));
}

/**
 * The record of the run in a folder, its options checked by `schema`.
 * @throws InputError if there is no run, or one of another command; if what is noted of it is damaged
 */
export async function readRunRecord(folder: string, kind: RunKind, schema?: v.GenericSchema): Promise<RunRecord> {
  const path = optionsFile(folder);
  if ((await kindOf(path)) !== 'file')
    throw new InputError(`${folder}: holds no run to resume (no run/options.json); leave out --resume to start one`);
  const { command = kind, run, ...options } = parsed(recordSchema, await readJson(path), path, kind);
  if (command !== kind) throw new InputError(`${folder}: holds a run of 'ufb ${command}', expected one of 'ufb ${kind}'`);
  if (run && run.checksum !== recordHash({ command, ...options }, run))
    throw new InputError(
      `${path}: is not as it was written: its checksum is another; put back a copy, or start the run again in another folder`,
    );
  if (schema) parsed(schema, options, path, kind);
  return { options, book: run };
}

function parsed<Output>(schema: v.GenericSchema<unknown, Output>, value: unknown, path: string, kind?: RunKind): Output {
  const { success, output, issues } = v.safeParse(schema, value);
  if (success) return output;
  throw new InputError(
    `${path}: ${problemOf(issues[0])}, as 'ufb${kind ? ` ${kind}` : ''}' writes it; put back a copy, or start the run again in another folder`,
  );
}

async function writeRecord(folder: string, kind: RunKind, { options, book }: Required<RunRecord>): Promise<void> {
  const { run: _, ...own } = { run: undefined, ...options };
  const record = { command: kind, ...own };
  const run = { ...book, checksum: recordHash(record, book) };
  await writeFileAtomic(optionsFile(folder), `${JSON.stringify({ ...record, run }, undefined, 2)}\n`);
}

/** Of the values, however they are set. */
function recordHash(record: object, { checksum: _, ...book }: Partial<Book>): string {
  return hexHash(JSON.stringify([record, book]));
}

function hexHash(bytes: Uint8Array | string): string {
  const hash = startHash();
  hash.add(bytes);
  return hexadecimal(hash.digest());
}

const newId = () => crypto.randomUUID().slice(0, 8);

/** Of what makes tokens of texts: where texts are cut, say, is set anew by each save. */
async function tokenizerHash(folder: string): Promise<string | undefined> {
  const path = tokenizerFile(folder);
  if ((await kindOf(path)) !== 'file') return undefined;
  const { normalizer, pre_tokenizer, model, post_processor, added_tokens } = parsed(v.looseObject({}), await readTokenizerJson(path), path);
  return hexHash(JSON.stringify([normalizer, pre_tokenizer, model, post_processor, added_tokens]));
}

async function fingerprints(inputs: RunInputs): Promise<Book['inputs']> {
  const all: Book['inputs'] = {};
  for (const [option, paths] of Object.entries(inputs)) all[option] = await Promise.all(paths.map(fingerprintOf));
  return all;
}

/** @throws InputError naming what is not as it was when the run was started */
async function checkUnchanged(folder: string, { book }: RunRecord, { inputs, onNotice }: RunFolderOptions): Promise<void> {
  if (!book) {
    onNotice?.(
      `the run in ${folder} was started by an older version, which noted no checksums: whether its options, its tokenizer and the files that it reads are as they were could not be checked; from now on they are`,
    );
    return;
  }
  if (book.tokenizer !== undefined && (await tokenizerHash(folder)) !== book.tokenizer)
    throw new InputError(
      `${tokenizerFile(folder)}: is not what the run was started with: its checksum is another; put back a copy, or start the run again in another folder`,
    );
  for (const [option, paths] of Object.entries(inputs)) {
    const were: readonly Fingerprint[] = book.inputs[option] ?? [];
    for (const [index, path] of paths.entries()) {
      const was = were[index];
      if (was === undefined) continue;
      const now = await fingerprintOf(path);
      if (!sameContent(was, now))
        throw new InputError(
          `${path}: is not what the run in ${folder} was started with (--${option}): ${difference(was, now)}; a run goes on with the same content only: put it back, or name the place that it was moved to with --${option}`,
        );
    }
  }
}

/** Files in the order of those that a run was started with, by their content, as far as that was noted and is found. */
export async function sortedAsNoted(paths: readonly string[], book: RunRecord['book'], option: string): Promise<readonly string[]> {
  const were = book?.inputs[option];
  if (!were) return paths;
  const left = await Promise.all(paths.map(async (path) => ({ path, print: await fingerprintOf(path) })));
  const sorted = were.map((was) => {
    const at = left.findIndex(({ print }) => sameContent(was, print));
    return at < 0 ? undefined : left.splice(at, 1)[0].path;
  });
  // Where one is missing, what is left over stands in its place, to be found out by its name.
  return sorted.map((path) => path ?? (left.shift() as { path: string }).path);
}

const difference = (was: Fingerprint, now: Fingerprint) =>
  was.bytes === now.bytes ? `${now.bytes} bytes as then, but others` : `${now.bytes} bytes, then ${was.bytes}`;
