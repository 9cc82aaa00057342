/** The documentation against the repository: what it links to and names is there. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { createMetrics } from '../../src/admin/metrics.js';
import { WebhookMetrics } from '../../src/webhooks/webhook-metrics.js';
import { PROJECT_ROOT } from './project-root.js';

const PAGES = [
  'README.md',
  'CHANGELOG.md',
  ...readdirSync(join(PROJECT_ROOT, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

function textOf(page: string): string {
  return readFileSync(join(PROJECT_ROOT, page), 'utf8');
}

/** As GitHub names the anchor of a heading. */
function anchorsOf(page: string): string[] {
  return [...textOf(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{Letter}\p{Number}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test('every link within the documentation leads somewhere', () => {
  const dead: string[] = [];
  let followed = 0;
  for (const page of PAGES) {
    for (const [, target = ''] of textOf(page).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [path = '', anchor] = target.split('#');
      const linked = path === '' ? page : join(dirname(page), path);
      followed++;
      if (!existsSync(join(PROJECT_ROOT, linked))) dead.push(`${page}: ${target}`);
      else if (anchor !== undefined && !anchorsOf(linked).includes(anchor)) dead.push(`${page}: ${target}`);
    }
  }
  assert.ok(followed > 0);
  assert.deepEqual(dead, []);
});

test('README.md links every page of docs/', () => {
  const readme = textOf('README.md');
  const missing = PAGES.filter((page) => page.startsWith('docs/') && !readme.includes(`](${page})`));
  assert.deepEqual(missing, []);
});

test('docs/scaling.md lists exactly the metrics that the server has', async () => {
  const render = createMetrics({
    gateways: async () => [],
    hasher: () => ({ running: 0, waiting: 0, completed: 0 }),
    byLaw: () => ({ removals: 0, revokedAgents: 0, revokedOperators: 0 }),
    engine: () => ({
      ...{ stateBytes: 0, keys: 0, agents: 0, queuedMessages: 0, queuedBytes: 0, droppedMessages: 0 },
      ...{ damagedLines: 0, unloggedReads: 0, readOnly: 0, spaceShort: 0, reopenings: 0 },
    }),
    threadRegistries: async () => [await new WebhookMetrics().read({ inFlight: 0, waiting: 0 }, 0)],
  });
  const served = [...(await render()).matchAll(/^# TYPE (tabulum_\w+)/gm)].map(([, name]) => name);
  const listed = [...textOf('docs/scaling.md').matchAll(/^\| `(tabulum_\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(listed.sort(), served.sort());
});
