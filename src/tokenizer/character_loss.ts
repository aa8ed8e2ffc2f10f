/** What a tokenizer makes nothing of. */

/** Blanks, marks (accents, vowel signs), control and replacement characters may come and go without a loss. */
const passing = /[\p{White_Space}\p{M}\p{C}\ufffd]/u;

/** Of each UTF-16 unit: 1 if it counts, 2 if not, 0 as long as nobody asked. A pair of surrogates counts where its second half stands. */
const classes = new Uint8Array(1 << 16);

/** Characters of a text but for blanks, marks and control characters. */
export function countCharacters(text: string): number {
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    let known = classes[unit];
    if (known === 0) {
      const surrogate = unit >= 0xd800 && unit < 0xe000;
      known = (surrogate ? unit < 0xdc00 : passing.test(String.fromCharCode(unit))) ? 2 : 1;
      classes[unit] = known;
    }
    if (known === 1) count++;
  }
  return count;
}

/** A greater share than this of a text is worth a word. */
const noticeable = 0.1;

/** How many characters of texts there were, and how many of them the normalizer removed or stand in words that became the unknown token. */
export class CharacterLoss {
  given = 0;
  lost = 0;

  /** 0 to 1. */
  get share(): number {
    return this.given > 0 ? this.lost / this.given : 0;
  }

  get isNoticeable(): boolean {
    return this.share > noticeable;
  }
}

/** Tells of texts that lost more than a tenth of their characters, the first time that there is one. */
export class LossNotice {
  private told = false;

  constructor(private readonly notice: (message: string) => void) {}

  /** `texts`: what was encoded together. `what`: they are. */
  of(texts: readonly { loss: CharacterLoss }[], what = 'texts'): void {
    if (this.told) return;
    const lossy = texts.filter(({ loss }) => loss.isNoticeable);
    if (lossy.length === 0) return;
    this.told = true;
    const most = lossy.reduce((share, { loss }) => Math.max(share, loss.share), 0);
    const some = texts.length === 1 ? 'the text loses' : `${lossy.length} of ${texts.length} ${what} lose`;
    this.notice(
      `${some} ${texts.length === 1 ? '' : 'up to '}${percent(most)} of ${texts.length === 1 ? 'its' : 'their'} characters: ${reason}`,
    );
  }
}

export const reason = "the model's tokenizer removes them, or has no token for them";

/** 0.6 as 60 %. */
export const percent = (share: number) => `${Math.floor(100 * share)} %`;
