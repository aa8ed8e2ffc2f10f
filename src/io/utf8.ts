/** UTF-8 that comes in blocks. */

/** Strict, and unlike the default it leaves a byte order mark alone: it would be taken off each block. */
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Text, and behind its last block the byte at which it is no UTF-8 any more, if there is one. */
export interface Decoded {
  text: string;
  invalid?: number;
}

/**
 * The text of blocks of bytes, block by block, without its byte order mark. Where bytes are no UTF-8, or the last character is cut short, all
 * that stands before is handed out first, and nothing comes after.
 */
export async function* decodeUtf8(blocks: AsyncIterable<Uint8Array>): AsyncGenerator<Decoded> {
  let rest = new Uint8Array(0);
  let first = true;
  for await (const block of blocks) {
    const bytes = joined(rest, block);
    const end = endOfCharacters(bytes);
    const decoded = decodeWhole(bytes.subarray(0, end));
    if (first && decoded.text !== '') {
      decoded.text = decoded.text.replace(/^\ufeff/, '');
      first = false;
    }
    yield decoded;
    if (decoded.invalid !== undefined) return;
    rest = bytes.slice(end);
  }
  if (rest.length > 0) yield { text: '', invalid: rest[0] };
}

/** Bytes that end with a character. */
function decodeWhole(bytes: Uint8Array): Decoded {
  try {
    return { text: decoder.decode(bytes) };
  } catch {
    // The shortest beginning that is no UTF-8, its end left open: its last byte is the one that cannot stand there.
    let [good, bad] = [0, bytes.length];
    while (bad - good > 1) {
      const middle = (good + bad) >> 1;
      if (begins(bytes.subarray(0, middle))) good = middle;
      else bad = middle;
    }
    const valid = endOfCharacters(bytes.subarray(0, good));
    return { text: decoder.decode(bytes.subarray(0, valid)), invalid: bytes[valid] };
  }
}

/** Whether UTF-8 may begin so. */
function begins(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true });
    return true;
  } catch {
    return false;
  }
}

/** Where the last character ends that is there as a whole. */
function endOfCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if ((byte & 0xc0) === 0x80) continue; // not a character's first
    const wanted = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return wanted > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second;
  const all = new Uint8Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}
