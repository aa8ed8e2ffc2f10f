import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { writeAside } from '#platform';
import { InputError } from '../../src/errors.ts';
import { kindOf, readJson, readLines, writeFileAtomic } from '../../src/io/files.ts';
import { extentOfTokenizer } from '../../src/io/json.ts';
import { resolveModelFolder } from '../../src/io/model_folder.ts';
import { temporaryFolder } from '../temporary.ts';

const folder = temporaryFolder();
const file = (name: string, data: string | Uint8Array) => {
  writeFileSync(join(folder, name), data);
  return join(folder, name);
};

async function linesOf(path: string): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of readLines(path)) lines.push(line);
  return lines;
}

test('lines of plain and gzipped text are the same', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.string({ unit: 'grapheme' }).filter((line) => !/[\r\n\ufeff]/.test(line))), async (lines) => {
      const text = lines.map((line) => `${line}\n`).join('');
      expect(await linesOf(file('plain', text))).toEqual(lines);
      expect(await linesOf(file('zipped', gzipSync(text)))).toEqual(lines);
    }),
    { numRuns: 30 },
  );
});

test('line ends, byte-order mark, a last line without its end, several gzip members', async () => {
  expect(await linesOf(file('dos', '\ufeffa\r\nb\r\n\r\nc'))).toEqual(['a', 'b', '', 'c']);
  expect(await linesOf(file('members', Buffer.concat([gzipSync('a\nb'), gzipSync('c\n')])))).toEqual(['a', 'bc']);
  expect(await linesOf(file('empty', ''))).toEqual([]);
});

test('characters that straddle blocks stay whole', async () => {
  const text = '€'.repeat(300_000);
  expect((await linesOf(file('blocks', text))).join('')).toBe(text);
});

test('an endless line comes in pieces', async () => {
  const words = 'word '.repeat(500_000);
  const pieces = await linesOf(file('long', words));
  expect(pieces.length).toBeGreaterThan(1);
  expect(pieces.join('')).toBe(words);
  expect(pieces.every((piece) => piece.length <= 2 ** 20)).toBe(true);
  expect((await linesOf(file('long-emoji', '😀'.repeat(600_000)))).every((piece) => !/[\ud800-\udbff]$/.test(piece))).toBe(true);
});

test('an endless line is cut, or refused by its number, where lines are counted', async () => {
  const path = file('long-third', `one\r\ntwo\n${'word '.repeat(700_000)}\nfour`);
  const cut: string[] = [];
  for await (const line of readLines(path, 'cut')) cut.push(line);
  expect(cut).toEqual(['one', 'two', expect.stringMatching(/^word word/), 'four']);
  expect(cut[2].length).toBeLessThanOrEqual(2 ** 20);
  const read: string[] = [];
  const notices: string[] = [];
  for (const how of ['pieces', 'cut'] as const) for await (const _ of readLines(path, how, (line) => notices.push(line)));
  const long = `${path}, line 3: has more than 1048576 characters`;
  expect(notices).toEqual([`${long}: it is read in pieces, expected a paragraph a line`, `${long}: the rest is left out`]);
  const refused = (async () => {
    for await (const line of readLines(path, 'refuse')) read.push(line);
  })();
  await expect(refused).rejects.toThrow(/long-third, line 3: has more than 1048576 characters/);
  expect(read).toEqual(['one', 'two']);
});

test('what is no UTF-8 is refused by its line, wherever it stands, behind the lines before it; NUL is a character', async () => {
  expect(await linesOf(file('nul', 'the cat\0 sat\n\0\n'))).toEqual(['the cat\0 sat', '\0']);
  const many = 'a line of the text\n'.repeat(100_000);
  const latin = Buffer.concat([Buffer.from(`${many}caf`), Buffer.from([0xe9]), Buffer.from(' ole\nmore\n')]);
  for (const [name, bytes] of [['latin', latin] as const, ['latin.gz', gzipSync(latin)] as const]) {
    const read: string[] = [];
    const refused = (async () => {
      for await (const line of readLines(file(name, bytes))) read.push(line);
    })();
    const message = `${join(folder, name)}, line 100001: is not UTF-8 text (byte 0xe9), plain or gzipped; if it is ISO-8859-1, convert it: iconv -f ISO-8859-1 -t UTF-8 OLD > NEW`;
    await expect(refused).rejects.toThrow(new InputError(message));
    expect(read).toHaveLength(100_000);
  }
  await expect(linesOf(file('end', Buffer.from([0x61, 0x0a, 0xe2, 0x82])))).rejects.toThrow('end, line 2: is not UTF-8 text (byte 0xe2)');
  for (const mark of [0xff, 0xfe])
    await expect(linesOf(file('utf-16', Buffer.from([mark, mark ^ 1, 0x61, 0])))).rejects.toThrow(
      /utf-16, line 1: is not UTF-8 .* if it is UTF-16, convert it: iconv -f UTF-16 -t UTF-8/,
    );
});

test.skipIf(process.platform === 'win32')('what the message advises makes UTF-8 of it', async () => {
  for (const [encoding, bytes] of [
    ['ISO-8859-1', Buffer.from('café', 'latin1')],
    ['UTF-16', Buffer.from('\ufeffcafé', 'utf16le')],
  ] as const) {
    const [old, now] = [file('old', bytes), join(folder, 'now')];
    const message = await linesOf(old).catch((error) => error.message as string);
    const command = /convert it: (.*)$/
      .exec(message as string)?.[1]
      .replace('OLD', old)
      .replace('NEW', now) as string;
    expect(command).toContain(encoding);
    execFileSync('sh', ['-c', command]);
    expect(await linesOf(now)).toEqual(['café']);
  }
});

test('a damaged gzip stream is an InputError that names the file', async () => {
  const zipped = gzipSync('text '.repeat(1000));
  await expect(linesOf(file('cut.gz', zipped.subarray(0, 40)))).rejects.toThrow(/cut\.gz: the gzip stream is damaged or cut short/);
  const damaged = Buffer.from(zipped);
  damaged[20] ^= 255;
  await expect(linesOf(file('damaged.gz', damaged))).rejects.toThrow(InputError);
  await expect(linesOf(join(folder, 'absent'))).rejects.toThrow('cannot read: no such file');
});

test('stopping early closes the file', async () => {
  const path = file('early', 'a\nb\n'.repeat(200_000));
  for await (const line of readLines(path)) {
    expect(line).toBe('a');
    break;
  }
  const zipped = file('early.gz', gzipSync('a\nb\n'.repeat(200_000)));
  for await (const line of readLines(zipped)) {
    expect(line).toBe('a');
    break;
  }
});

test('JSON files', async () => {
  expect(await readJson(file('good.json', '{"a":[1]}'))).toEqual({ a: [1] });
  await expect(readJson(file('bad.json', '{\n"a":\n\n'))).rejects.toThrow(/bad\.json: is not valid JSON: [^\n]+$/);
  await expect(readJson(file('empty.json', ''))).rejects.toThrow('is empty, expected JSON');
  await expect(readJson(file('latin.json', Buffer.from([0x22, 0xe9, 0x22])))).rejects.toThrow('is not UTF-8');
  await expect(readJson(folder)).rejects.toThrow('is a folder');
  const nested = (levels: number) => file('nested.json', `${'[{"a":'.repeat(levels / 2)}1${'}]'.repeat(levels / 2)}`);
  await readJson(nested(100));
  for (const levels of [102, 200_000]) await expect(readJson(nested(levels))).rejects.toThrow(/nested more than 100 levels deep/);
});

test('JSON that holds more than any is refused before anything is made of it', async () => {
  const lists = (count: number) => `["a,[b\\"{:",${'[],'.repeat(count)}1]`;
  await readJson(file('lists.json', lists(240_000)));
  const many = file('lists.json', lists(5_000_000));
  await expect(readJson(many)).rejects.toThrow(
    /lists\.json: holds more than 1000000 values \(a key or a list counts as three\), expected fewer$/,
  );
  await expect(readJson(many, extentOfTokenizer)).rejects.toThrow('holds more than 5000000 values');
  const keys = Array.from({ length: 300_000 }, (_, i) => `"${i}":0`).join();
  await expect(readJson(file('keys.json', `{${keys}}`))).rejects.toThrow('holds more than 1000000 values');
  // As many classes as a model may have, named in both directions.
  const names = Array.from({ length: 2 ** 16 }, (_, i) => [`a class ${i}`, i] as const);
  const classes = { id2label: Object.fromEntries(names.map(([name, i]) => [i, name])), label2id: Object.fromEntries(names) };
  expect(await readJson(file('classes.json', JSON.stringify(classes)))).toEqual(classes);
  // Numbers take little, and a string is one value, whatever is in it.
  await readJson(file('numbers.json', `[${'1,'.repeat(900_000)}1]`));
  await readJson(file('string.json', `"${'[{,:'.repeat(100_000)}"`));
});

test.skipIf(process.platform === 'win32')('a pipe is no file, and is not waited for', async () => {
  const path = join(folder, 'pipe.json');
  execFileSync('mkfifo', [path]);
  await expect(readJson(path)).rejects.toThrow(new InputError(`${path}: cannot read: is not a regular file`));
});

test('files are written whole or not at all', async () => {
  const path = join(folder, 'new', 'folder', 'file.txt');
  await writeFileAtomic(path, 'one');
  await writeFileAtomic(path, 'two');
  expect(readFileSync(path, 'utf8')).toBe('two');
  expect(readdirSync(join(folder, 'new', 'folder'))).toEqual(['file.txt']);
  await expect(writeFileAtomic(join(path, 'below'), 'x')).rejects.toThrow(InputError);
  await expect(writeFileAtomic(join(folder, 'new'), 'x')).rejects.toThrow('cannot write: is a folder');
});

test('a folder that was made for a file that was not written goes again', async () => {
  mkdirSync(join(folder, 'there'));
  await (await writeAside(join(folder, 'there', 'a', 'b', 'file.txt'))).abort();
  expect(readdirSync(join(folder, 'there'))).toEqual([]);
});

test('devices are not replaced', async () => {
  const socket = createServer().listen(join(folder, 'socket'));
  await once(socket, 'listening');
  await expect(writeFileAtomic(join(folder, 'socket'), 'x')).rejects.toThrow('is not a regular file');
  await new Promise((resolve) => socket.close(resolve));
});

test.runIf(process.platform === 'linux')('where no folder can be made', async () => {
  await expect(writeFileAtomic('/proc/ufb/below/file', 'x')).rejects.toThrow('/proc/ufb/below/file: cannot write: no such file');
});

test('model folders', async () => {
  symlinkSync('loop', join(folder, 'loop'));
  await expect(resolveModelFolder(join(folder, 'loop'))).rejects.toThrow('loop: cannot read: symbolic links');
  await expect(resolveModelFolder(join(folder, 'nowhere'))).rejects.toThrow(
    'no such folder; expected a model folder with config.json, model.safetensors, tokenizer.json',
  );
  const model = join(folder, 'model');
  mkdirSync(model);
  writeFileSync(join(model, 'config.json'), '{}');
  await expect(resolveModelFolder(model)).rejects.toThrow('lacks model.safetensors and tokenizer.json');
  writeFileSync(join(model, 'model.safetensors'), '');
  writeFileSync(join(model, 'tokenizer.json'), '{}');
  expect(await resolveModelFolder(model)).toBe(model);
});

test('a link goes on leading where it did, and who may read a file may do so still', async () => {
  const home = temporaryFolder();
  const [target, link] = [join(home, 'target.json'), join(home, 'link.json')];
  writeFileSync(target, 'old');
  chmodSync(target, 0o604);
  symlinkSync('target.json', link);
  await writeFileAtomic(link, 'new');
  expect([readFileSync(target, 'utf8'), readlinkSync(link), statSync(target).mode & 0o777]).toEqual(['new', 'target.json', 0o604]);
  expect(readdirSync(home).sort()).toEqual(['link.json', 'target.json']);
});

test('what lies at a path that cannot be looked at: said in words', async () => {
  const home = temporaryFolder();
  symlinkSync('b', join(home, 'a'));
  symlinkSync('a', join(home, 'b'));
  await expect(kindOf(join(home, 'a'))).rejects.toThrow(/a: cannot read: symbolic links that lead to each other/);
  await expect(resolveModelFolder(join(home, 'a', 'x'))).rejects.toThrow(InputError);
});

test('a part left behind by a process of the same number that was killed does not stand in the way', async () => {
  const home = temporaryFolder();
  // Numbers of later writes: more than this file has made by now.
  for (let write = 1; write <= 100; write++) writeFileSync(join(home, `.a.json.${process.pid}-${threadId}.${write}.part`), 'half');
  await writeFileAtomic(join(home, 'a.json'), '{}');
  expect(readFileSync(join(home, 'a.json'), 'utf8')).toBe('{}');
});
