import { expect, test } from 'vitest';
import { renderBars, renderPanels } from '../../src/bench/chart.ts';
import { drawPaths } from '../../src/pipelines/token_paths.ts';

const hostile = `a<b>&"'\u0000\u001b[31m\u0008\ufffe\ud800x]]>&amp;<!--`;

/** Elements that are closed in the order in which they are opened, attributes in quotes, no character or entity that XML has not. */
function expectWellFormed(svg: string): void {
  expect(svg).not.toMatch(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u);
  const open: string[] = [];
  const rest = svg.replace(/<(\/?)([a-z]\w*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/gi, (_, closes, name, attributes, empty) => {
    expect(attributes).not.toMatch(/&(?!(amp|lt|gt|quot|apos|#\d+|#x[\da-f]+);)/i);
    if (closes) expect(open.pop()).toBe(name);
    else if (!empty) open.push(name);
    return '';
  });
  expect(open).toEqual([]);
  expect(rest.replace(/<!\[CDATA\[[\s\S]*?\]\]>/g, '')).not.toMatch(/<|&(?!(amp|lt|gt|quot|apos|#\d+|#x[\da-f]+);)/i);
}

test('pictures are well-formed XML, whatever is in names, titles and tokens', () => {
  const svg = drawPaths(
    { tokens: [hostile, 'b'], trees: 1, depth: 1, leaves: [[[0], [1]]], layers: [{ used: 2, entropy: 1 }] } as never,
    hostile,
  );
  expectWellFormed(svg);
  expect(svg).toContain('a&lt;b&gt;&amp;');
  expect(svg).toContain('\\u001b[31m');
  expectWellFormed(renderBars(hostile, hostile, [{ label: hostile, value: 3, ours: true }]));
  const lines = [
    {
      name: hostile,
      points: [
        [1, 2],
        [3, 4],
      ] as [number, number][],
    },
  ];
  expectWellFormed(renderPanels(hostile, [[{ title: hostile, xName: hostile, lines }]]));
});
