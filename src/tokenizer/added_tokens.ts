import type { Normalizer } from './normalizer.ts';
import type { AddedToken } from './tokenizer_json.ts';

/** A stretch of a text, in UTF-16 units: an added token (`id`), or text between them. */
export interface Stretch {
  start: number;
  end: number;
  id?: number;
}

/** Finds added tokens, such as [MASK], in a text. */
export class AddedTokenFinder {
  private readonly pattern: RegExp | undefined;
  private readonly tokens = new Map<string, AddedToken>();

  /** @param normalizer if given, the tokens are looked for in normalised text, so their own text is normalised too. */
  constructor(tokens: readonly AddedToken[], normalizer?: Normalizer) {
    for (const token of tokens) {
      const content = normalizer ? normalizer.normalize(token.content) : token.content;
      // Of two that are the same once normalised the first counts; the format's reference takes either.
      if (content !== '' && !this.tokens.has(content)) this.tokens.set(content, token);
    }
    // Where several tokens begin at the same place, the longest one counts.
    const contents = Array.from(this.tokens.keys()).sort((a, b) => b.length - a.length);
    if (contents.length > 0)
      this.pattern = new RegExp(contents.map((content) => content.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|'), 'gu');
  }

  /** Cuts a text into added tokens and what lies between. Empty stretches are left out. */
  split(text: string): Stretch[] {
    const stretches: Stretch[] = [];
    let position = 0;
    if (this.pattern) {
      for (const match of text.matchAll(this.pattern)) {
        const token = this.tokens.get(match[0]) as AddedToken;
        let start = match.index;
        let end = start + match[0].length;
        if (start < position || (token.single_word && !standsAlone(text, start, end))) continue;
        if (token.lstrip) while (start > position && whitespace.test(text[start - 1])) start -= 1;
        if (token.rstrip) while (end < text.length && whitespace.test(text[end])) end += 1;
        if (start > position) stretches.push({ start: position, end: start });
        stretches.push({ start, end, id: token.id });
        position = end;
      }
    }
    if (position < text.length) stretches.push({ start: position, end: text.length });
    return stretches;
  }
}

const whitespace = /\p{White_Space}/u;
const wordBefore = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const wordAfter = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;

function standsAlone(text: string, start: number, end: number): boolean {
  return !wordBefore.test(text.slice(Math.max(0, start - 2), start)) && !wordAfter.test(text.slice(end, end + 2));
}
