import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { FillMaskCandidate } from '../../src/pipelines/fill_mask.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import type { TextClass } from '../../src/pipelines/text_classification.ts';

/** Models that transformers saved, and what its pipelines answer: make.py there. */
const fixtures = fileURLToPath(new URL('../fixtures/families', import.meta.url));
const device = new ReferenceDevice();

interface Expected {
  filled?: { text: string; answers: FillMaskCandidate[] }[];
  classified?: { text: string; classes: TextClass[] }[];
  pair?: { text: string; text_pair: string; classes: TextClass[] };
  texts: { text: string; hidden?: number[][] }[];
}

const folders = readdirSync(fixtures)
  .filter((name) => !name.includes('.'))
  .map((name) => ({ name, expected: JSON.parse(readFileSync(`${fixtures}/${name}/expected.json`, 'utf8')) as Expected }));

const near = (own: number, theirs: number) => expect(Math.abs(own - theirs)).toBeLessThan(1e-5 * Math.abs(theirs));

describe.each(folders.filter(({ expected }) => expected.filled))('$name', ({ name, expected }) => {
  test('blanks are filled as transformers fills them', async () => {
    const fill = await pipeline('fill-mask', `${fixtures}/${name}`, { device });
    for (const { text, answers } of expected.filled ?? []) {
      const own = (await fill(text, { top_k: answers.length })) as FillMaskCandidate[];
      const wordsOf = (all: FillMaskCandidate[]) => all.map(({ token, token_str, sequence }) => ({ token, token_str, sequence }));
      expect(wordsOf(own)).toEqual(wordsOf(answers));
      for (const [i, { score }] of own.entries()) near(score, answers[i].score);
    }
    await fill.dispose();
  });
});

describe.each(folders.filter(({ expected }) => expected.classified))('$name', ({ name, expected }) => {
  test('texts are classified as transformers classifies them, pairs too', async () => {
    const classify = await pipeline('text-classification', `${fixtures}/${name}`, { device });
    const same = (own: readonly TextClass[], theirs: readonly TextClass[]) => {
      expect(own.map(({ label }) => label)).toEqual(theirs.map(({ label }) => label));
      for (const [i, { score }] of own.entries()) near(score, theirs[i].score);
    };
    const texts = (expected.classified ?? []).map(({ text }) => text);
    const own = (await classify(texts, { top_k: null })) as TextClass[][];
    for (const [i, { classes }] of (expected.classified ?? []).entries()) same(own[i], classes);
    const { text, text_pair, classes } = expected.pair as NonNullable<Expected['pair']>;
    same(await classify({ text, text_pair }, { top_k: null }), classes);
    await classify.dispose();
  });
});

describe.each(folders.filter(({ expected }) => expected.texts[0].hidden))('$name', ({ name, expected }) => {
  test('texts are embedded as transformers embeds them', async () => {
    const embed = await pipeline('feature-extraction', `${fixtures}/${name}`, { device });
    for (const { text, hidden = [] } of expected.texts) {
      const { data, dims } = await embed(text);
      const width = dims[2];
      const own = hidden.flatMap((_, token) => Array.from(data.subarray(token * width, (token + 1) * width)).filter((_, i) => i % 7 === 0));
      const theirs = hidden.flat();
      const largest = Math.max(...theirs.map(Math.abs));
      for (const [i, value] of own.entries()) expect(Math.abs(value - theirs[i])).toBeLessThan(1e-5 * largest);
      expect(dims[1]).toBe(hidden.length);
    }
    await embed.dispose();
  });
});
