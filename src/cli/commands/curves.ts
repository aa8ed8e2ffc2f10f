import type { Command } from 'commander';
import type { Curve } from '../../bench/curves.ts';
import { InputError } from '../../errors.ts';
import { addCommonOptions, type CommonOptions, notice, print, printJson } from '../common.ts';
import { checkOutput } from '../outputs.ts';

interface Options extends CommonOptions {
  out?: string;
  title: string;
}

export function curvesCommand(program: Command): void {
  const command = program
    .command('curves')
    .description('runs of pretraining, or of conversion, side by side: what each came to on held-out text, against tokens and seconds')
    .argument('<logs...>', "NAME=FILE, what '--log FILE' of 'ufb pretrain' or 'ufb convert' wrote")
    .option('-o, --out <file>', "draw them (SVG), without the steep beginning: the first twentieth of the longest run's tokens")
    .option('--title <text>', 'above the picture', 'On held-out text');
  addCommonOptions(command)
    .addHelpText('after', '\nExample:\n  ufb curves trees=trees.jsonl dense=dense.jsonl --out curves.svg')
    .action(curves);
}

async function curves(logs: string[], options: Options): Promise<void> {
  const [{ measures, measuresOf, readCurve }, { table }] = await Promise.all([
    import('../../bench/curves.ts'),
    import('./bench_report.ts'),
  ]);
  const named = logs.map((log) => {
    const at = log.indexOf('=');
    if (at < 1 || at === log.length - 1) throw new InputError(`${log}: expected NAME=FILE`);
    return { name: log.slice(0, at), path: log.slice(at + 1) };
  });
  const runs = await Promise.all(named.map(({ name, path }) => readCurve(name, path)));
  const measured = measuresOf(runs);
  if (measured.length === 0) throw new InputError(`${logs.join(' ')}: expected runs of one kind, all of pretraining or all of conversion`);
  const branching = runs.filter(({ points }) => points.some(({ leafUse }) => leafUse !== undefined));
  await checkOutput('--out', options.out, { read: named.map(({ path }) => path) });
  if (options.json) printJson(runs);
  else {
    const rows = runs.map(({ name, points }) => {
      const last = points[points.length - 1];
      const { tokens, seconds } = last;
      const values = measured.map((measure) => (last[measure] as number).toFixed(4));
      const leafUse = branching.length > 0 ? [last.leafUse?.map((bits) => bits.toFixed(1)).join(' ') ?? ''] : [];
      return [name, ...values, ...leafUse, `${(tokens / 1e6).toFixed(2)} M`, seconds.toFixed(0), (tokens / seconds).toFixed(0)];
    });
    const leafUse = branching.length > 0 ? ['leaf use of each layer, bits'] : [];
    print(table([['', ...measured.map((measure) => measures[measure]), ...leafUse, 'tokens', 'seconds', 'tokens/s'], ...rows]));
  }
  if (options.out === undefined) return;
  const [{ renderPanels }, { writeFileAtomic }] = await Promise.all([import('../../bench/chart.ts'), import('../../io/files.ts')]);
  // The steep beginning would squash all that tells runs apart. How a run ended is there however soon it was.
  const from = Math.max(...runs.map(({ points }) => points[points.length - 1].tokens)) / 20;
  type Point = Curve['points'][number];
  const panel = (what: string, of: readonly Curve[], measureOf: (point: Point) => number | undefined, x: 'tokens' | 'seconds') => ({
    title: `${what}, after so many ${x}`,
    xName: x,
    linear: true,
    linearY: true,
    lines: of.map(({ name, points }) => ({
      name,
      points: points
        .filter((point, i) => (point.tokens >= from || i === points.length - 1) && measureOf(point) !== undefined)
        .map((point) => [point[x], measureOf(point) as number] as const),
    })),
  });
  const row = (...what: [string, readonly Curve[], (point: Point) => number | undefined]) => [
    panel(...what, 'tokens'),
    panel(...what, 'seconds'),
  ];
  const rows = measured.map((measure) => row(measures[measure], runs, (point) => point[measure]));
  // One layer that has collapsed is what is to be seen.
  const least = ({ leafUse }: Point) => leafUse && Math.min(...leafUse);
  if (branching.length > 0) rows.push(row('leaf use, bits, of the layer with the fewest', branching, least));
  await writeFileAtomic(options.out, renderPanels(options.title, rows));
  notice(options.out, options);
}
