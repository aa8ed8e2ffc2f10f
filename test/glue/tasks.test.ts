import { expect, test } from 'vitest';
import { findGlueTask, glueTasks } from '../../src/glue/tasks.ts';

test("tasks are known by GLUE's names and the hub's", () => {
  const hub = ['wnli', 'cola', 'stsb', 'rte', 'mrpc', 'sst2', 'qnli', 'qqp', 'mnli'];
  expect(hub.map((name) => findGlueTask(name)?.name)).toEqual(glueTasks.map(({ name }) => name));
  for (const { name } of glueTasks) expect(findGlueTask(name)?.name).toBe(name);
  expect(findGlueTask('SST_2')?.name).toBe('SST-2');
  for (const other of ['', 'ax', 'sst', 'squad', '-']) expect(findGlueTask(other)).toBeUndefined();
});
