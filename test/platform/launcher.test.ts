import { describe, expect, test } from 'vitest';
import { launched, mpiLibraries, secondsToSave, threadsBeside } from '../../src/platform/node_launcher.ts';

const openMpi = { OMPI_COMM_WORLD_RANK: '1', OMPI_COMM_WORLD_SIZE: '4', OMPI_COMM_WORLD_LOCAL_SIZE: '2', PMIX_RANK: '1' };
const mpich = { PMI_RANK: '0', PMI_SIZE: '2', MPI_LOCALNRANKS: '2' };
const slurm = { SLURM_PROCID: '3', SLURM_STEP_NUM_TASKS: '8', SLURM_STEP_TASKS_PER_NODE: '4(x2)', SLURM_NTASKS: '8' };

describe('a process that a launcher started', () => {
  test.each([
    ['mpirun of Open MPI', openMpi, { rank: 1, size: 4, localSize: 2 }],
    ['mpirun of MPICH', mpich, { rank: 0, size: 2, localSize: 2 }],
    ['srun', slurm, { rank: 3, size: 8, localSize: 4 }],
    ['a launcher of PMIx', { PMIX_RANK: '2' }, { rank: 2, size: undefined, localSize: 1 }],
  ])('%s', (by, environment, expected) => expect(launched(environment)).toEqual({ by, ...expected }));

  test.each([
    ['nobody', {}],
    ['mpirun -n 1', { ...openMpi, OMPI_COMM_WORLD_RANK: '0', OMPI_COMM_WORLD_SIZE: '1' }],
    ["a batch script of Slurm's, which is one process whatever it may start", { SLURM_PROCID: '0', SLURM_NTASKS: '8' }],
  ])('is alone: %s', (_, environment) => expect(launched(environment)).toBeUndefined());

  test.skipIf(process.platform !== 'linux')("the launcher's own MPI is looked for first, and only the one that is named", () => {
    expect(mpiLibraries(openMpi)[0]).toBe('libmpi.so.40');
    expect(mpiLibraries(mpich)[0]).toBe('libmpi.so.12');
    expect(mpiLibraries({ ...mpich, UFB_MPI: '/opt/mpi.so' })).toEqual(['/opt/mpi.so']);
  });

  test('knows how long Ctrl-C leaves it', () => {
    expect(secondsToSave(openMpi)).toBe(1);
    expect(secondsToSave({ ...openMpi, OMPI_MCA_odls_base_sigkill_timeout: '30' })).toBe(30);
    expect(secondsToSave(mpich)).toBeUndefined();
  });

  test('shares the processors', () => {
    expect(threadsBeside(1, 4)).toBe(1);
    // Unless it is bound to some of them.
    expect([2, 8]).toContain(threadsBeside(8, 4));
    expect(threadsBeside(8, 100)).toBeGreaterThanOrEqual(1);
  });
});
