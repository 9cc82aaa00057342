/**
 * A million events and two thousand agents behind the page. The page is the server's own; the data are made up here from
 * a seed and handed to it in place of the server's, so that no test has to write a million events.
 */
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import type { Browser, Page, Route } from 'playwright-core';
import { seededRandom, seedFor } from '../support/seed.js';
import { launchServer, type TestServer } from '../support/server.js';
import { waitUntil } from '../support/wait.js';
import { launchChromium, screenshot, visit, withoutChromium } from './browser.js';
import { scrollDownTo } from './scrolling.js';
import { OPEN_CONFIG } from './world.js';

const EVENTS = 1_000_000;
const AGENTS = 2_000;
const LINKS = 9_000;
const FIRST_MS = Date.parse('2026-03-18T05:30:00.000Z');
const WITHIN = { timeoutMs: 20_000 };
/** Two of three numbers are other agents' or internal: the log has gaps. */
const STEP = 3;

let server: TestServer;
let browser: Browser;

before(async () => {
  if (withoutChromium !== false) return;
  server = await launchServer({ config: OPEN_CONFIG });
  browser = await launchChromium();
});

after(async () => {
  await browser?.close();
  await server?.dispose();
});

function address(index: number): string {
  return `tab_${index.toString(36).padStart(4, '0')}${'x'.repeat(16)}`;
}

interface MadeEvent {
  readonly seq: number;
  readonly ts: string;
  readonly type: string;
  readonly agent: string;
  readonly data: object;
}

/** The event with this number, always the same; numbers between are nobody's. */
function eventAt(seq: number): MadeEvent {
  const agent = address(seq % 97);
  const ts = new Date(FIRST_MS + seq * 50).toISOString();
  if (seq % 4 === 0)
    return { seq, ts, type: 'state_read', agent, data: { key: `k/${seq % 50}`, read_by: agent, found: true } };
  const content = seq % 250_002 === 3 ? `rare word in ${seq}` : `message ${seq}`;
  const data = { message_id: `id-${seq}`, from: agent, to: address(seq % 13), content, content_length: content.length };
  return { seq, ts, type: 'message_sent', agent, data };
}

const LAST_SEQ = EVENTS * STEP;

async function answerEvents(route: Route): Promise<void> {
  const parameters = new URL(route.request().url()).searchParams;
  const since = Number(parameters.get('since') ?? 0);
  const limit = Number(parameters.get('limit') ?? 100);
  const types = (parameters.get('type') ?? '').split(',').filter((name) => name !== '');
  const agent = parameters.get('agent') ?? '';
  const events: MadeEvent[] = [];
  let seq = (Math.floor(since / STEP) + 1) * STEP;
  for (; seq <= LAST_SEQ && events.length <= limit; seq += STEP) {
    const event = eventAt(seq);
    if ((types.length === 0 || types.includes(event.type)) && (agent === '' || event.agent === agent))
      events.push(event);
  }
  const page = events.slice(0, limit);
  await route.fulfill({
    json: { events: page, next_cursor: page.at(-1)?.seq ?? since, has_more: events.length > limit },
  });
}

interface Counts {
  /** Pages of events asked for. */
  requests: number;
  /** Windows of events begun. */
  starts: number;
}

async function handData(page: Page, counts: Counts = { requests: 0, starts: 0 }): Promise<void> {
  await page.route('**/observe/events?*', (route) => {
    counts.requests++;
    return answerEvents(route);
  });
  await page.route('**/observe/overview', (route) => {
    counts.starts++;
    return route.fulfill({
      json: {
        last_seq: LAST_SEQ,
        events: EVENTS,
        agents: AGENTS,
        messages_sent: 750_000,
        messages_delivered: 750_000,
        state: { used_bytes: 1_000_000, total_bytes: 1_073_741_824, key_count: 50 },
        removals: 0,
        events_per_second: new Array(59).fill(20),
        first_event_at: new Date(FIRST_MS).toISOString(),
        last_event_at: new Date(FIRST_MS + LAST_SEQ * 50).toISOString(),
        watchers: 1,
        indexing: { current: true, behind: 0 },
      },
    });
  });
  await page.routeWebSocket('**/observe/events/stream*', () => undefined);
}

/** A page whose data are made up, before it asks for any. */
async function visitMadeUp(t: TestContext, counts?: Counts): ReturnType<typeof visit> {
  const visited = await visit(t, browser, `http://127.0.0.1:${server.observePort}/#/transparency`);
  await handData(visited.page, counts);
  return visited;
}

/** The feed, with its newest event in sight. */
async function openFeed(page: Page): Promise<void> {
  await page.goto(`http://127.0.0.1:${server.observePort}/#/events`);
  await page.locator(`#event-${LAST_SEQ}`).waitFor();
}

/** The numbers of the rows that are in sight as a whole, top to bottom; none while a page of them is awaited. */
function inSight(page: Page): Promise<number[]> {
  return page.evaluate(`(() => {
    const list = document.querySelector('.rows[aria-busy=false]');
    if (list === null) return [];
    const place = list.getBoundingClientRect();
    const rows = [...list.querySelectorAll('[role=option]')].filter((row) => {
      const { top, bottom } = row.getBoundingClientRect();
      return top >= place.top - 1 && bottom <= place.bottom + 1;
    });
    return rows.map((row) => Number(row.id.slice(6)));
  })()`);
}

async function jumpTo(page: Page, seq: string): Promise<void> {
  await page.getByLabel('Jump to event number').fill(seq);
  await page.keyboard.press('Enter');
}

test('a million events: the newest at once, any by its number, a rare agent and a rare word in few requests', {
  skip: withoutChromium,
}, async (t) => {
  const counts = { requests: 0, starts: 0 };
  const { page, assertCalm } = await visitMadeUp(t, counts);
  await openFeed(page);
  assert.ok(counts.requests <= 4, `${counts.requests} requests for the first page`);

  await jumpTo(page, '1,500,000');
  await page.locator('#event-1500000[aria-selected=true]').waitFor();

  counts.requests = 0;
  counts.starts = 0;
  await page.goto(`http://127.0.0.1:${server.observePort}/#/events?agent=${address(50)}`);
  await page.locator('[role=option]').first().waitFor();
  await waitUntil(async () => {
    const who = await page.locator('[role=option] .who').allTextContents();
    return who.length > 5 && who.every((text) => text === address(50).slice(0, 10));
  }, WITHIN);
  assert.ok(counts.requests <= 12, `${counts.requests} requests for one agent of 97`);
  assert.equal(counts.starts, 1, 'windows that nobody sees were begun');

  await page.goto(`http://127.0.0.1:${server.observePort}/#/events?q=rare%20word`);
  await page.getByRole('button', { name: 'Search further back' }).waitFor();
  const [rare] = await page.locator('[role=option]').evaluateAll((rows) => rows.map((row) => Number(row.id.slice(6))));
  assert.ok(rare === undefined || rare > LAST_SEQ - 30_000, 'the search did not begin at the newest');
  await screenshot(page, 'scale-search');
  assertCalm();
});

test('a jump stays where it led to while newer events are loaded, and leads there again', {
  skip: withoutChromium,
}, async (t) => {
  const counts = { requests: 0, starts: 0 };
  const { page, assertCalm } = await visitMadeUp(t, counts);
  await openFeed(page);
  await jumpTo(page, '1500000');
  await page.locator('#event-1500000[aria-selected=true]').waitFor();
  await waitUntil(async () => (await inSight(page)).includes(1_500_000), WITHIN);
  // To the upper end, where newer ones are asked for and join above: what is in sight stays.
  const before = counts.requests;
  await page.locator('.rows').evaluate((node) => {
    node.scrollTop = 0;
  });
  await waitUntil(async () => counts.requests > before && (await inSight(page)).length > 10, WITHIN);
  const [top = 0] = await inSight(page);
  assert.ok(top > 1_500_000 + 20 * STEP && top < 1_500_000 + 1_000 * STEP, `${top} is in sight`);
  await jumpTo(page, '#1,500,000');
  await waitUntil(async () => (await inSight(page)).includes(1_500_000), WITHIN);
  // A number of no event: to where it would stand, and no farther.
  counts.requests = 0;
  await jumpTo(page, '600001');
  await waitUntil(async () => {
    const seqs = await inSight(page);
    return seqs.includes(600_000) && seqs.includes(600_003);
  }, WITHIN);
  assert.ok(counts.requests <= 8, `${counts.requests} requests for a jump`);
  assertCalm();
});

test('an event that comes while a search goes back is shown at once', { skip: withoutChromium }, async (t) => {
  const { page, assertCalm } = await visitMadeUp(t);
  let say: ((text: string) => void) | undefined;
  await page.routeWebSocket('**/observe/events/stream*', (socket) => {
    say = (text) => socket.send(text);
  });
  let letThrough: () => void = () => undefined;
  const gate = new Promise<void>((open) => {
    letThrough = open;
  });
  let isHeldBack = false;
  await page.route('**/observe/events?*', async (route) => {
    const since = Number(new URL(route.request().url()).searchParams.get('since'));
    if (since < LAST_SEQ - 5_000) {
      isHeldBack = true;
      await gate;
    }
    await answerEvents(route);
  });
  await page.goto(`http://127.0.0.1:${server.observePort}/#/events?q=rare%20word`);
  await waitUntil(() => isHeldBack && say !== undefined, WITHIN);
  const event = eventAt(LAST_SEQ + STEP);
  assert.equal(event.type, 'message_sent');
  const text = JSON.stringify({ ...event, data: { ...event.data, content: 'a rare word, live' } });
  await page.locator('.dot-live').waitFor();
  say?.(text);
  await page.locator(`#event-${event.seq}, .newer`).first().waitFor();
  letThrough();
  await page.locator(`#event-${event.seq}`).waitFor();
  assertCalm();
});

test('scrolling through tens of thousands of events keeps the page small and every row in order', {
  skip: withoutChromium,
}, async (t) => {
  const { page, assertCalm } = await visitMadeUp(t);
  await openFeed(page);
  await scrollDownTo(page, LAST_SEQ - 12_000 * STEP, 'end');
  const seqs = await page.locator('[role=option]').evaluateAll((rows) => rows.map((row) => Number(row.id.slice(6))));
  assert.ok(seqs.length < 100, `${seqs.length} rows exist`);
  assert.deepEqual(
    seqs,
    Array.from(seqs, (_, index) => (seqs[0] ?? 0) - index * STEP),
    'rows are missing or out of order',
  );
  await page.getByRole('button', { name: 'Back to the newest' }).click();
  await page.locator(`#event-${LAST_SEQ}`).waitFor();
  assertCalm();
});

test('two thousand agents are laid out and drawn without making the page stand still', {
  skip: withoutChromium,
}, async (t) => {
  const seed = seedFor(t);
  const random = seededRandom(seed);
  const edges = new Map<string, { from: string; to: string; count: number }>();
  while (edges.size < LINKS) {
    // Villages of about 50 that talk among themselves, and some traffic between them.
    const from = random(AGENTS);
    const near = Math.floor(from / 50) * 50 + Math.min(random(50), random(50));
    const to = random(12) === 0 ? Math.min(random(AGENTS), random(AGENTS)) : near;
    if (from === to) continue;
    const key = `${from} ${to}`;
    edges.set(key, { from: address(from), to: address(to), count: 1 + Math.floor(60 / (1 + random(60))) });
  }
  const traffic = new Map<string, { sent: number; received: number }>();
  for (let index = 0; index < AGENTS; index++) traffic.set(address(index), { sent: 0, received: 0 });
  for (const { from, to, count } of edges.values()) {
    (traffic.get(from) ?? { sent: 0 }).sent += count;
    (traffic.get(to) ?? { received: 0 }).received += count;
  }
  const nodes = [...traffic].map(([name, { sent, received }]) => {
    return { address: name, messages_sent: sent, messages_received: received };
  });
  const { page, assertCalm } = await visitMadeUp(t);
  await page.route('**/observe/network', (route) =>
    route.fulfill({ json: { nodes, edges: [...edges.values()], total_nodes: AGENTS, total_edges: LINKS } }),
  );
  await page.goto(`http://127.0.0.1:${server.observePort}/#/network`);
  await page.getByText('2,000 agents').waitFor();
  await page.locator('[data-layout=done]').waitFor({ timeout: 60_000 });
  await screenshot(page, 'scale-network');
  await page.getByRole('link', { name: 'Table' }).click();
  await waitUntil(async () => (await page.locator('.edge-table tbody tr').count()) === 200, WITHIN);
  assertCalm();
});

test('more events than a paused page keeps: it goes on with the newest, in order', {
  skip: withoutChromium,
}, async (t) => {
  const { page, assertCalm } = await visitMadeUp(t);
  let say: (text: string) => void = () => undefined;
  await page.routeWebSocket('**/observe/events/stream*', (socket) => {
    say = (text) => socket.send(text);
  });
  await openFeed(page);
  await page.getByRole('button', { name: 'Pause' }).click();
  const flood = 2_400; // it keeps 2,000
  for (let number = 1; number <= flood; number++) say(JSON.stringify(eventAt(LAST_SEQ + number * STEP)));
  await page.getByRole('button', { name: '2,400 new events' }).click();
  await page.locator(`#event-${LAST_SEQ + flood * STEP}`).waitFor();
  const seqs = await page.locator('[role=option]').evaluateAll((rows) => rows.map((row) => Number(row.id.slice(6))));
  assert.deepEqual(
    seqs,
    Array.from(seqs, (_, index) => LAST_SEQ + (flood - index) * STEP),
  );
  assertCalm();
});
