import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { ufb } from './cli/ufb.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const under = (folder: string) => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => `${folder}/${name}`);
const pages = [...readdirSync(root), ...['docs', 'models', 'examples'].flatMap(under)].filter((path) => path.endsWith('.md'));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
/** Without code, in which brackets are no links. */
const prose = (text: string) => text.replace(/```.*?```/gs, '').replace(/`[^`\n]*`/g, '');

/** As GitHub makes them: lower case, no punctuation, hyphens for spaces. */
function anchors(text: string): string[] {
  const headings = [...text.replace(/```.*?```/gs, '').matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading);
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test.each(pages)('%s: links lead to files and headings that are there', (page) => {
  for (const [, target] of prose(read(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [path, anchor] = target.split('#');
    const file = path ? relative(root, join(root, dirname(page), path)) : page;
    expect(existsSync(join(root, file)), target).toBe(true);
    if (anchor) expect(anchors(read(file)), target).toContain(anchor);
  }
});

test.each(pages)('%s: paths of the tree that it names are there', (page) => {
  for (const [, path] of read(page).matchAll(/`((?:src|kernels|test|scripts|docs|examples)\/[\w./-]+)`/g))
    expect(existsSync(join(root, path)), path).toBe(true);
});

test('comments name pages that are there', () => {
  const sources = ['src', 'kernels', 'test', 'scripts'].flatMap(under).filter((path) => /\.(?:ts|js|mjs|h|cc)$/.test(path));
  const named = sources.flatMap((path) => [...read(path).matchAll(/\bdocs\/[\w./-]+\.md\b/g)].map(([name]) => ({ path, name })));
  expect(named.length).toBeGreaterThan(0);
  expect(named.filter(({ name }) => !existsSync(join(root, name)))).toEqual([]);
});

test('every decision is in the index, and has context, decision and evidence', () => {
  const folder = join(root, 'docs/decisions');
  const index = read('docs/decisions/README.md');
  for (const name of readdirSync(folder).filter((name) => name !== 'README.md')) {
    expect(index).toContain(`](${name}): `);
    const headings = [...read(`docs/decisions/${name}`).matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
    expect(headings, name).toEqual(['Context', 'Decision', 'Evidence']);
  }
});

test('commands that pages show are there, and have the options they show', async () => {
  const shown = new Map<string, Set<string>>();
  for (const page of pages) {
    const text = read(page).replace(/\\\n/g, ' ');
    for (const [code] of text.matchAll(/```sh.*?```|`[^`\n]+`/gs))
      for (const [, command, rest] of code.matchAll(/\bufb ((?:(?:eval|export|bench) )?[a-z][a-z-]*)([^\n`|]*)/g)) {
        const options = shown.get(command) ?? new Set();
        for (const [, option] of rest.replace(/#.*/, '').matchAll(/ (--[a-z][a-z-]*)/g)) options.add(option);
        shown.set(command, options);
      }
  }
  expect(shown.size).toBeGreaterThan(20);
  const commands = [...shown].map(async ([command, options]) => {
    const { code, stdout, stderr } = await ufb([...command.split(' '), '--help']);
    expect(code, `${command}: ${stderr}`).toBe(0);
    const known = new Set([...stdout.matchAll(/(--[a-z][a-z-]*)/g)].map(([option]) => option));
    expect(
      [...options].filter((option) => !known.has(option)),
      command,
    ).toEqual([]);
  });
  await Promise.all(commands);
});
