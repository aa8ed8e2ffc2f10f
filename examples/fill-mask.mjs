// Fills blanks with the model that ships with the package, or with the one in the folder given.
import { pipeline } from 'ultrafastbert';

const fill = await pipeline('fill-mask', process.argv[2]);

// One blank: a list of candidates.
for (const { score, token_str } of await fill('The capital of France is [MASK].', { top_k: 3 })) {
  console.log(`${(100 * score).toFixed(1)} % ${token_str}`);
}

// Several texts: an answer for each. Several blanks: a list for each.
const [one, two] = await fill(['She opened the [MASK].', 'The [MASK] crossed the [MASK].']);
console.log(one[0].sequence);
console.log(two.map(([best]) => best.token_str).join(', '));

await fill.dispose();
