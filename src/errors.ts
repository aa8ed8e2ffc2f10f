/**
 * The kinds of error that this project throws on purpose. Everything else that reaches a user is a bug.
 *
 * - {@link InputError}: what the user handed in (a file, an argument, a text) is not usable. The message is one line that says
 *   what was found, what was expected and what to do. Commands print it without a stack and exit with code 2.
 * - {@link FailureError}: the input was usable, but the work came to nothing (a loss that is not finite). One line; exit code 1.
 * - {@link ShapeError}: a programmer handed an operation tensors that do not fit together.
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

export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}

const longestMessage = 4000;

function oneLine(message: string): string {
  const short = message.length > longestMessage ? `${message.slice(0, longestMessage - 1000)} ... ${message.slice(-900)}` : message;
  return printable(short);
}

/** What came from a file, a tensor's name say, may hold line ends, and what terminals take as commands: here they are written as escapes. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, (character) =>
    character === '\n' ? '\\n' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A value from a file as a message shows it: short. */
export function quoted(value: unknown): string {
  let text = 'nested too deeply';
  try {
    text = JSON.stringify(value) ?? 'missing';
  } catch {
    // Cycles and depths that JSON has no words for: told by the text above.
  }
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
