/**
 * The kinds of error that this project throws on purpose. Everything else that reaches a user is a bug.
 *
 * - {@link InputError}: what the user handed in (a file, an argument, a text) is not usable. The message is one line that says
 *   what was found, what was expected and what to do. Commands print it without a stack and exit with code 2.
 * - {@link FailureError}: the input was usable, but the work came to nothing (a loss that is not finite). One line; exit code 1.
 * - {@link ShapeError}: a programmer handed an operation tensors that do not fit together.
 * - {@link DeviceLostError}: a graphics processor is gone; what was on it can be loaded again.
 */
export class InputError extends Error {
  override readonly name = 'InputError';

  constructor(message: string, options?: ErrorOptions) {
    super(oneLine(message), options);
  }
}

export class FailureError extends Error {
  override readonly name = 'FailureError';

  constructor(message: string, options?: ErrorOptions) {
    super(oneLine(message), options);
  }
}

/** An error that says that there is no memory, as a {@link FailureError} about `what`; any other as it is. */
export function memoryError(error: unknown, what: string): unknown {
  const { message } = error as Error;
  if (error instanceof FailureError || !noMemory.test(message)) return error;
  return new FailureError(
    `${what}: there is not enough memory (${message}): end other programs, raise the limit (ulimit -v, or the container's), or take less at a time (a smaller model, --batch or --length)`,
    { cause: error },
  );
}

const noMemory =
  /no memory|no thread or memory|allocation failed|out of memory|cannot allocate memory|could not allocate|ERR_WORKER_OUT_OF_MEMORY|invalid (typed )?array length/i;

/** What makes an answer that is no number, and what can be done. */
export const overflow =
  'the weights are damaged, or so large that products of them overflow; take a copy from before that, or train anew with a lower learning rate';

export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}

/** A device was lost with all that was in its memory: a graphics processor whose driver was reset, or that the browser took away. */
export class DeviceLostError extends Error {
  override readonly name = 'DeviceLostError';
}

const longestMessage = 4000;

function oneLine(message: string): string {
  const short = message.length > longestMessage ? `${message.slice(0, longestMessage - 1000)} ... ${message.slice(-900)}` : message;
  return printable(short);
}

/**
 * What came from a file, a text or an argument, a tensor's name say, may hold line ends, what terminals take as commands, and what turns the
 * direction of writing: here they are written as escapes.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, escaped);
}

/** The same, of several lines: line ends and tabs stay. */
export function printableLines(text: string): string {
  return text.replace(/[^\n\t]+/g, printable);
}

const escaped = (character: string) => (character === '\n' ? '\\n' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** A value from a file as a message shows it: short. */
export function quoted(value: unknown): string {
  if (typeof value === 'bigint' || typeof value === 'symbol' || typeof value === 'number') return String(value);
  if (typeof value === 'function') return 'a function';
  let text = 'nested too deeply';
  try {
    text = JSON.stringify(value) ?? 'missing';
  } catch {
    // Cycles and depths that JSON has no words for: told by the text above.
  }
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
