import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';

/**
 * How many threads this process may keep busy: the processors that it may run on (its affinity mask), or fewer where a container's
 * CPU quota (Linux control groups, version 1 or 2) allows less. At least 1; a fraction of a processor is rounded down.
 */
export function availableThreads(): number {
  const processors = availableParallelism();
  if (process.platform !== 'linux') return processors;
  return Math.max(1, Math.min(processors, Math.floor(cpuQuota(read))));
}

function read(path: string): string | undefined {
  try {
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
  } catch {
    return undefined;
  }
}

/** Processors' worth of time that the control groups of this process grant, the smallest of all levels; Infinity without a limit. `file` gives a file's text. */
export function cpuQuota(file: (path: string) => string | undefined): number {
  let quota = Number.POSITIVE_INFINITY;
  for (const line of (file('/proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    const unified = controllers === '';
    if (!unified && !controllers.split(',').includes('cpu')) continue;
    const mount = unified ? '/sys/fs/cgroup' : `/sys/fs/cgroup/${controllers}`;
    // Limits of outer groups hold too. Inside a container the path may be the host's, and only the mount's own files are there.
    for (let group = path; ; group = dirname(group)) {
      const folder = join(mount, group);
      quota = Math.min(
        quota,
        unified
          ? quotaOf(file(join(folder, 'cpu.max')))
          : legacyQuotaOf(file(join(folder, 'cpu.cfs_quota_us')), file(join(folder, 'cpu.cfs_period_us'))),
      );
      if (group === '/' || group === '.' || group === '') break;
    }
  }
  return quota;
}

/** cpu.max holds "<quota or max> <period>", in microseconds. */
function quotaOf(text: string | undefined): number {
  const [quota, period] = (text ?? '').trim().split(' ').map(Number);
  return quota > 0 && period > 0 ? quota / period : Number.POSITIVE_INFINITY;
}

function legacyQuotaOf(quotaText: string | undefined, periodText: string | undefined): number {
  return quotaOf(`${quotaText ?? ''} ${periodText ?? ''}`.replaceAll('\n', ''));
}
