/** Runs of one kind side by side: what each had come to on held-out text after so many tokens, and after so many seconds. */
import * as v from 'valibot';
import { InputError } from '../errors.ts';
import { readLines } from '../io/files.ts';
import { parseJsonText } from '../io/json.ts';

/** What is measured on held-out text, in pretraining and in conversions. */
export const measures = {
  heldOutLoss: 'held-out loss, nats per predicted token',
  lastState: 'R2 of the last hidden state',
  vectors: "R2 of the texts' vectors",
  logits: 'R2 of the logits',
};
export type Measure = keyof typeof measures;

export interface Curve {
  name: string;
  points: ({
    tokens: number;
    seconds: number;
    /** Of the leaves that tokens reach, the entropy of each layer, bits; of runs with trees whose log tells. */
    leafUse?: number[];
  } & Partial<Record<Measure, number>>)[];
}

const count = v.pipe(v.number(), v.finite(), v.minValue(0));
const value = v.pipe(v.number(), v.finite());
/** Logs from before leaf use was told lack it. */
const layers = v.optional(v.array(v.object({ entropy: value })), []);
const leafUse = (ofLayers: readonly { entropy: number }[]) =>
  ofLayers.length > 0 ? { leafUse: ofLayers.map(({ entropy }) => entropy) } : {};
const measurement = v.variant('event', [
  v.pipe(
    v.object({ event: v.literal('evaluation'), tokens: count, seconds: count, heldOutLoss: value, layers }),
    v.transform(({ event: _, layers, ...point }) => ({ ...point, ...leafUse(layers) })),
  ),
  v.pipe(
    v.object({
      event: v.literal('agreement'),
      fitted: count,
      trained: count,
      seconds: count,
      states: v.pipe(v.array(value), v.minLength(1)),
      vectors: value,
      logits: v.optional(value),
      layers,
    }),
    v.transform(({ fitted, trained, seconds, states, vectors, logits, layers }) => ({
      tokens: fitted + trained,
      seconds,
      lastState: states[states.length - 1],
      vectors,
      ...(logits === undefined ? {} : { logits }),
      ...leafUse(layers),
    })),
  ),
]);
const other = v.looseObject({ event: v.pipe(v.string(), v.notValues(['evaluation', 'agreement'])) });

/**
 * The measurements in a log that `ufb pretrain --log` or `ufb convert --log` wrote.
 * @throws InputError naming the line if it is no such log, or has runs of both kinds; if it has no measurement
 */
export async function readCurve(name: string, path: string): Promise<Curve> {
  const points: Curve['points'] = [];
  let number = 0;
  for await (const line of readLines(path)) {
    number++;
    if (line.trim() === '') continue;
    let entry: unknown;
    try {
      entry = parseJsonText(line, path);
    } catch {
      // A line that a crash broke off; anything else is told below.
      const start = '{"event":';
      if (line.startsWith(start) || start.startsWith(line)) continue;
    }
    const point = v.safeParse(measurement, entry);
    if (point.success) {
      if (points.length > 0 && measuresOf([{ name, points: [points[0], point.output] }]).length === 0)
        throw new InputError(`${path}, line ${number}: is of the other kind of run, pretraining or conversion, than the lines before it`);
      // After a crash, steps that came after the last save are taken again.
      while (points.length > 0 && points[points.length - 1].tokens >= point.output.tokens) points.pop();
      points.push(point.output);
    } else if (!v.is(other, entry))
      throw new InputError(`${path}, line ${number}: is not what 'ufb pretrain --log' or 'ufb convert --log' writes`);
  }
  if (points.length === 0)
    throw new InputError(
      `${path}: holds nothing measured on held-out text, expected the log of a run that has some: name it with --held-out, or train on more documents`,
    );
  return { name, points };
}

/** What all of the curves are measured by at all points: nothing, if some are of pretraining and some of conversions. */
export function measuresOf(curves: readonly Curve[]): Measure[] {
  const points = curves.flatMap((curve) => curve.points);
  return (Object.keys(measures) as Measure[]).filter((name) => points.every((point) => point[name] !== undefined));
}
