import { BarChart } from 'echarts/charts';
import { GridComponent, TitleComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { LabelLayout } from 'echarts/features';
import { SVGRenderer } from 'echarts/renderers';

use([BarChart, GridComponent, TitleComponent, LabelLayout, SVGRenderer]);

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
    return chart.renderToSVGString();
  } finally {
    chart.dispose();
  }
}
