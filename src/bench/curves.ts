/** Pretraining runs side by side: what each had lost on held-out text after so many tokens, and after so many seconds. */
import * as v from 'valibot';
import { InputError } from '../errors.ts';
import { readLines } from '../io/files.ts';

export interface Curve {
  name: string;
  points: { tokens: number; seconds: number; heldOutLoss: number }[];
}

const count = v.pipe(v.number(), v.finite(), v.minValue(0));
const evaluation = v.object({ event: v.literal('evaluation'), tokens: count, seconds: count, heldOutLoss: v.pipe(v.number(), v.finite()) });
const other = v.looseObject({ event: v.string() });

/** The held-out losses in a log that `ufb pretrain --log` wrote. @throws InputError naming the line if it is no such log, or has none */
export async function readCurve(name: string, path: string): Promise<Curve> {
  const points: Curve['points'] = [];
  let number = 0;
  for await (const line of readLines(path)) {
    number++;
    if (line.trim() === '') continue;
    let entry: unknown;
    try {
      entry = JSON.parse(line);
    } catch {
      // A line that a crash broke off; anything else is told below.
      if (line.startsWith('{"event":')) continue;
    }
    const point = v.safeParse(evaluation, entry);
    if (point.success) {
      // After a crash, steps that came after the last save are taken again.
      while (points.length > 0 && points[points.length - 1].tokens >= point.output.tokens) points.pop();
      points.push(point.output);
    } else if (!v.is(other, entry) || entry.event === 'evaluation')
      throw new InputError(`${path}, line ${number}: is not what 'ufb pretrain --log' writes`);
  }
  if (points.length === 0) throw new InputError(`${path}: holds no held-out loss`);
  return { name, points };
}
