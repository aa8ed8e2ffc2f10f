import { quoted } from '../errors.ts';
import { lowerCases } from './normalizer.ts';
import type { TokenizerConfig } from './tokenizer_json.ts';

/** In words, what of a text becomes another token by `made` than by the tokenizer.json `itself`. `whose`: of whose class it is made. */
export function differencesOf(itself: TokenizerConfig, made: TokenizerConfig, whose: string): string[] {
  const differ = (a: unknown, b: unknown) => JSON.stringify(a) !== JSON.stringify(b);
  const differences: string[] = [];
  const [before, after] = [itself, made].map(({ normalizer }) => lowerCases(normalizer));
  if (before !== after) differences.push(`texts are ${after ? '' : 'not '}lower-cased`);
  else if (differ(itself.normalizer, made.normalizer)) differences.push(`texts are normalized as ${whose}`);
  if (differ(itself.preTokenizer, made.preTokenizer)) differences.push(`they are cut into words as ${whose}`);
  const { vocabulary: _, ...model } = made.model;
  const { vocabulary: __, ...own } = itself.model;
  if (differ(own, model)) differences.push(`words are cut with ${quoted(model.unknownToken)} for what is unknown`);
  const template = ({ template: { single, pair } }: TokenizerConfig) => [single, pair];
  if (differ(template(itself), template(made))) {
    const shown = made.template.single.map((item) => ('ids' in item ? item.ids.map((id) => made.tokens[id]).join(' ') : 'the text'));
    differences.push(`a text becomes ${shown.join(' ')}`);
  }
  const addedOf = ({ addedTokens }: TokenizerConfig) =>
    addedTokens
      .toSorted((a, b) => a.id - b.id)
      .map((one) => [one.id, one.content, one.single_word, one.lstrip, one.rstrip, one.normalized, one.special]);
  const [others, all] = [addedOf(itself).map(String), addedOf(made)];
  const changed = all.filter((one) => !others.includes(String(one))).map(([, content]) => quoted(content));
  const lost = itself.addedTokens.filter(({ content }) => !made.addedTokens.some((one) => one.content === content));
  if (changed.length > 0)
    differences.push(`${changed.slice(0, 8).join(', ')} ${changed.length > 1 ? 'are tokens' : 'is a token'} of their own`);
  if (lost.length > 0)
    differences.push(
      `${lost
        .slice(0, 8)
        .map(({ content }) => quoted(content))
        .join(', ')} ${lost.length > 1 ? 'are' : 'is'} none`,
    );
  return differences;
}
