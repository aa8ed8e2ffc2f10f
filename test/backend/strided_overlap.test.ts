import { expect, test } from 'vitest';
import { overlaps, overlapsItself, type StridedElements } from '../../src/backend/operations/strided_overlap.ts';
import { Random } from './random.ts';

/** Every element, as often as it is reached. */
function elementsOf({ offset, size, steps }: StridedElements): number[] {
  const starts = steps.reduce(
    (found, { count, stride }) => found.flatMap((at) => Array.from({ length: count }, (_, i) => at + i * stride)),
    [offset],
  );
  return starts.flatMap((at) => Array.from({ length: size }, (_, i) => at + i));
}

test('as an enumeration of elements says, for strides of every kind', () => {
  const random = new Random(11);
  const draw = (below: number) => random.integer(below);
  const elements = (): StridedElements => ({
    offset: draw(40),
    size: 1 + draw(4),
    steps: Array.from({ length: draw(4) }, () => ({ count: 1 + draw(4), stride: draw(25) })),
  });
  const found = { apart: 0, together: 0, single: 0, twice: 0 };
  for (let i = 0; i < 4000; i++) {
    const a = elements();
    const b = { ...elements(), ...(draw(2) === 0 && { size: a.size, steps: a.steps }) };
    const ofA = elementsOf(a);
    const set = new Set(ofA);
    const together = elementsOf(b).some((element) => set.has(element));
    expect(overlaps(a, b), JSON.stringify([a, b])).toBe(together);
    const twice = set.size < ofA.length;
    expect(overlapsItself(a), JSON.stringify(a)).toBe(twice);
    found[together ? 'together' : 'apart']++;
    found[twice ? 'twice' : 'single']++;
  }
  for (const count of Object.values(found)) expect(count).toBeGreaterThan(400);
});

test('query, key and value beside each other in the rows of one tensor are apart', () => {
  const [batch, length, heads, headSize] = [32, 512, 16, 64];
  const width = heads * headSize;
  const part = (i: number): StridedElements => ({
    offset: i * width,
    size: headSize,
    steps: [
      { count: batch, stride: length * 3 * width },
      { count: length, stride: 3 * width },
      { count: heads, stride: headSize },
    ],
  });
  expect(overlaps(part(0), part(1))).toBe(false);
  expect(overlaps(part(0), part(2))).toBe(false);
  expect(overlapsItself(part(1))).toBe(false);
  expect(overlaps(part(1), { ...part(2), offset: 2 * width - 1 })).toBe(true);
});
