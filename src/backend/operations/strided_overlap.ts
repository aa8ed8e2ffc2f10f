/** Elements of a storage: `size` of them in a row, from `offset` and from wherever the steps lead from there. */
export interface StridedElements {
  offset: number;
  size: number;
  /** So many positions, so many elements apart. */
  steps: readonly { readonly count: number; readonly stride: number }[];
}

/** How far each stride may lead: from `least` to `most` times. */
interface Reach {
  stride: number;
  least: number;
  most: number;
}

/** Whether two have an element in common. Exact, and quick where longer strides lead over what shorter ones reach, as in rows of heads. */
export function overlaps(a: StridedElements, b: StridedElements): boolean {
  const reaches = new Map<number, Reach>();
  const add = (stride: number, least: number, most: number) => {
    const { least: before = 0, most: after = 0 } = reaches.get(stride) ?? {};
    reaches.set(stride, { stride, least: before + least, most: after + most });
  };
  for (const { count, stride } of a.steps) add(stride, 1 - count, 0);
  for (const { count, stride } of b.steps) add(stride, 0, count - 1);
  return leadsBetween(-b.size, a.size, b.offset - a.offset, sorted([...reaches.values()]));
}

/** Whether elements fall on each other. */
export function overlapsItself({ size, steps }: StridedElements): boolean {
  const moving = steps.filter(({ count }) => count > 1);
  // Two positions differ in some step first: by at least 1 there, and by whatever in those behind it.
  return moving.some(({ count, stride }, i) => {
    const rest = moving.slice(i + 1).map(({ count, stride }) => ({ stride, least: 1 - count, most: count - 1 }));
    return leadsBetween(-size, size, 0, sorted([{ stride, least: 1, most: count - 1 }, ...rest]));
  });
}

const sorted = (reaches: readonly Reach[]) => [...reaches].sort((a, b) => b.stride - a.stride);

/** Whether from `start` some multiples of the strides lead to a place above `low` and below `high`. */
function leadsBetween(low: number, high: number, start: number, [first, ...rest]: readonly Reach[]): boolean {
  if (!first) return low < start && start < high;
  const { stride, least, most } = first;
  if (stride === 0) return leadsBetween(low, high, start, rest);
  const [down, up] = [
    rest.reduce((sum, { stride, least }) => sum + stride * least, 0),
    rest.reduce((sum, { stride, most }) => sum + stride * most, 0),
  ];
  const from = Math.max(least, Math.floor((low - start - up) / stride));
  const to = Math.min(most, Math.ceil((high - start - down) / stride));
  for (let times = from; times <= to; times++) if (leadsBetween(low, high, start + times * stride, rest)) return true;
  return false;
}
