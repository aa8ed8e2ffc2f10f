/**
 * A text on its way through the normalizer that still knows where its characters came from.
 *
 * `characters[i]` is one code point of the text as it is now; it came from the code points `starts[i]` to `ends[i]` (end excluded)
 * of the text that the user gave. Removing characters removes their entries; an inserted character carries the range of a neighbor.
 */
export interface AlignedText {
  readonly characters: string[];
  readonly starts: number[];
  readonly ends: number[];
  /** Where in the user's text it begins. */
  readonly first: number;
}

/** A text that nothing has happened to yet. `first` is the position of its first code point in the user's text. */
export function alignedText(text: string, first = 0): AlignedText {
  const characters = Array.from(text);
  return {
    characters,
    starts: characters.map((_, index) => first + index),
    ends: characters.map((_, index) => first + index + 1),
    first,
  };
}

/** Collects an {@link AlignedText} whose characters come from another one. */
export class AlignedTextBuilder implements AlignedText {
  readonly characters: string[] = [];
  readonly starts: number[] = [];
  readonly ends: number[] = [];
  readonly first: number;

  private readonly source: AlignedText;

  constructor(source: AlignedText) {
    this.source = source;
    this.first = source.first;
  }

  /** Appends `character` with the range of the source's character `index`; before the first character that is the empty range there. */
  push(character: string, index: number): void {
    this.characters.push(character);
    this.starts.push(index < 0 ? this.first : this.source.starts[index]);
    this.ends.push(index < 0 ? this.first : this.source.ends[index]);
  }
}

/** For every UTF-16 position of the text (its length included) the number of code points before it. */
export function codePointIndex(characters: readonly string[]): Int32Array {
  let length = 0;
  for (const character of characters) length += character.length;
  const index = new Int32Array(length + 1);
  let position = 0;
  for (let i = 0; i < characters.length; i += 1) {
    for (let unit = 0; unit < characters[i].length; unit += 1) index[position++] = i;
  }
  index[position] = characters.length;
  return index;
}
