/** A reporter for Vitest: says every so often how far the tests are, so that a long file is not mistaken for one that hangs. */
import { relative } from 'node:path';
import { elapsed, root } from './setup.mjs';

const secondsBetweenLines = 20;

export default class TestProgress {
  done = 0;
  tests = 0;
  running = new Set();

  onTestRunStart(specifications) {
    this.started = Date.now();
    this.timer = setInterval(() => {
      const now = [...this.running].map((file) => relative(root, file)).join(', ');
      const line = `${elapsed(this.started)}: ${this.done} of ${specifications.length} files done, ${this.tests} tests`;
      process.stdout.write(`${line}${now ? `; running ${now}` : ''}\n`);
    }, secondsBetweenLines * 1000);
    this.timer.unref();
  }

  onTestModuleStart({ moduleId }) {
    this.running.add(moduleId);
  }

  onTestModuleEnd({ moduleId, children }) {
    this.running.delete(moduleId);
    this.done++;
    for (const _ of children.allTests()) this.tests++;
  }

  onTestRunEnd() {
    clearInterval(this.timer);
  }
}
