import type { Command } from 'commander';
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
    .description('pretraining runs side by side: held-out loss against tokens and against seconds')
    .argument('<logs...>', "NAME=FILE, what 'ufb pretrain --log FILE' wrote")
    .option('--out <file>', 'draw them (SVG)')
    .option('--title <text>', 'above the picture', 'Held-out loss, nats per predicted token');
  addCommonOptions(command)
    .addHelpText('after', '\nExample:\n  ufb curves trees=trees.jsonl dense=dense.jsonl --out curves.svg')
    .action(curves);
}

async function curves(logs: string[], options: Options): Promise<void> {
  const [{ readCurve }, { table }] = await Promise.all([import('../../bench/curves.ts'), import('./bench_report.ts')]);
  const runs = await Promise.all(
    logs.map((log) => {
      const at = log.indexOf('=');
      if (at < 1 || at === log.length - 1) throw new InputError(`${log}: expected NAME=FILE`);
      return readCurve(log.slice(0, at), log.slice(at + 1));
    }),
  );
  await checkOutput('--out', options.out, { read: logs.map((log) => log.slice(log.indexOf('=') + 1)) });
  if (options.json) printJson(runs);
  else {
    const rows = runs.map(({ name, points }) => {
      const { tokens, seconds, heldOutLoss } = points[points.length - 1];
      return [name, heldOutLoss.toFixed(4), `${(tokens / 1e6).toFixed(2)} M`, seconds.toFixed(0), (tokens / seconds).toFixed(0)];
    });
    print(table([['', 'held-out loss', 'tokens', 'seconds', 'tokens/s'], ...rows]));
  }
  if (options.out === undefined) return;
  const [{ renderPanels }, { writeFileAtomic }] = await Promise.all([import('../../bench/chart.ts'), import('../../io/files.ts')]);
  const panel = (title: string, xName: string, x: 'tokens' | 'seconds') => ({
    title,
    xName,
    linear: true,
    linearY: true,
    lines: runs.map(({ name, points }) => ({
      name,
      points: points.filter((point) => point[x] > 0).map((point) => [point[x], point.heldOutLoss] as const),
    })),
  });
  const panels = [panel('after so many tokens', 'tokens', 'tokens'), panel('after so many seconds', 'seconds', 'seconds')];
  await writeFileAtomic(options.out, renderPanels(options.title, [panels]));
  notice(options.out, options);
}
