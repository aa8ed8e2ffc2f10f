/** What a request is refused with: the kinds of error that text-embeddings-inference has, and OpenAI's form of them. */
import { FailureError, InputError } from '../errors.ts';

/** The status of each kind. */
const statuses = {
  Unauthenticated: 401,
  Empty: 400,
  NotFound: 404,
  MethodNotAllowed: 405,
  PayloadTooLarge: 413,
  Validation: 422,
  Tokenizer: 422,
  Backend: 424,
  Overloaded: 429,
  Unhealthy: 503,
} as const;
export type ErrorType = keyof typeof statuses;
export const errorTypes = Object.keys(statuses) as ErrorType[];
export const statusOf = (type: ErrorType) => statuses[type];

/** Why a request failed, by the names of the metric te_request_failure. */
export type FailureReason = 'validation' | 'batch_size' | 'tokenization' | 'overloaded' | 'model_type' | 'inference' | 'dropped';

const reasons: Partial<Record<ErrorType, FailureReason>> = {
  Empty: 'validation',
  PayloadTooLarge: 'validation',
  Validation: 'validation',
  Tokenizer: 'tokenization',
  Backend: 'inference',
  Overloaded: 'overloaded',
};

/** A request that is not answered. The message is for the client; it may hold what the client sent, and is not logged. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly reason: FailureReason | undefined;

  constructor(
    readonly type: ErrorType,
    message: string,
    options: { reason?: FailureReason; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.reason = options.reason ?? reasons[type];
  }

  get status() {
    return statuses[this.type];
  }
}

/** Any error as one that a client is told; of what is no mistake of the client's the message stays here. */
export function requestErrorOf(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  if (error instanceof InputError) {
    const type = /tokenizer|token id/.test(error.message) ? 'Tokenizer' : 'Validation';
    return new RequestError(type, error.message, { cause: error });
  }
  if (error instanceof FailureError) return new RequestError('Backend', error.message, { cause: error });
  return new RequestError('Backend', 'the request failed in the server: its log has the reason by the request id', { cause: error });
}

const openAiTypes: Partial<Record<ErrorType, string>> = {
  Unauthenticated: 'authentication_error',
  Overloaded: 'rate_limit_error',
  Backend: 'server_error',
  Unhealthy: 'server_error',
};

/**
 * The body of an error: text-embeddings-inference's `{error, error_type}`, or below /v1 its flat `{message, code, type}` together with
 * the `error` object that OpenAI's clients read.
 */
export function errorBody({ type, status, message }: RequestError, isOpenAi: boolean): Record<string, unknown> {
  if (!isOpenAi) return { error: message, error_type: type };
  const code = type === 'Unauthenticated' ? 'invalid_api_key' : null;
  const error = { message, type: openAiTypes[type] ?? 'invalid_request_error', param: null, code };
  return { error, message, code: status, type };
}
