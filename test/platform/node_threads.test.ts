import { expect, test } from 'vitest';
import { availableThreads, cpuQuota } from '../../src/platform/node_threads.ts';

const quota = (files: Record<string, string>) => cpuQuota((path) => files[path]);

test('at least one thread', () => {
  expect(availableThreads()).toBeGreaterThanOrEqual(1);
});

test('no control groups, no limit', () => {
  expect(quota({})).toBe(Number.POSITIVE_INFINITY);
  expect(quota({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' })).toBe(Number.POSITIVE_INFINITY);
});

test('version 2: the smallest limit of a group and those around it', () => {
  const files = {
    '/proc/self/cgroup': '0::/user.slice/job\n',
    '/sys/fs/cgroup/user.slice/job/cpu.max': '400000 100000\n',
    '/sys/fs/cgroup/user.slice/cpu.max': '250000 100000\n',
  };
  expect(quota(files)).toBe(2.5);
  expect(quota({ ...files, '/sys/fs/cgroup/cpu.max': '50000 100000\n' })).toBe(0.5);
});

test('version 2 in a container that sees the path of its host', () => {
  expect(quota({ '/proc/self/cgroup': '0::/../../docker/abc\n', '/sys/fs/cgroup/cpu.max': '200000 100000\n' })).toBe(2);
});

test('version 1: quota and period', () => {
  const files = {
    '/proc/self/cgroup': '9:name=systemd:/\n4:memory:/x\n2:cpu,cpuacct:/kube/pod\n0::/\n',
    '/sys/fs/cgroup/cpu,cpuacct/kube/pod/cpu.cfs_quota_us': '300000\n',
    '/sys/fs/cgroup/cpu,cpuacct/kube/pod/cpu.cfs_period_us': '100000\n',
    '/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '-1\n',
    '/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
  };
  expect(quota(files)).toBe(3);
});
