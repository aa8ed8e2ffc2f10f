import type { Command } from 'commander';
import type { Measure } from '../../bench/curves.ts';
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
    .option('--out <file>', "draw them (SVG), without the steep beginning: the first twentieth of the longest run's tokens")
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
  await checkOutput('--out', options.out, { read: named.map(({ path }) => path) });
  if (options.json) printJson(runs);
  else {
    const rows = runs.map(({ name, points }) => {
      const last = points[points.length - 1];
      const { tokens, seconds } = last;
      const values = measured.map((measure) => (last[measure] as number).toFixed(4));
      return [name, ...values, `${(tokens / 1e6).toFixed(2)} M`, seconds.toFixed(0), (tokens / seconds).toFixed(0)];
    });
    print(table([['', ...measured.map((measure) => measures[measure]), 'tokens', 'seconds', 'tokens/s'], ...rows]));
  }
  if (options.out === undefined) return;
  const [{ renderPanels }, { writeFileAtomic }] = await Promise.all([import('../../bench/chart.ts'), import('../../io/files.ts')]);
  // The steep beginning would squash all that tells runs apart. How a run ended is there however soon it was.
  const from = Math.max(...runs.map(({ points }) => points[points.length - 1].tokens)) / 20;
  const panel = (measure: Measure, x: 'tokens' | 'seconds') => ({
    title: `${measures[measure]}, after so many ${x}`,
    xName: x,
    linear: true,
    linearY: true,
    lines: runs.map(({ name, points }) => ({
      name,
      points: points
        .filter(({ tokens }, i) => tokens >= from || i === points.length - 1)
        .map((point) => [point[x], point[measure] as number] as const),
    })),
  });
  const rows = measured.map((measure) => [panel(measure, 'tokens'), panel(measure, 'seconds')]);
  await writeFileAtomic(options.out, renderPanels(options.title, rows));
  notice(options.out, options);
}
