/** Folders as Python's tools write or take them: test/fixtures/python-tools/base with changes. */
import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readSafetensors } from '../src/io/safetensors.ts';
import { writeSafetensors } from '../src/io/safetensors_writer.ts';
import { temporaryFolder } from './temporary.ts';

const fixtures = new URL('./fixtures/python-tools/', import.meta.url).pathname;

/** What one of the scripts there made. */
export const figures = <T>(name: string): T => JSON.parse(readFileSync(join(fixtures, name), 'utf8')) as T;

/** How a folder differs from base/; the scripts say what their parts mean. */
export interface Changes {
  rename?: Record<string, string>;
  remove?: string[];
  add?: Record<string, { shape: number[]; scale: number }>;
  config?: object;
  /** Keys of config.json that are left out. */
  without?: string[];
  /** To other places. */
  move?: Record<string, string>;
  copy?: Record<string, string>;
  files?: Record<string, unknown>;
}

type Lists = Record<string, number[] | number[][]>;

export async function writePythonModel(
  name: string,
  { rename = {}, remove = [], add = {}, config, without, move = {}, copy = {}, files = {} }: Changes,
): Promise<string> {
  const folder = join(temporaryFolder(), name);
  rmSync(folder, { recursive: true, force: true });
  cpSync(join(fixtures, 'base'), folder, { recursive: true });
  chmodSync(folder, 0o755);
  const path = (file: string) => join(folder, file);
  if (config || without) {
    const all = Object.entries({ ...JSON.parse(readFileSync(path('config.json'), 'utf8')), ...config });
    writeFileSync(path('config.json'), JSON.stringify(Object.fromEntries(all.filter(([key]) => !without?.includes(key)))));
  }
  for (const [from, to] of Object.entries({ ...move, ...copy })) {
    mkdirSync(dirname(path(to)), { recursive: true });
    (from in move ? renameSync : copyFileSync)(path(from), path(to));
  }
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(path(file)), { recursive: true });
    if (content === null) rmSync(path(file));
    else if (!file.endsWith('.safetensors')) writeFileSync(path(file), typeof content === 'string' ? content : JSON.stringify(content));
    else
      await writeSafetensors(
        path(file),
        Object.entries(content as Lists).map(([tensor, list]) => {
          const shape = Array.isArray(list[0]) ? [list.length, list[0].length] : [list.length];
          return { name: tensor, dtype: 'F32' as const, shape, values: Float32Array.from(list.flat()) };
        }),
        {},
      );
  }
  if (Object.keys({ ...rename, ...add }).length + remove.length === 0) return folder;
  const tensors = [];
  {
    await using file = await readSafetensors(path('model.safetensors'));
    for (const old of file.names)
      if (!remove.includes(old) && !(old in add))
        tensors.push({ name: rename[old] ?? old, dtype: 'F32' as const, shape: file.info(old).shape, values: await file.read(old) });
  }
  for (const [tensor, { shape, scale }] of Object.entries(add)) {
    const size = shape.reduce((product, extent) => product * extent, 1);
    tensors.push({
      name: tensor,
      dtype: 'F32' as const,
      shape,
      values: Float32Array.from({ length: size }, (_, i) => ((((i * 37) % 1009) - 504) * scale) / 10),
    });
  }
  await writeSafetensors(path('model.safetensors'), tensors, {});
  return folder;
}
