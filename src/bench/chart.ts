import { BarChart, LineChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { LabelLayout } from 'echarts/features';
import { SVGRenderer } from 'echarts/renderers';
import { wellFormed } from '../io/svg.ts';

use([BarChart, LineChart, GridComponent, LegendComponent, TitleComponent, LabelLayout, SVGRenderer]);

export interface Bar {
  label: string;
  value: number;
  /** Ours stand out. */
  ours: boolean;
}

/** An SVG document of horizontal bars on a logarithmic axis, in the order given, from top to bottom. */
export function renderBars(title: string, unit: string, bars: readonly Bar[]): string {
  const height = 110 + 26 * bars.length;
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 900, height });
  try {
    const [least, most] = [Math.min(...bars.map(({ value }) => value)), Math.max(...bars.map(({ value }) => value))];
    chart.setOption({
      animation: false,
      backgroundColor: '#ffffff',
      title: { text: title, left: 'center', top: 8, textStyle: { fontSize: 16 } },
      grid: { left: 330, right: 90, top: 48, bottom: 52 },
      xAxis: {
        type: 'log',
        name: unit,
        nameLocation: 'middle',
        nameGap: 30,
        min: 10 ** Math.floor(Math.log10(least)),
        max: 10 ** Math.ceil(Math.log10(most)),
      },
      yAxis: {
        type: 'category',
        inverse: true,
        data: bars.map(({ label }) => label),
        axisTick: { show: false },
        axisLabel: { width: 310, overflow: 'truncate' },
      },
      series: [
        {
          type: 'bar',
          barWidth: 16,
          label: {
            show: true,
            position: 'right',
            formatter: ({ value }: { value?: unknown }) => `${Number((value as number).toPrecision(3))}`,
          },
          data: bars.map(({ value, ours }) => ({ value, itemStyle: { color: ours ? '#d9622b' : '#9db8de' } })),
        },
      ],
    });
    return wellFormed(chart.renderToSVGString());
  } finally {
    chart.dispose();
  }
}

export interface Line {
  /** Lines of one name have one color and one entry in the legend, in whatever panel. */
  name: string;
  points: readonly (readonly [x: number, y: number])[];
  /** What others are measured by. */
  dashed?: boolean;
}

export interface Panel {
  title: string;
  xName: string;
  /** x is logarithmic unless said otherwise. */
  linear?: boolean;
  /** As is y. */
  linearY?: boolean;
  lines: readonly Line[];
}

const colors = ['#d9622b', '#3b6fb6', '#f0a35e', '#85aede', '#6b9e4b', '#8c5fa8', '#b8860b', '#4aa3a2', '#c2547f', '#5a5a5a'];

/** Whole numbers only, thousands as 500k and millions as 5M where that is shorter. */
export function axisLabel(value: number): string {
  if (!Number.isInteger(value)) return '';
  if (value >= 1e6) return value % 1e4 === 0 ? `${value / 1e6}M` : '';
  return value >= 1e4 && value % 100 === 0 ? `${value / 1000}k` : `${value}`;
}

/** Pixels beside what stands at an edge. */
const margin = 16;

/** Pixels of a letter, at most on average: whoever looks at the picture has a font of their own. Wide ones (Chinese, say) take two. */
const letterWidth = 8;
const lettersOf = (text: string) => [...text].reduce((sum, letter) => sum + ((letter.codePointAt(0) as number) >= 0x1100 ? 2 : 1), 0);

/** A text as so many pixels have room for it. */
export function shortened(text: string, width: number, letter = letterWidth): string {
  const room = Math.floor(width / letter);
  if (lettersOf(text) <= room) return text;
  let short = '';
  for (const next of text) {
    if (lettersOf(short + next) + 1 > room) break;
    short += next;
  }
  return `${short}\u2026`;
}

/** What an entry of a legend takes beside its name: its symbol, and the blank behind it. */
const legendSymbol = 52;

/** Where each entry of a legend stands, in lines of so many pixels: no two overlap. */
export function placeLegend(names: readonly string[], width: number): { name: string; text: string; left: number; line: number }[] {
  let [left, line] = [0, 0];
  return names.map((name) => {
    const text = shortened(name, width - legendSymbol);
    const own = legendSymbol + letterWidth * lettersOf(text);
    if (left > 0 && left + own > width) [left, line] = [0, line + 1];
    left += own;
    return { name, text, left: left - own, line };
  });
}

/** An SVG document of panels of lines, row by row; axes are as each panel says. */
export function renderPanels(title: string, rows: readonly (readonly Panel[])[]): string {
  const columns = Math.max(...rows.map((row) => row.length));
  // Wide enough for the longest of our titles.
  const [panelWidth, panelHeight] = [460, rows.length === 1 ? 380 : 280];
  const width = columns * panelWidth;
  const names = new Set(rows.flat().flatMap(({ lines }) => lines.map(({ name }) => name)));
  const legend = placeLegend([...names], width - 2 * margin);
  const top = 52 + 24 * (1 + Math.max(...legend.map(({ line }) => line)));
  const height = top + rows.length * panelHeight;
  const panels = rows.flatMap((row, r) => row.map((panel, c) => ({ ...panel, left: c * panelWidth, top: top + r * panelHeight })));
  const solid = [...new Set(panels.flatMap(({ lines }) => lines.filter(({ dashed }) => !dashed).map(({ name }) => name)))];
  const colorOf = (name: string) => (solid.includes(name) ? colors[solid.indexOf(name) % colors.length] : '#777777');
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: '#ffffff',
      title: [
        { text: shortened(title, width - 2 * margin, 11), left: 'center', top: 8, textStyle: { fontSize: 16 } },
        ...panels.map((panel) => ({
          text: shortened(panel.title, panelWidth - margin, 7),
          left: panel.left + margin,
          top: panel.top,
          textStyle: { fontSize: 12, fontWeight: 'normal' as const },
        })),
      ],
      // One by one: what a legend takes a name's width for is not what it is in another font.
      legend: legend.map(({ name, text, left, line }) => ({
        data: [name],
        left: margin + left,
        top: 40 + 24 * line,
        textStyle: { fontSize: 12 },
        formatter: () => text,
      })),
      grid: panels.map((panel) => ({
        left: panel.left + 52,
        top: panel.top + 26,
        width: panelWidth - 76,
        height: panelHeight - 84,
      })),
      xAxis: panels.map((panel, i) => {
        const values = panel.lines.flatMap(({ points }) => points.map(([x]) => x));
        const [least, most] = [Math.min(...values), Math.max(...values)];
        const ends = panel.linear ? { min: 0, max: most } : { min: least / 1.1, max: most * 1.1 };
        return {
          type: panel.linear ? ('value' as const) : ('log' as const),
          ...(panel.linear ? {} : { logBase: 2 }),
          ...ends,
          gridIndex: i,
          name: panel.xName,
          nameLocation: 'middle' as const,
          nameGap: 26,
          axisLabel: { formatter: axisLabel, hideOverlap: true },
        };
      }),
      yAxis: panels.map((panel, i) => {
        const values = panel.lines.flatMap(({ points }) => points.map(([, y]) => y));
        if (panel.linearY) return { type: 'value' as const, gridIndex: i, scale: true };
        return {
          type: 'log' as const,
          gridIndex: i,
          min: 10 ** Math.floor(Math.log10(Math.min(...values))),
          max: 10 ** Math.ceil(Math.log10(Math.max(...values))),
          axisLabel: { formatter: (value: number) => `${value}` },
        };
      }),
      series: panels.flatMap((panel, i) =>
        panel.lines.map(({ name, points, dashed }) => ({
          type: 'line' as const,
          name,
          xAxisIndex: i,
          yAxisIndex: i,
          data: points.map((point) => [...point]),
          symbol: dashed ? 'none' : 'circle',
          symbolSize: 6,
          lineStyle: { width: 2, type: dashed ? ('dashed' as const) : ('solid' as const) },
          itemStyle: { color: colorOf(name) },
        })),
      ),
    });
    return wellFormed(chart.renderToSVGString());
  } finally {
    chart.dispose();
  }
}
