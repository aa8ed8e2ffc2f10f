/** The built program, started by an MPI's launcher. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { loadAddon } from '../../src/backend/native_loader.ts';
import { type Ended, program } from '../cli/ufb.ts';

/** Why nothing can be started here; '' if it can. */
export const mpirunMissing = (() => {
  const { stdout } = spawnSync('mpirun', ['--version'], { encoding: 'utf8' });
  if (!stdout?.includes('Open MPI')) return ' (no mpirun of Open MPI: apt-get install openmpi-bin)';
  if (!loadAddon().addon) return ' (no native backend)';
  return '';
})();

/** Two ranks on two cores that others use too, as root in a container, on this machine alone. */
const environment = {
  OMPI_ALLOW_RUN_AS_ROOT: '1',
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
  OMPI_MCA_rmaps_base_oversubscribe: '1',
  OMPI_MCA_hwloc_base_binding_policy: 'none',
  OMPI_MCA_mpi_yield_when_idle: '1',
  OMPI_MCA_btl: 'self,vader',
};

export interface Launch {
  env?: Record<string, string>;
  /** Is told of all that is written to stderr so far. */
  onStderr?(text: string, mpirun: ChildProcess): void;
}

/** Runs `ufb` on so many ranks to their end; where `args` is a list of lists, each rank has its own. */
export function ranks(count: number, args: readonly string[] | readonly string[][], { env = {}, onStderr }: Launch = {}): Promise<Ended> {
  if (!existsSync(program)) throw new Error(`${program} is missing: run 'npm run build'`);
  const own = Array.isArray(args[0]) ? (args as string[][]) : undefined;
  const commands = own ? own.flatMap((each, i) => [...(i > 0 ? [':'] : []), '-n', '1', process.execPath, program, ...each]) : undefined;
  return new Promise((done, failed) => {
    const child = spawn('mpirun', commands ?? ['-n', `${count}`, process.execPath, program, ...(args as string[])], {
      env: { ...process.env, ...environment, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended: Ended = { code: null, stdout: '', stderr: '' };
    child.stdout.on('data', (text) => (ended.stdout += text));
    child.stderr.on('data', (text) => {
      ended.stderr += text;
      onStderr?.(ended.stderr, child);
    });
    child.on('error', failed);
    child.on('close', (code) => done({ ...ended, code }));
  });
}

/** The processes of the ranks that an mpirun has started, in their order. */
export function ranksOf({ pid }: ChildProcess): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
}
