/** What a launcher of MPI (mpirun, srun) says to the processes that it starts, and where an MPI may lie. */
import { availableParallelism, cpus, hostname } from 'node:os';
import { deserialize, serialize } from 'node:v8';

/** One process of those that a launcher started together. */
export interface Launched {
  rank: number;
  /** All of them; undefined where the launcher does not say it. */
  size?: number;
  /** Those on this machine; 1 where the launcher does not say it. */
  localSize: number;
  /** Who started it, in words. */
  by: string;
}

/** How launchers name what they say; the first that has said something counts. `mpi` is their own, which is looked for first. */
const launchers = [
  {
    by: 'mpirun of Open MPI',
    mpi: 'open',
    rank: 'OMPI_COMM_WORLD_RANK',
    size: 'OMPI_COMM_WORLD_SIZE',
    local: 'OMPI_COMM_WORLD_LOCAL_SIZE',
  },
  { by: 'mpirun of MPICH', mpi: 'mpich', rank: 'PMI_RANK', size: 'PMI_SIZE', local: 'MPI_LOCALNRANKS' },
  // Of a step: a batch script has numbers of its own, but is one process.
  { by: 'srun', mpi: 'open', rank: 'SLURM_PROCID', size: 'SLURM_STEP_NUM_TASKS', local: 'SLURM_STEP_TASKS_PER_NODE' },
  { by: 'a launcher of PMIx', mpi: 'open', rank: 'PMIX_RANK', size: '', local: '' },
] as const;

const count = (text: string | undefined) => (text !== undefined && /^\d+/.test(text) ? Number.parseInt(text, 10) : undefined);

function launcherOf(environment: NodeJS.ProcessEnv) {
  return launchers.find(
    ({ rank, size }) => count(environment[rank]) !== undefined && (size === '' || count(environment[size]) !== undefined),
  );
}

/** Undefined for a process that nobody started together with others. */
export function launched(environment: NodeJS.ProcessEnv = process.env): Launched | undefined {
  const launcher = launcherOf(environment);
  if (!launcher) return undefined;
  const size = count(environment[launcher.size]);
  if (size === 1) return undefined;
  return { rank: count(environment[launcher.rank]) as number, size, localSize: count(environment[launcher.local]) ?? 1, by: launcher.by };
}

const libraries: Record<string, Record<'open' | 'mpich', readonly string[]>> = {
  linux: { open: ['libmpi.so.40', 'libmpi.so'], mpich: ['libmpi.so.12', 'libmpich.so.12', 'libmpich.so'] },
  darwin: {
    open: ['libmpi.40.dylib', '/opt/homebrew/lib/libmpi.40.dylib', '/usr/local/lib/libmpi.40.dylib'],
    mpich: ['libmpi.12.dylib', '/opt/homebrew/lib/libmpi.12.dylib', '/usr/local/lib/libmpi.12.dylib'],
  },
};

/** Names under which an MPI is looked for, in turn; the environment variable UFB_MPI names the only one. */
export function mpiLibraries(environment: NodeJS.ProcessEnv = process.env): readonly string[] {
  if (environment.UFB_MPI) return [environment.UFB_MPI];
  const { open, mpich } = libraries[process.platform] ?? { open: [], mpich: [] };
  return launcherOf(environment)?.mpi === 'mpich' ? [...mpich, ...open] : [...open, ...mpich];
}

/** How many threads one of `localSize` processes of this machine may keep busy, unless its launcher has bound it to some processors. */
export function threadsBeside(available: number, localSize: number): number {
  return availableParallelism() < cpus().length ? available : Math.max(1, Math.floor(available / localSize));
}

/** This process, for messages: 'pid 123 on host'. */
export const processName = () => `pid ${process.pid} on ${hostname()}`;

/** Ctrl-C at mpirun of Open MPI ends its processes after so many seconds, unless it is told otherwise. undefined of other launchers. */
export function secondsToSave(environment: NodeJS.ProcessEnv = process.env): number | undefined {
  if (launcherOf(environment)?.rank !== 'OMPI_COMM_WORLD_RANK') return undefined;
  return count(environment.OMPI_MCA_odls_base_sigkill_timeout ?? environment.PRTE_MCA_odls_base_sigkill_timeout) ?? 1;
}

/** A value (numbers, texts, lists, typed arrays, plain objects) as bytes, and back. */
export const bytesOfValue = (value: unknown): Uint8Array => serialize(value);
export const valueOfBytes = (bytes: Uint8Array): unknown => deserialize(bytes);
