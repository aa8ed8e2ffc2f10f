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
}

export class FailureError extends Error {
  override readonly name = 'FailureError';
}

export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}
