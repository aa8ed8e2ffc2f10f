/** Every family's way from a published checkpoint to a classifier of one's own. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();
const train = join(folder, 'train.csv');
const families = fileURLToPath(new URL('../fixtures/families', import.meta.url));

beforeAll(() => {
  // Words that the fixtures' tokenizers have: letters of the alphabet's beginning or of its end.
  const rows = Array.from({ length: 160 }, (_, i) => {
    const letters = i % 2 === 0 ? 'abcdef' : 'uvwxyz';
    const words = Array.from({ length: 3 + (i % 5) }, (_, word) => letters[(7 * i + 5 * word) % 6]);
    return `${words.join(' ')},${i % 2 === 0 ? 'first' : 'last'}`;
  });
  writeFileSync(train, `text,label\n${rows.join('\n')}\n`);
});

test.each(['distilbert-masked', 'roberta-encoder', 'xlm-roberta-masked', 'electra-discriminator'])(
  '%s is fine-tuned, and the classifier answers',
  async (family) => {
    const out = join(folder, family);
    const options = ['--device', 'reference', '--quiet'];
    const recipe = ['--train', train, '--epochs', '4', '--batch', '8', '--learning-rate', '0.01'];
    expect(await ufb(['finetune', '--model', join(families, family), '--out', out, ...recipe, ...options])).toMatchObject({ code: 0 });
    const { stdout } = await ufb(['classify', '--model', out, '--json', ...options, 'a b c d', 'w x y']);
    const { answers } = JSON.parse(stdout);
    expect(answers.map(({ classes }: { classes: { label: string }[] }) => classes[0].label)).toEqual(['first', 'last']);
    for (const { classes } of answers) expect(classes[0].score).toBeGreaterThan(0.9);
  },
);
