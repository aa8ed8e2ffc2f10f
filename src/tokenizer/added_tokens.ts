import type { Normalizer } from './normalizer.ts';
import type { AddedToken } from './tokenizer_json.ts';

/** A stretch of a text, in UTF-16 units: an added token (`id`), or text between them. */
export interface Stretch {
  start: number;
  end: number;
  id?: number;
}

/** What may follow of a token's text, by UTF-16 unit; `token` where one is complete. */
interface Node {
  readonly next: Map<number, Node>;
  token?: AddedToken;
}

/** Finds added tokens, such as [MASK], in a text, however many there are: each place is looked at once, along the longest of them. */
export class AddedTokenFinder {
  /** Any character that a token begins with. */
  private readonly first: RegExp | undefined;
  private readonly root: Node = { next: new Map() };

  /** @param normalizer if given, the tokens are looked for in normalized text, so their own text is normalized too. */
  constructor(tokens: readonly AddedToken[], normalizer?: Normalizer) {
    const first = new Set<number>();
    for (const token of tokens) {
      const content = normalizer ? normalizer.normalize(token.content) : token.content;
      if (content === '') continue;
      first.add(content.codePointAt(0) as number);
      let node = this.root;
      for (let i = 0; i < content.length; i++) {
        const unit = content.charCodeAt(i);
        let next = node.next.get(unit);
        if (!next) node.next.set(unit, (next = { next: new Map() }));
        node = next;
      }
      // Of two that are the same once normalized the first counts; the format's reference takes either.
      node.token ??= token;
    }
    if (first.size > 0) this.first = new RegExp(`[${Array.from(first, (code) => `\\u{${code.toString(16)}}`).join('')}]`, 'gu');
  }

  /** Cuts a text into added tokens and what lies between. Empty stretches are left out. */
  split(text: string): Stretch[] {
    const stretches: Stretch[] = [];
    let position = 0;
    for (const found of this.tokensOf(text)) {
      const { token } = found;
      let { start, end } = found;
      if (start < position || (token.single_word && !standsAlone(text, start, end))) continue;
      if (token.lstrip) while (start > position && whitespace.test(text[start - 1])) start -= 1;
      if (token.rstrip) while (end < text.length && whitespace.test(text[end])) end += 1;
      if (start > position) stretches.push({ start: position, end: start });
      stretches.push({ start, end, id: token.id });
      position = end;
    }
    if (position < text.length) stretches.push({ start: position, end: text.length });
    return stretches;
  }

  /** From left to right; where several begin at the same place, the longest one counts. */
  private *tokensOf(text: string): Generator<{ start: number; end: number; token: AddedToken }> {
    const { first } = this;
    if (!first) return;
    first.lastIndex = 0;
    for (let match = first.exec(text); match; match = first.exec(text)) {
      const start = match.index;
      let longest: { start: number; end: number; token: AddedToken } | undefined;
      let node = this.root.next.get(text.charCodeAt(start));
      for (let end = start + 1; node; node = node.next.get(text.charCodeAt(end++)))
        if (node.token) longest = { start, end, token: node.token };
      if (!longest) continue;
      yield longest;
      first.lastIndex = longest.end;
    }
  }
}

const whitespace = /\p{White_Space}/u;
const wordBefore = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const wordAfter = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;

function standsAlone(text: string, start: number, end: number): boolean {
  return !wordBefore.test(text.slice(Math.max(0, start - 2), start)) && !wordAfter.test(text.slice(end, end + 2));
}
