import { tokenBytes } from './spelling.ts';

/** Text of tokens that come one by one. All pieces together are what `decode` makes of all tokens, whole characters each: a token may end within one. */
export interface TextStream {
  /** What is certain of the text by now, and was not given before. */
  push(token: number): string;
  /** The rest: bytes that are no whole character become U+FFFD. */
  end(): string;
}

/** Of tokens that are bytes. `shown`: what stands for a token, undefined for nothing. */
export function byteStream(shown: (id: number) => string | undefined): TextStream {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    push(id) {
      const token = shown(id);
      return token === undefined ? '' : decoder.decode(tokenBytes(token), { stream: true });
    },
    end: () => decoder.decode(),
  };
}

/** Of tokens of any kind: `decode` makes text of all of them, to the end of which another token only adds. */
export function growingStream(decode: (ids: readonly number[]) => string): TextStream {
  const ids: number[] = [];
  let given = '';
  const rest = (text: string): string => {
    const piece = text.startsWith(given) ? text.slice(given.length) : '';
    given += piece;
    return piece;
  };
  return {
    push(id) {
      ids.push(id);
      // What stands there for bytes that are no character may become one.
      return rest(decode(ids).replace(/\ufffd+$/, ''));
    },
    end: () => rest(decode(ids)),
  };
}
