import fc from 'fast-check';
import { expect, test } from 'vitest';
import { axisLabel, placeLegend, renderPanels, shortened } from '../../src/bench/chart.ts';

test('axes say 500k and 5M', () => {
  const labels = [0, 250, 5000, 16384, 20_000, 28_500, 500_000, 1e6, 1.25e6, 5e6, 2_497_536, 0.5].map(axisLabel);
  expect(labels).toEqual(['0', '250', '5000', '16384', '20k', '28.5k', '500k', '1M', '1.25M', '5M', '', '']);
});

test('a text that has no room is cut, by its letters, wide ones counting twice', () => {
  expect(shortened('dense 1024', 80)).toBe('dense 1024');
  expect(shortened('dense 1024', 79)).toBe('dense 10\u2026');
  expect(shortened('\u4e2d\u6587\u540d\u5b57', 40)).toBe('\u4e2d\u6587\u2026');
});

test('no two entries of a legend overlap, and none leaves the picture, whatever the names', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ minLength: 1, maxLength: 200 }), { minLength: 1, maxLength: 30 }), (names) => {
      const width = 700;
      const entries = placeLegend(names, width).map((entry) => ({ ...entry, right: entry.left + 44 + 8 * [...entry.text].length }));
      for (const [index, { left, right, line }] of entries.entries()) {
        expect(right).toBeLessThanOrEqual(width);
        const before = entries[index - 1];
        if (before?.line === line) expect(left).toBeGreaterThanOrEqual(before.right);
        else expect(left).toBe(0);
      }
    }),
  );
});

test('the legend stands above the panels, however many lines it has', () => {
  const names = Array.from({ length: 20 }, (_, index) => `the run of seed ${index}, with a long name`);
  const panel = (xName: string) => ({
    title: `loss, after so many ${xName}`,
    xName,
    linear: true,
    linearY: true,
    lines: names.map((name, index) => ({
      name,
      points: [
        [0, 7],
        [1e6, 3 + index / 10],
      ] as const,
    })),
  });
  const svg = renderPanels('On held-out text', [[panel('tokens'), panel('seconds')]]);
  const places = [
    ...svg.matchAll(/<text [^>]*?(?:transform="translate\(([\d.]+) ([\d.]+)\)"|x="([\d.]+)" y="([\d.]+)")[^>]*>([^<]+)<\/text>/g),
  ];
  const heightOf = (text: string) => places.filter(([, , , , , found]) => found.includes(text)).map(([, , y, , z]) => Number(y ?? z));
  expect(heightOf('the run of seed').length).toBe(20);
  expect(Math.max(...heightOf('the run of seed'))).toBeLessThan(Math.min(...heightOf('loss, after so many')));
});
