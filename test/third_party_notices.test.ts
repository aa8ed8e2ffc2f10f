/** THIRD_PARTY_NOTICES.md and what the last build bundled. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
// @ts-expect-error a script of the project, without types
import { thirdPartyNotices } from '../scripts/third_party_notices.mjs';

test('the notices are those of the packages that are bundled: node scripts/third_party_notices.mjs writes them', () => {
  const notices = readFileSync(new URL('../THIRD_PARTY_NOTICES.md', import.meta.url), 'utf8');
  expect(notices).toBe(thirdPartyNotices());
  for (const name of ['commander', 'echarts', 'valibot']) expect(notices).toContain(`- ${name} (`);
});
