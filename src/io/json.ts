import { InputError } from '../errors.ts';

/** Levels, more than any JSON here has. What calls itself for every level, JSON.stringify too, has stack for some thousands. */
const deepestJson = 100;
/** How much a JSON text may hold: values, of which those that are lists, objects or have a key count as three more, as they take most of the time and memory. */
export type JsonExtent = number;
/** Configurations, the largest of which name 65,536 classes twice; lists of files, lines. */
const ordinary: JsonExtent = 1_000_000;
/** The largest tokenizers have two million values, half a million of them with keys. */
export const extentOfTokenizer: JsonExtent = 5_000_000;
/** What a model predicted, for some hundred thousand examples and each seed; the loss curve of a run of millions of steps. */
export const extentOfResults: JsonExtent = 10_000_000;

/**
 * The value of a JSON text that others wrote. Depth and count are bounded before anything is made of it.
 * @throws InputError naming `source` if it is not JSON, nested too deeply, or has more values than any that is meant
 */
export function parseJsonText(text: string, source: string, extent?: JsonExtent): unknown {
  if (text.startsWith(lfsPointer)) throw lfsError(source);
  checkJsonExtent(text, source, extent);
  try {
    return JSON.parse(text);
  } catch (error) {
    // The parser's message can quote the text, line ends and all.
    const detail = (error as Error).message.replace(/\s+/g, ' ').slice(0, 160);
    throw new InputError(`${source}: is not valid JSON: ${detail}`);
  }
}

/** How a file of Git LFS begins that names the one it stands for. */
const lfsPointer = 'version https://git-lfs';

/** Whether a file's first bytes are those of a pointer of Git LFS. */
export const isLfsPointer = (bytes: Uint8Array): boolean =>
  new TextDecoder('latin1').decode(bytes).startsWith(lfsPointer.slice(0, bytes.length));

export function lfsError(source: string): InputError {
  return new InputError(
    `${source}: is a pointer of Git LFS, which names the file and is not it; fetch the file itself: 'git lfs pull' in the clone, for which git-lfs is to be installed, or a download from the hub`,
  );
}

const [quote, backslash, comma, colon] = [0x22, 0x5c, 0x2c, 0x3a];
const [openArray, closeArray, openObject, closeObject] = [0x5b, 0x5d, 0x7b, 0x7d];

/**
 * Goes by brackets, commas and colons outside of strings; whether it is JSON otherwise is the parser's to say.
 * @throws InputError naming `source` if it is nested too deeply, or has more values than any that is meant
 */
export function checkJsonExtent(text: string, source: string, extent: JsonExtent = ordinary): void {
  let depth = 0;
  let values = 1;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit === quote) {
      at++;
      while (at < text.length && text.charCodeAt(at) !== quote) at += text.charCodeAt(at) === backslash ? 2 : 1;
    } else if (unit === comma) values++;
    else if (unit === colon) values += 3;
    else if (unit === openArray || unit === openObject) {
      values += 3;
      depth++;
      if (depth > deepestJson) throw new InputError(`${source}: is nested more than ${deepestJson} levels deep, expected less`);
    } else if (unit === closeArray || unit === closeObject) depth--;
    if (values > extent)
      throw new InputError(`${source}: holds more than ${extent} values (a key or a list counts as three), expected fewer`);
  }
}
