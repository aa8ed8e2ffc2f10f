/**
 * THIRD_PARTY_NOTICES.md: the licenses of all that the package contains of others. `node scripts/third_party_notices.mjs` writes it, of the
 * packages that the last build bundled (tsdown.config.ts lists them in build/bundled_packages.json). A test compares.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './setup.mjs';

/** What the prebuilt native add-ons contain, by the compiler that makes them: Zig's copies of these libraries. */
const native = `The native add-ons in \`prebuilds/\` also contain parts of:

- LLVM's libc++, libc++abi, libunwind and compiler-rt (Apache License 2.0 with LLVM exceptions, which ask for no notice in compiled code)
- for Windows, the runtime of mingw-w64 (public domain, Zope Public License 2.1) and its winpthreads (MIT)`;

export function thirdPartyNotices() {
  const names = JSON.parse(readFileSync(join(root, 'build', 'bundled_packages.json'), 'utf8'));
  const packages = names.map((name) => {
    const folder = join(root, 'node_modules', name);
    const { license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return { name, license, texts: textsIn(folder) };
  });
  // Packages of one author often have one text.
  const sections = new Map();
  for (const { name, texts } of packages)
    for (const [title, text] of texts) {
      const key = `${title}\0${text}`;
      sections.set(key, { title, text, names: [...(sections.get(key)?.names ?? []), name] });
    }
  const list = packages.map(({ name, license }) => `- ${name} (${license})`).join('\n');
  const texts = [...sections.values()].map(({ title, text, names: of }) => `## ${of.join(', ')}: ${title}\n\n\`\`\`text\n${text}\n\`\`\``);
  return `# Third-party notices

The program and the library in \`dist/\` contain parts of the packages below. Made by scripts/third_party_notices.mjs.

${list}

${native}

${texts.join('\n\n')}
`;
}

/** [title, text] of each file that says under which license a package is. */
function textsIn(folder) {
  const files = readdirSync(folder).filter((name) => /^(licen[cs]e|notice|copying)(?!s$)/i.test(name));
  // ECharts has parts of others, whose texts lie here.
  const inner = join(folder, 'licenses');
  if (existsSync(inner)) files.push(...readdirSync(inner).map((name) => join('licenses', name)));
  return files.map((file) => [
    file.replace(/^licenses./, '').replace(/\.(md|txt)$/i, ''),
    readFileSync(join(folder, file), 'utf8').replaceAll('\r', '').replaceAll('```', "'''").trim(),
  ]);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) writeFileSync(join(root, 'THIRD_PARTY_NOTICES.md'), thirdPartyNotices());
