/** The picture of a run: training and held-out loss over the tokens trained on. */
import { LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import type { CurvePoint } from './run_state.ts';

use([LineChart, ScatterChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

/** Points drawn of each line at most: more cannot be told apart. */
const drawnPoints = 400;

/** An SVG document of the loss curve; the training loss is smoothed, the points behind it are faint. */
export function renderLossChart(history: readonly CurvePoint[]): string {
  const training = history.filter((point) => point.loss !== undefined).map(({ tokens, loss }) => [tokens, loss as number]);
  const heldOut = history
    .filter((point) => point.heldOutLoss !== undefined)
    .map(({ tokens, heldOutLoss }) => [tokens, heldOutLoss as number]);
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 800, height: 480 });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: '#ffffff',
      title: { text: 'Masked language modeling loss', left: 'center', top: 8, textStyle: { fontSize: 16 } },
      legend: { top: 36, itemGap: 40, data: ['training (smoothed)', 'held out'] },
      grid: { left: 70, right: 30, top: 70, bottom: 60 },
      xAxis: {
        type: 'value',
        name: 'tokens trained on',
        nameLocation: 'middle',
        nameGap: 32,
        min: 0,
        axisLabel: { formatter: tokenLabel },
      },
      yAxis: { type: 'value', name: 'loss (nats per predicted token)', nameLocation: 'middle', nameGap: 42, scale: true },
      series: [
        { type: 'scatter', silent: true, symbolSize: 3, itemStyle: { color: '#9db8de', opacity: 0.5 }, data: thinned(training) },
        {
          type: 'line',
          name: 'training (smoothed)',
          symbol: 'none',
          lineStyle: { width: 2 },
          color: '#1f5fbf',
          data: thinned(smoothed(training)),
        },
        { type: 'line', name: 'held out', symbolSize: 5, lineStyle: { width: 2 }, color: '#d9622b', data: thinned(heldOut) },
      ],
    });
    return chart.renderToSVGString();
  } finally {
    chart.dispose();
  }
}

/** 25000000 as 25M. */
function tokenLabel(tokens: number): string {
  for (const [unit, suffix] of [
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (tokens >= unit) return `${Number((tokens / unit).toPrecision(4))}${suffix}`;
  }
  return `${tokens}`;
}

/** Each point becomes the mean over a centered window of about 1/25 of the curve, narrower at its ends. */
function smoothed(points: readonly number[][]): number[][] {
  const radius = Math.ceil(points.length / 50);
  const sums = [0];
  for (const [, loss] of points) sums.push(sums[sums.length - 1] + loss);
  return points.map(([tokens], index) => {
    const reach = Math.min(radius, index, points.length - 1 - index);
    return [tokens, (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)];
  });
}

function thinned(points: readonly number[][]): number[][] {
  const stride = Math.ceil(points.length / drawnPoints);
  return points.filter((_, index) => index % stride === 0 || index === points.length - 1);
}
