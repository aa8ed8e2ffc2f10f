/** Checks of what a program hands in: plain JavaScript has no types, and a wrong one should be told by the argument's name. */
import { InputError, quoted } from './errors.ts';

/** What an argument may be. */
export interface Kind {
  /** In words, for messages. */
  readonly expected: string;
  holds(value: unknown): boolean;
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
const hasMethods = (value: unknown, ...names: string[]) => isObject(value) && names.every((name) => typeof value[name] === 'function');

/** Kinds of arguments. `any`: is checked where it is used. */
export const kinds = {
  any: { expected: 'anything', holds: () => true },
  text: { expected: 'a string', holds: (value) => typeof value === 'string' },
  flag: { expected: 'true or false', holds: (value) => typeof value === 'boolean' },
  integer: { expected: 'a whole number', holds: (value) => Number.isSafeInteger(value) },
  object: { expected: 'an object', holds: (value) => isObject(value) && !Array.isArray(value) },
  list: { expected: 'an array', holds: (value) => Array.isArray(value) },
  iterable: { expected: 'an array, or another iterable', holds: (value) => isObject(value) && Symbol.iterator in value },
  texts: {
    expected: 'an iterable of strings',
    holds: (value) => isObject(value) && (Symbol.iterator in value || Symbol.asyncIterator in value),
  },
  callback: { expected: 'a function', holds: (value) => typeof value === 'function' },
  signal: {
    expected: 'an AbortSignal',
    holds: (value) => hasMethods(value, 'addEventListener', 'removeEventListener', 'throwIfAborted'),
  },
  device: { expected: 'a device, as createDevice gives it', holds: (value) => hasMethods(value, 'tensor', 'read', 'dispose') },
} as const satisfies Record<string, Kind>;

/** @throws InputError naming the argument if its value is of another kind */
export function checkArgument(name: string, value: unknown, { expected, holds }: Kind): void {
  if (!holds(value)) throw new InputError(`${name}: got ${quoted(value)}, expected ${expected}`);
}

/** The kind of each option; an option may be left out or undefined. */
export type OptionKinds<Options> = { readonly [Name in keyof Options]-?: Kind };

/** @throws InputError naming the option if its value is of another kind, or if the options are no object */
export function checkOptions<Options extends object>(options: Options, known: OptionKinds<Options>): void {
  checkArgument('options', options, kinds.object);
  for (const [name, kind] of Object.entries<Kind>(known)) {
    const value = (options as Record<string, unknown>)[name];
    if (value !== undefined) checkArgument(name, value, kind);
  }
}

/** The options of calls to one thing, `subject` in messages. Those that are not known are told, each once, with the one that may be meant. */
export class CallOptions<Options extends object> {
  private readonly told = new Set<string>();

  constructor(
    private readonly subject: string,
    private readonly known: OptionKinds<Options>,
    private readonly notice: (message: string) => void,
  ) {}

  /** @throws InputError as {@link checkOptions} */
  check(options: Options): Options {
    checkOptions(options, this.known);
    const unknown = Object.keys(options).filter((name) => !Object.hasOwn(this.known, name) && !this.told.has(name));
    for (const name of unknown) this.told.add(name);
    const names = Object.keys(this.known);
    const shown = unknown.map((name) => {
      const meant = nearest(name, names);
      return meant === undefined ? name : `${name} (did you mean ${meant}?)`;
    });
    if (unknown.length > 0) this.notice(`${this.subject}: options that are not known: ${shown.join(', ')}; known are ${names.join(', ')}`);
    return options;
  }
}

/** The name that differs least, if it differs little. */
function nearest(name: string, names: readonly string[]): string | undefined {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[^a-z]/g, '');
  let best: string | undefined;
  let least = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const other of names) {
    const edits = name.length > 40 ? least : editDistance(plain(name), plain(other));
    if (edits < least) [best, least] = [other, edits];
  }
  return best;
}

/** Letters to insert, remove or exchange (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) next.push(Math.min(row[j + 1] + 1, next[j] + 1, row[j] + (a[i] === b[j] ? 0 : 1)));
    row = next;
  }
  return row[b.length];
}
