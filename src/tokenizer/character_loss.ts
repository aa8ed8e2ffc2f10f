/** What a tokenizer makes nothing of. */
import { InputError } from '../errors.ts';

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

  add({ given, lost }: CharacterLoss): void {
    this.given += given;
    this.lost += lost;
  }

  /** 0 to 1. */
  get share(): number {
    return this.given > 0 ? this.lost / this.given : 0;
  }

  get isNoticeable(): boolean {
    return this.share > noticeable;
  }
}

/** Characters of a corpus after which it shows what its tokenizer makes of it. */
const enoughToTell = 1_000_000;

/** Tells of texts that lost more than a tenth of their characters, the first time that there is one. */
export class LossNotice {
  private told = false;

  constructor(private readonly notice: (message: string) => void) {}

  /** Texts that are used together. */
  of(texts: readonly { loss: CharacterLoss }[]): void {
    if (this.told) return;
    const lossy = texts.filter(({ loss }) => loss.isNoticeable);
    if (lossy.length === 0) return;
    const most = percent(lossy.reduce((share, { loss }) => Math.max(share, loss.share), 0));
    const some = `${lossy.length} of ${texts.length} texts ${lossy.length === 1 ? 'loses' : 'lose'}`;
    this.tell(
      texts.length === 1
        ? `the text loses ${most} of its characters`
        : `${some} more than a tenth of ${lossy.length === 1 ? 'its' : 'their'} characters, ${most} at most`,
    );
  }

  /**
   * Of a corpus, as far as it was read: with enough of it, or at its end.
   * @throws InputError, naming the `source`, if nothing is left of it
   */
  ofCorpus(source: string, loss: CharacterLoss, ended: boolean): void {
    if (this.told || loss.given === 0 || (!ended && loss.given < enoughToTell)) return;
    if (loss.share === 1)
      throw new InputError(
        `${source}: its first ${loss.given} characters all become nothing: ${reason}, expected text that it was made for`,
      );
    if (loss.isNoticeable) this.tell(`${source}: loses ${percent(loss.share)} of its first ${loss.given} characters`);
  }

  private tell(what: string): void {
    this.told = true;
    this.notice(`${what}: ${reason}`);
  }
}

const reason = "the model's tokenizer removes them, or has no token for them";

/** 0.6 as 60 %. */
export const percent = (share: number) => `${Math.floor(100 * share)} %`;
