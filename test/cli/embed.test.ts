import { execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { close, common, expected, folder, lines, madeBy, matrix, model, otherText, text } from './embedded_lines.ts';
import { program, ufb, withoutFallback } from './ufb.ts';

describe('ufb embed', () => {
  test('a matrix', async () => {
    const out = join(folder, 'lines.npy');
    const { code, stderr } = await ufb(['embed', ...common, '--out', out]);
    expect(code, stderr).toBe(0);
    expect(matrix(out)).toMatchObject({ rows: 60, columns: 16 });
    close(matrix(out).values);
    expect(existsSync(`${out}.part`) || existsSync(`${out}.part.json`)).toBe(false);
  });

  test('JSON lines, to a file and to standard output', async () => {
    const out = join(folder, 'lines.jsonl');
    expect((await ufb(['embed', ...common, '--out', out])).code).toBe(0);
    const { stdout } = await ufb(['embed', '--model', model, '--in', '-', '--quiet'], lines.join('\n'));
    for (const written of [readFileSync(out, 'utf8'), stdout])
      close(
        written
          .trim()
          .split('\n')
          .flatMap((line) => JSON.parse(line)),
      );
  });

  test.skipIf(process.platform === 'win32')('a stream that can be read but once', async () => {
    const [pipe, out] = [join(folder, 'pipe'), join(folder, 'of-a-pipe.npy')];
    execFileSync('mkfifo', [pipe]);
    for (const [args, read] of [
      [
        ['--quiet'],
        (stdout: string) =>
          Float32Array.from(
            stdout
              .trim()
              .split('\n')
              .flatMap((line) => JSON.parse(line)),
          ),
      ],
      [['--out', out], () => matrix(out).values],
    ] as const) {
      const writing = writeFile(pipe, `${lines.join('\n')}\n`);
      const { code, stdout, stderr } = await ufb(['embed', '--model', model, '--in', pipe, ...args]);
      expect(code, stderr).toBe(0);
      await writing;
      close(read(stdout));
    }
  });

  test.each(['npy', 'jsonl'])('goes on where it was stopped: %s', async (ending) => {
    const [whole, out] = [join(folder, `whole.${ending}`), join(folder, `resumed.${ending}`)];
    await ufb(['embed', ...common, '--out', whole]);
    // As a run leaves it that ended in the middle of a vector.
    const bytes = readFileSync(whole);
    writeFileSync(`${out}.part`, bytes);
    truncateSync(`${out}.part`, Math.floor(bytes.length / 3));
    writeFileSync(`${out}.part.json`, madeBy());
    const anew = `remove ${out}.part and ${out}.part.json to begin anew`;
    const refused = await ufb(['embed', ...common, '--out', out]);
    expect([refused.code, refused.stderr]).toEqual([2, `ufb: ${out}.part exists: go on with --resume, or ${anew}\n`]);
    for (const [given, difference] of [
      [['--dtype', 'i8'], '--dtype was "f32" and is "i8"'],
      [['--dimensions', '16'], '--dimensions was not given and is 16'],
      [['--dimensions', '8'], 'width was 16 and is 8'],
      [['--prompt', 'a: '], '--prompt was not given and is "a: "'],
      [['--embedding-dtype', 'binary'], '--embedding-dtype was "f32" and is "binary"'],
      [['--in', otherText], '--in named other files, or they were changed since'],
    ] as const) {
      const { code, stderr } = await ufb(['embed', ...common, ...given, '--out', out, '--resume']);
      expect([code, stderr]).toEqual([
        2,
        `ufb: ${out}.part.json: the vectors there were made otherwise: ${difference}; say the same again, or ${anew}\n`,
      ]);
    }
    const { code, stderr } = await ufb(['embed', ...common, '--out', out, '--resume']);
    expect(code, stderr).toBe(0);
    close(
      ending === 'npy'
        ? matrix(out).values
        : readFileSync(out, 'utf8')
            .trim()
            .split('\n')
            .flatMap((line) => JSON.parse(line)),
    );
  });

  test('one process at a time; a lock that a crash left does not hold', async () => {
    const out = join(folder, 'locked.npy');
    const child = spawn(process.execPath, [program, 'embed', '--model', model, '--in', '-', '--out', out]);
    const ended = new Promise((resolve) => child.once('close', resolve));
    while (!existsSync(`${out}.part`)) await new Promise((resolve) => setTimeout(resolve, 20));
    for (const more of [[], ['--resume']]) {
      const { code, stderr } = await ufb(['embed', ...common, '--out', out, ...more]);
      expect([code, stderr]).toEqual([2, `ufb: ${out}: process ${child.pid} on ${hostname()} is at work on it: wait for it, or end it\n`]);
    }
    child.kill('SIGKILL');
    await ended;
    expect(existsSync(`${out}.part.lock`)).toBe(true);
    rmSync(`${out}.part`);
    rmSync(`${out}.part.json`);
    expect((await ufb(['embed', ...common, '--out', out])).code).toBe(0);
    close(matrix(out).values);
    expect(readdirSync(folder).filter((name) => name.startsWith('locked'))).toEqual(['locked.npy']);
  });

  test('another model of the same weights is not gone on with', async () => {
    const [copy, out] = [join(folder, 'copy of the model'), join(folder, 'of-copy.npy')];
    cpSync(model, copy, { recursive: true, preserveTimestamps: true });
    const given = ['embed', '--model', copy, '--in', text, '--out', out];
    await ufb(given);
    writeFileSync(`${out}.part`, readFileSync(out));
    writeFileSync(`${out}.part.json`, madeBy('f32', copy));
    writeFileSync(join(copy, 'config_sentence_transformers.json'), '{"truncate_dim": 16}');
    expect(await ufb([...given, '--resume'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('made otherwise: --model named other files, or they were changed since'),
    });
  });

  test('stopped by a signal, it keeps what it has and ends with code 1', async () => {
    const [many, out] = [join(folder, 'many.txt'), join(folder, 'many.npy')];
    writeFileSync(many, `${lines.join('\n')}\n`.repeat(2000));
    const child = spawn(process.execPath, [program, 'embed', '--model', model, '--in', many, '--out', out]);
    let stderr = '';
    child.stderr.on('data', (text) => (stderr += text));
    const ended = new Promise((resolve) => child.once('close', resolve));
    // It has something to go on from when there are vectors behind the part's first line, from more than one batch.
    while (!existsSync(`${out}.part`) || readFileSync(`${out}.part`).length < 100_000)
      await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGINT');
    expect(await ended).toBe(1);
    expect(withoutFallback(stderr)).toMatch(/^ufb: stopped after \d+ lines; go on with --resume\n$/);
    expect((await ufb(['embed', '--model', model, '--in', many, '--out', out, '--resume'])).code).toBe(0);
    const { rows, values } = matrix(out);
    expect(rows).toBe(60 * 2000);
    close(values.subarray(values.length - expected.length));
  });

  test('stopped by a signal while it waits for a line', async () => {
    const child = spawn(process.execPath, [program, 'embed', '--model', model, '--in', '-']);
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.stdin.on('error', () => {});
    child.stdin.write(`${lines.join('\n')}\n`.repeat(20));
    // All that was given is done, but what waits for more of a batch.
    let vectors = 0;
    for await (const text of child.stdout.iterator({ destroyOnReturn: false })) {
      vectors += String(text).split('\n').length - 1;
      if (vectors >= 19 * lines.length) break;
    }
    child.stdout.resume();
    child.kill('SIGINT');
    expect(await ended).toBe(1);
  });

  test.skipIf(process.platform === 'win32')('what is no file is not replaced, and said before any work', async () => {
    const fifo = join(folder, 'out-pipe');
    execFileSync('mkfifo', [fifo]);
    for (const [out, message] of [
      [fifo, /out-pipe: cannot write: is not a regular file/],
      [folder, /cannot write: is a folder/],
      ['', /--out is empty/],
    ] as const) {
      const { code, stderr } = await ufb(['embed', ...common, '--out', out]);
      expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
    }
    expect(statSync(fifo).isFIFO()).toBe(true);
  });

  test('folders that are missing are made; where none can be, it is said', async () => {
    const out = join(folder, 'new', 'folder', 'x.npy');
    expect((await ufb(['embed', ...common, '--out', out])).code).toBe(0);
    expect(matrix(out).rows).toBe(60);
    const { code, stderr } = await ufb(['embed', ...common, '--out', join(text, 'x.npy')]);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/x\.npy: cannot write: a part of the path is not a folder/)]);
  });

  test('the text is not overwritten, a finished file not resumed, a text that is missing leaves nothing', async () => {
    const before = readFileSync(text, 'utf8');
    expect(await ufb(['embed', ...common, '--out', text])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('which is read: expected another'),
    });
    expect(readFileSync(text, 'utf8')).toBe(before);
    const out = join(folder, 'lines.npy');
    expect(await ufb(['embed', ...common, '--out', out, '--resume'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('is finished'),
    });
    const other = join(folder, 'other.npy');
    expect((await ufb(['embed', '--model', model, '--in', join(folder, 'nowhere.txt'), '--out', other])).code).toBe(2);
    expect((await ufb(['embed', ...common, '--out', other])).code).toBe(0);
  });
});

test('ufb embed --dimensions: the first numbers of each vector, with which ufb similar compares', async () => {
  const out = join(folder, 'short.of-five.npy');
  expect((await ufb(['embed', ...common, '--dimensions', '5', '--out', out])).code).toBe(0);
  const { rows, columns, values } = matrix(out);
  expect([rows, columns]).toEqual([60, 5]);
  for (const [i, value] of values.entries()) expect(value).toBeCloseTo(expected[Math.floor(i / 5) * 16 + (i % 5)], 5);
  const { stdout } = await ufb(['similar', lines[17], ...common, '--vectors', out, '--dimensions', '5', '--json', '--quiet']);
  expect(JSON.parse(stdout).found[0].score).toBeCloseTo(1, 5);
  const { code, stderr } = await ufb(['embed', ...common, '--dimensions', '17', '--out', join(folder, 'long.npy')]);
  expect([code, stderr]).toEqual([2, 'ufb: dimensions: got 17, expected a whole number from 1 to 16, as many as the vectors have\n']);
  expect(existsSync(join(folder, 'long.npy.part'))).toBe(false);
});

test('lines that cannot be taken are reported and have a row of zeros; similar reads standard input, and names several words', async () => {
  // A tokenizer that puts nothing around a text makes no token of one without characters.
  const bare = join(folder, 'bare');
  cpSync(model, bare, { recursive: true });
  const tokenizer = JSON.parse(readFileSync(join(bare, 'tokenizer.json'), 'utf8'));
  writeFileSync(join(bare, 'tokenizer.json'), JSON.stringify({ ...tokenizer, post_processor: null }));
  const [lines, out] = [join(folder, 'bad-lines.txt'), join(folder, 'bad-lines.jsonl')];
  writeFileSync(lines, '\na dog\n\u200b\nthe cat\n\n');
  const { code, stderr } = await ufb(['embed', '--model', bare, '--in', lines, '--out', out]);
  expect(code).toBe(1);
  const why = 'whose vector is zeros: the tokenizer makes no token of it, expected some text';
  for (const line of [1, 3, 5]) expect(stderr).toContain(`ufb: ${lines}, line ${line}, ${why}\n`);
  expect(stderr).toContain('2 of 5 texts answered\n');
  const vectors = readFileSync(out, 'utf8')
    .trimEnd()
    .split('\n')
    .map((row) => JSON.parse(row) as number[]);
  expect(vectors.map((vector) => vector.some((value) => value !== 0))).toEqual([false, true, false, true, false]);
  expect(new Set(vectors.map(({ length }) => length)).size).toBe(1);

  const found = await ufb(['similar', 'the cat', '--model', model, '--in', '-', '--top-k', '1'], 'a dog\nthe cat\n');
  expect([found.code, found.stdout]).toEqual([0, expect.stringMatching(/^1\.0000 +2 {2}the cat\n$/)]);
  const words = await ufb(['similar', 'the', 'cat', '--model', model, '--in', lines]);
  expect([words.code, words.stderr]).toEqual([2, expect.stringContaining('A text of several words is written in quotes.')]);
});

test.skipIf(process.platform === 'win32')('a file that may not grow is named, and what was written goes on once it may', async () => {
  const out = join(folder, 'bounded.jsonl');
  const command = [process.execPath, program, 'embed', ...common, '--out', out, '--device', 'reference'];
  const child = spawn('sh', ['-c', 'ulimit -f 8; exec "$@"', 'sh', ...command]);
  let stderr = '';
  child.stderr.on('data', (said) => (stderr += said));
  const code = await new Promise((done) => child.on('close', done));
  expect(stderr).toBe(
    `ufb: ${out}.part: cannot write: the file would be larger than it may be: raise the limit (ulimit -f), or name a place on another file system\n`,
  );
  expect(code).toBe(1);
  expect(await ufb(['embed', ...common, '--out', out, '--device', 'reference', '--resume'])).toMatchObject({ code: 0 });
  close(
    readFileSync(out, 'utf8')
      .trimEnd()
      .split('\n')
      .flatMap((line) => JSON.parse(line) as number[]),
  );
});
