import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { FailureError } from '../../src/errors.ts';
import { type GlueOptions, type GlueResults, readGlueResults } from '../../src/glue/results.ts';
import { type GlueSession, type GlueStep, runGlue } from '../../src/glue/run.ts';
import { loadSequenceClassifier, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { accuracy, pearson } from '../../src/training/metrics.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';
import { tinyGlueFile, writeTinyGlue } from './tiny_glue.ts';

const folder = temporaryFolder();
const [model, data] = [join(folder, 'model'), join(folder, 'data')];
const outOf = (name: string) => join(folder, 'out', name);
beforeAll(async () => {
  await writeTinyModel(model);
  writeTinyGlue(data, ['RTE', 'MNLI'], { test: true });
  writeTinyGlue(data, ['STS-B', 'CoLA']);
  mkdirSync(join(data, 'AX'));
  writeFileSync(join(data, 'AX', 'AX.tsv'), tinyGlueFile('AX', 'test', 7));
});

const optionsOf = (changes: Partial<GlueOptions> = {}): GlueOptions => ({
  model,
  data,
  tasks: ['RTE', 'STS-B'],
  seeds: 2,
  taskSeeds: {},
  epochs: 2,
  ...changes,
});
/** Of 24 examples, 16 a step, in two epochs. */
const stepsOfRun = 4;

function run(options: GlueOptions, session: Partial<GlueSession> = {}): Promise<GlueResults> {
  const { device = new ReferenceDevice() } = session;
  onTestFinished(() => device.dispose());
  return runGlue(options, { resume: false, checkpointEvery: 1e9, ...session, device });
}

/** Without what a clock measured. */
function timeless({ tasks, ...rest }: GlueResults) {
  const without = (task: GlueResults['tasks'][string]) => ({
    ...task,
    runs: task.runs.map((run) => ({ ...run, seconds: 0, tokensPerSecond: 0 })),
  });
  return { ...rest, tasks: Object.fromEntries(Object.entries(tasks).map(([name, task]) => [name, without(task)])) };
}

test('a class or a number for each example of the dev sets, scored as the task asks; predictions as the GLUE server takes them', async () => {
  const out = outOf('whole');
  const steps: GlueStep[] = [];
  const runs: string[] = [];
  const results = await run(optionsOf({ tasks: ['MNLI', 'RTE', 'STS-B'], taskSeeds: { MNLI: 1 } }), {
    out,
    onStep: (step) => steps.push(step),
    onSeed: ({ task, seed }) => runs.push(`${task} ${seed}`),
  });
  expect(results.finished).toBe(true);
  // Whatever the order in which they were named: the small ones first.
  expect(runs).toEqual(['STS-B 0', 'STS-B 1', 'RTE 0', 'RTE 1', 'MNLI 0']);
  expect(steps).toHaveLength(runs.length * stepsOfRun);
  expect(steps.at(-1)).toMatchObject({ task: 'MNLI', seed: 0, epoch: 2, step: 4, progress: 1 });
  expect(steps.every(({ progress, seconds }, i) => i === 0 || (progress > steps[i - 1].progress && seconds >= steps[i - 1].seconds))).toBe(
    true,
  );

  const { 'STS-B': sts, RTE: rte, MNLI: mnli } = results.tasks;
  expect(rte.labels.RTE).toEqual(
    tinyGlueFile('RTE', 'dev', 12, 100)
      .trim()
      .split('\n')
      .slice(1)
      .map((row) => (row.endsWith('\tentailment') ? 0 : 1)),
  );
  for (const { predictions, scores, tokensPerSecond } of rte.runs) {
    expect(scores.RTE).toBe(accuracy(predictions.RTE, rte.labels.RTE));
    expect(predictions.RTE.every((value) => value === 0 || value === 1)).toBe(true);
    expect(tokensPerSecond).toBeGreaterThan(0);
  }
  for (const { predictions, scores } of sts.runs) expect(scores['STS-B']).toBe(pearson(predictions['STS-B'], sts.labels['STS-B']));
  expect(sts.runs[0].predictions).not.toEqual(sts.runs[1].predictions);
  expect(Object.keys(mnli.runs[0].scores)).toEqual(['MNLI-m', 'MNLI-mm']);
  expect(mnli.labels['MNLI-m']).not.toEqual(mnli.labels['MNLI-mm']);
  expect(await readGlueResults(out)).toEqual(results);

  const written = (name: string) => readFileSync(join(out, name), 'utf8');
  expect(written('test/RTE.tsv')).toMatch(/^index\tprediction\n(?:\d\t(?:not_)?entailment\n){5}$/);
  for (const [name, rows] of [
    ['MNLI-m', 5],
    ['MNLI-mm', 5],
    ['AX', 7],
  ] as const)
    expect(written(`test/${name}.tsv`)).toMatch(
      new RegExp(`^index\\tprediction\\n(?:\\d\\t(?:entailment|neutral|contradiction)\\n){${rows}}$`),
    );
  expect(written('dev/STS-B.tsv')).toMatch(/^index\tprediction\n0\t[0-5]\.\d{3}\n(?:\d+\t[0-5]\.\d{3}\n){11}$/);
  expect(existsSync(join(out, 'dev', 'RTE.tsv')) || existsSync(join(out, 'test', 'STS-B.tsv'))).toBe(false);
});

test('every task and seed starts from the same model, whatever was trained before', async () => {
  const weights = readFileSync(join(model, 'model.safetensors'));
  const several = await run(optionsOf({ tasks: ['CoLA', 'RTE'] }));
  expect(timeless(await run(optionsOf({ tasks: ['RTE'] }))).tasks.RTE).toEqual(timeless(several).tasks.RTE);
  expect(readFileSync(join(model, 'model.safetensors')).equals(weights)).toBe(true);
});

test('products are rounded if told to', async () => {
  const lossesOf = async (changes: Partial<GlueOptions>) => {
    const losses: number[] = [];
    await run(optionsOf({ tasks: ['RTE'], seeds: 1, ...changes }), { onStep: ({ loss }) => losses.push(loss) });
    return losses;
  };
  const [exact, rounded] = [await lossesOf({}), await lossesOf({ precision: 'bf16' })];
  expect(rounded).not.toEqual(exact);
  rounded.forEach((loss, step) => {
    expect(loss).toBeCloseTo(exact[step], 1);
  });
});

describe('stopped and gone on', () => {
  let whole: GlueResults;
  beforeAll(async () => {
    whole = await runGlue(optionsOf(), { device: new ReferenceDevice(), out: outOf('unstopped'), resume: false, checkpointEvery: 1e9 });
  });

  test.each([1, 3, 4, 6, 16])('after step %i: the same results', async (stopAt) => {
    const out = outOf(`stopped-${stopAt}`);
    const stop = new AbortController();
    let taken = 0;
    const onStep = () => void (++taken === stopAt && stop.abort());
    const stopped = await run(optionsOf(), { out, signal: stop.signal, onStep });
    expect(stopped.finished).toBe(false);
    expect(taken).toBe(stopAt);
    const resumed = await run(optionsOf(), { out, resume: true, onStep });
    expect(timeless(resumed)).toEqual(timeless(whole));
    // No step was taken twice.
    expect(taken).toBe(4 * stepsOfRun);
    expect(await readGlueResults(out)).toEqual(resumed);
    expect(existsSync(join(out, 'run', 'RTE-1'))).toBe(false);
  });

  test.each([
    [0, 0],
    [1e9, stepsOfRun],
  ])('while predictions are made, saves %d s apart: %i steps are taken again', async (checkpointEvery, again) => {
    const options = optionsOf({ tasks: ['MNLI'], seeds: 1 });
    const out = outOf(`predicting-${again}`);
    const stop = new AbortController();
    class StoppingDevice extends ReferenceDevice {
      override read(...args: Parameters<ReferenceDevice['read']>): ReturnType<ReferenceDevice['read']> {
        if (taken === stepsOfRun) stop.abort();
        return super.read(...args);
      }
    }
    let taken = 0;
    const onStep = () => void taken++;
    const stopped = await run(options, { device: new StoppingDevice(), out, signal: stop.signal, onStep, checkpointEvery });
    expect([stopped.finished, taken, stopped.tasks.MNLI.runs]).toEqual([false, stepsOfRun, []]);
    const resumed = await run(options, { out, resume: true, onStep });
    expect(taken).toBe(stepsOfRun + again);
    expect(timeless(resumed)).toEqual(timeless(await run(options, { out: outOf(`unstopped-${again}`) })));
  });

  test('more seeds and tasks: what is there is kept', async () => {
    const out = outOf('grown');
    await run(optionsOf({ tasks: ['RTE'], seeds: 1 }), { out });
    let taken = 0;
    const grown = await run(optionsOf(), { out, resume: true, onStep: () => void taken++ });
    expect(taken).toBe(3 * stepsOfRun);
    expect(timeless(grown)).toEqual(timeless(whole));
    expect(JSON.parse(readFileSync(join(out, 'run', 'options.json'), 'utf8'))).toMatchObject({ command: 'glue', ...optionsOf() });
  });

  test('other data are refused', async () => {
    const changed = join(folder, 'changed');
    writeTinyGlue(changed, ['RTE', 'STS-B']);
    const out = outOf('changed');
    const stop = new AbortController();
    let taken = 0;
    // In the first run of RTE: STS-B is finished.
    const onStep = () => void (++taken === 2 * stepsOfRun + 1 && stop.abort());
    await run(optionsOf({ data: changed }), { out, signal: stop.signal, onStep });
    writeFileSync(join(changed, 'RTE', 'train.tsv'), tinyGlueFile('RTE', 'train', 24, 1));
    await expect(run(optionsOf({ data: changed }), { out, resume: true })).rejects.toThrow(
      /RTE\/train\.tsv is not what the run in .* was started with/,
    );
    writeFileSync(join(changed, 'STS-B', 'dev.tsv'), tinyGlueFile('STS-B', 'dev', 12, 101));
    await expect(run(optionsOf({ data: changed, seeds: 3 }), { out, resume: true })).rejects.toThrow(
      `dev.tsv of STS-B differs from that of the results in ${out}`,
    );
  });
});

test('the training set of seeds that are done is that of further ones', async () => {
  const changed = join(folder, 'further');
  writeTinyGlue(changed, ['RTE']);
  const out = outOf('further');
  const options = optionsOf({ data: changed, tasks: ['RTE'], seeds: 1 });
  const { tasks } = await run(options, { out });
  writeFileSync(join(changed, 'RTE', 'train.tsv'), tinyGlueFile('RTE', 'train', 24, 1));
  const further = () => run({ ...options, seeds: 2 }, { out, resume: true });
  await expect(further()).rejects.toThrow(`RTE/train.tsv is not what the run in ${out} was started with; put it back`);
  expect((await readGlueResults(out)).tasks).toEqual(tasks);
  // Results that do not know their training set.
  const { fingerprint, ...rest } = tasks.RTE;
  writeFileSync(join(out, 'results.json'), JSON.stringify({ options, finished: true, tasks: { RTE: rest } }));
  expect((await further()).tasks.RTE.runs).toHaveLength(2);
});

test('a loss that is not finite: task, seed and step are named, and what can be done', async () => {
  const device = new ReferenceDevice();
  const clip = device.clipScale.bind(device);
  let steps = 0;
  device.clipScale = (a) => {
    clip(a);
    if (++steps > 1) device.fill({ output: a.output, value: Number.POSITIVE_INFINITY });
  };
  const failed = await run(optionsOf({ tasks: ['RTE'] }), { device }).catch((error) => error);
  expect(failed).toBeInstanceOf(FailureError);
  expect(failed.cause).toBeInstanceOf(FailureError);
  expect(failed.message).toMatch(
    /^RTE, seed 0: step 2: the gradient's norm is not finite \(learning rate .*\); the recipe is fixed and --resume comes to the same step: leave the task out with --tasks$/,
  );
});

describe('refused before anything is trained, leaving nothing behind', () => {
  const refused = async (options: GlueOptions, message: string | RegExp, session: Partial<GlueSession> = {}) => {
    const out = outOf('refused');
    const onStep = () => expect.unreachable('a step was taken');
    await expect(run(options, { out, onStep, ...session })).rejects.toThrow(message);
    expect(existsSync(out)).toBe(false);
  };

  test('a damaged file of the last task', async () => {
    const damaged = join(folder, 'damaged');
    writeTinyGlue(damaged, ['CoLA', 'MNLI']);
    const path = join(damaged, 'MNLI', 'dev_mismatched.tsv');
    writeFileSync(path, `${readFileSync(path, 'utf8')}half a row\n`);
    await refused(optionsOf({ data: damaged, tasks: ['CoLA', 'MNLI'] }), `${path}, line 14: has 1 columns, expected 16`);
  });

  test('a task that is missing', async () => {
    await refused(optionsOf({ tasks: ['CoLA', 'QNLI'] }), `${join(data, 'QNLI', 'train.tsv')}: cannot read: no such file`);
  });

  test('a model with a head that was trained already', async () => {
    const classifier = join(folder, 'classifier');
    using device = new ReferenceDevice();
    using made = await loadSequenceClassifier(model, device, { fresh: { labels: 2, seed: 1 } });
    await saveCheckpoint(classifier, made, { tokenizer: (await Tokenizer.load(join(model, 'tokenizer.json'))).json });
    await refused(optionsOf({ model: classifier }), /: its weights hold 'head\.weight', a head that was trained already/);
  });

  test('results of another dev set to compare with, whichever they are', async () => {
    const results = await run(optionsOf({ tasks: ['RTE'], seeds: 1 }));
    const other = structuredClone(results);
    other.tasks.RTE.labels.RTE[3] = 1 - other.tasks.RTE.labels.RTE[3];
    const against = [
      { folder: '/same', results },
      { folder: '/other', results: other },
    ];
    await refused(optionsOf(), 'dev.tsv of RTE differs from that of the results in /other', { against });
    const out = outOf('compared');
    await run(optionsOf({ tasks: ['RTE'], seeds: 1 }), { out });
    await expect(run(optionsOf({ tasks: ['RTE'], seeds: 1 }), { out, resume: true, against })).rejects.toThrow('results in /other');
  });

  test('results without a task of the mean in common', async () => {
    const rte = { folder: '/rte', results: await run(optionsOf({ tasks: ['RTE'], seeds: 1 })) };
    const cola = { folder: '/cola', results: await run(optionsOf({ tasks: ['CoLA'], seeds: 1 })) };
    const refusal = (folder: string, has: string, other: string) =>
      `${folder}: of the tasks that count in the mean it has ${has}, what it is compared with ${other}, expected one in common`;
    await refused(optionsOf({ tasks: ['STS-B'] }), refusal('/rte', 'RTE', 'STS-B'), { against: [rte] });
    await refused(optionsOf({ tasks: ['WNLI'] }), refusal('/rte', 'RTE', 'none'), { against: [rte] });
    await refused(optionsOf({ tasks: ['CoLA', 'RTE'] }), refusal('/cola', 'CoLA', 'RTE'), { against: [rte, cola] });
  });
});

test.each([
  ['{}', /results\.json: 'options': .*expected the results of 'ufb glue --out'/],
  ['no JSON', /results\.json: is not valid JSON/],
  [(text: string) => text.replace('"RTE":{"training"', '"SNLI":{"training"'), /'tasks\.SNLI'/],
  [
    (text: string) => text.replace(/"predictions":\{"RTE":\[\d,/, '"predictions":{"RTE":['),
    /'tasks\.RTE': labels, predictions and scores of RTE do not fit/,
  ],
  [
    (text: string) => text.replace(/"predictions":\{"RTE":\[\d,/, '"predictions":{"RTE":["0",'),
    /'tasks\.RTE\.runs\.0\.predictions\.RTE\.0'/,
  ],
  ...(['labels', 'predictions', 'test'] as const).flatMap((list) =>
    [7, 0.5, -1].map((value): [(text: string) => string, RegExp] => [
      (text) => text.replace(new RegExp(`"${list}":\\{"RTE":\\[\\d,`), `"${list}":{"RTE":[${value},`),
      new RegExp(`results\\.json: 'tasks\\.RTE': RTE has a class ${value}, expected whole numbers from 0 to 1`),
    ]),
  ),
])('results that were damaged are refused: %s', async (change, message) => {
  const out = mkdtempSync(join(folder, 'damaged-'));
  await run(optionsOf({ tasks: ['RTE'], seeds: 1, epochs: 1 }), { out });
  const path = join(out, 'results.json');
  writeFileSync(path, typeof change === 'string' ? change : change(readFileSync(path, 'utf8')));
  await expect(readGlueResults(out)).rejects.toThrow(message);
});

test('results that are part of this repository, older than some of the fields, are read', async () => {
  const { tasks } = await readGlueResults(join(import.meta.dirname, '../../docs/glue/minilm'));
  expect(Object.keys(tasks)).toEqual(['CoLA', 'STS-B', 'RTE', 'MRPC', 'SST-2']);
});
