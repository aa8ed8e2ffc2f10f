/** Answers as JSON in pieces, so that a long one neither is one string nor keeps the server from others. */

const longPiece = 2 ** 16;

/** The JSON of a value, in pieces; numbers of a Float32Array are an array. */
export function* jsonPieces(value: unknown): Generator<string> {
  let piece = '';
  for (const part of parts(value)) {
    piece += part;
    if (piece.length < longPiece) continue;
    yield piece;
    piece = '';
  }
  yield piece;
}

/** Neither holds a Float32Array nor is long: JSON.stringify does it, which is faster. */
const isPlain = (value: unknown) =>
  typeof value !== 'object' ||
  value === null ||
  (!ArrayBuffer.isView(value) && !Array.isArray(value) && Object.values(value).every((each) => typeof each !== 'object' || each === null));

function* parts(value: unknown): Generator<string> {
  if (isPlain(value)) yield JSON.stringify(value);
  else if (value instanceof Float32Array) yield `[${value.join(',')}]`;
  else if (Array.isArray(value)) {
    let before = '[';
    for (const each of value) {
      yield before;
      yield* parts(each);
      before = ',';
    }
    yield before === '[' ? '[]' : ']';
  } else {
    let before = '{';
    for (const [key, each] of Object.entries(value as object)) {
      if (each === undefined) continue;
      yield `${before}${JSON.stringify(key)}:`;
      yield* parts(each);
      before = ',';
    }
    yield before === '{' ? '{}' : '}';
  }
}

/** A body of JSON: a string if it is short, else a stream that lets others have their turn between its pieces. */
export function jsonBody(value: unknown): string | ReadableStream<Uint8Array> {
  const pieces = jsonPieces(value);
  const first = pieces.next().value as string;
  if (first.length < longPiece) return first;
  const encoder = new TextEncoder();
  let begun = false;
  return new ReadableStream({
    async pull(controller) {
      if (!begun) {
        begun = true;
        controller.enqueue(encoder.encode(first));
        return;
      }
      await new Promise((resolve) => setTimeout(resolve));
      const { value: piece, done } = pieces.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(piece));
    },
  });
}
