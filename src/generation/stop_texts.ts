/** Finds the first of some texts in one that comes in pieces, wherever the pieces end. What may be the beginning of one is held back. */
export class StopTexts {
  private held = '';
  private found = false;

  constructor(private readonly texts: readonly string[]) {}

  /** Whether one was found: nothing comes after it. */
  get isFound(): boolean {
    return this.found;
  }

  /** The next piece: what of the text is certain to come before any of the texts. */
  push(piece: string): string {
    if (this.found) return '';
    const text = this.held + piece;
    const places = this.texts.map((stop) => text.indexOf(stop)).filter((place) => place >= 0);
    if (places.length > 0) {
      this.found = true;
      this.held = '';
      return text.slice(0, Math.min(...places));
    }
    const kept = text.length - Math.max(0, ...this.texts.map((stop) => overlap(text, stop)));
    this.held = text.slice(kept);
    return text.slice(0, kept);
  }

  /** The text has ended: what was held back. */
  end(): string {
    const { held } = this;
    this.held = '';
    return held;
  }
}

/** Characters of the longest beginning of `stop`, short of all of it, that `text` ends with. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
