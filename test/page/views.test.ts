/** Each view of the page with data of a running kernel, in a real Chromium; what happens arrives while it is shown. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { waitUntil } from '../support/wait.js';
import { launchChromium, screenshot, type Visit, visit, withoutChromium } from './browser.js';
import { scrollDownTo } from './scrolling.js';
import { ADMIN_KEY, World } from './world.js';

const WITHIN = { timeoutMs: 30_000 };
const AGENTS = 12;
const HISTORY_KEY = 'plans/survey/west';

let world: World;
let browser: Browser;

before(async () => {
  if (withoutChromium !== false) return;
  world = await World.launch();
  browser = await launchChromium();
  await world.arriveMany(AGENTS);
  await world.live(20261122, 260);
  await world.write(0, HISTORY_KEY, 'open\nnobody\n');
  await world.write(1, HISTORY_KEY, 'open\nteam-1\n');
});

after(async () => {
  await browser?.close();
  await world?.dispose();
});

function shown(page: Page, text: string): Promise<void> {
  return page.getByText(text, { exact: false }).first().waitFor();
}

/** `seq` of every row in sight, top to bottom. */
function seqsInSight(page: Page): Promise<number[]> {
  return page.locator('.feed-list [role=option]').evaluateAll((rows) => rows.map((row) => Number(row.id.slice(6))));
}

async function open(t: { after(callback: () => Promise<void>): void }, hash: string): Promise<Visit> {
  const seen = await visit(t, browser, `${world.url}#/${hash}`);
  await seen.page.locator('.dot-live').waitFor();
  return seen;
}

test('the overview counts what happened, and goes on counting', { skip: withoutChromium }, async (t) => {
  const { page, assertCalm } = await open(t, '');
  const agents = page.locator('[data-figure=agents]');
  await waitUntil(async () => (await agents.textContent()) === String(world.agents.length), WITHIN);
  const newcomer = await world.arrive();
  await world.say(world.agents.length - 1, 0, 'hello from the newcomer');
  await shown(page, 'hello from the newcomer');
  await waitUntil(async () => (await agents.textContent()) === String(world.agents.length), WITHIN);
  await page
    .locator('.latest')
    .getByRole('link', { name: newcomer.address.slice(0, 10) })
    .first()
    .waitFor();
  assert.match((await page.locator('[data-figure=rate]').textContent()) ?? '', /^[\d.,]+$/);
  await screenshot(page, 'test-overview');
  assertCalm();
});

test('the feed shows events as they come, newest on top, and none twice', { skip: withoutChromium }, async (t) => {
  const { page, assertCalm } = await open(t, 'events');
  await page.locator('[role=option]').first().waitFor();
  for (let number = 0; number < 30; number++)
    await world.write(number % AGENTS, `live/${number % 3}`, `tick ${number}`);
  await shown(page, 'tick 29');
  const seqs = await seqsInSight(page);
  assert.equal(seqs[0], await world.newestSeq());
  assert.deepEqual(
    seqs,
    [...new Set(seqs)].sort((a, b) => b - a),
  );
  assertCalm();
});

test('a paused feed stands still, counts what waits, and shows it when it goes on', {
  skip: withoutChromium,
}, async (t) => {
  const { page, assertCalm } = await open(t, 'events');
  await page.locator('[role=option]').first().waitFor();
  await page.getByRole('button', { name: 'Pause' }).click();
  const still = await seqsInSight(page);
  await world.write(0, 'paused', 'while you were away');
  await page.getByRole('button', { name: '1 new event' }).waitFor();
  assert.deepEqual(await seqsInSight(page), still);
  await page.getByRole('button', { name: 'Go on' }).click();
  await shown(page, 'while you were away');
  assertCalm();
});

test('types, an agent and a search narrow the feed, live as well, and stand in the link', {
  skip: withoutChromium,
}, async (t) => {
  const { page, assertCalm } = await open(t, 'events');
  await page.getByRole('button', { name: 'message sent' }).click();
  const kinds = page.locator('[role=option] .kind');
  await waitUntil(async () => {
    const names = await kinds.allTextContents();
    return names.length > 0 && names.every((name) => name === 'message sent');
  }, WITHIN);
  const { address } = world.agent(2);
  await page.getByLabel('Agent', { exact: true }).fill(address);
  await page.waitForURL(/agent=tab_/);
  await world.say(2, 3, 'needle in the haystack');
  await world.say(3, 2, 'from another agent');
  await world.say(2, 4, 'last of these');
  await shown(page, 'last of these');
  assert.equal(await page.getByText('from another agent').count(), 0);
  await page.getByLabel('Search', { exact: true }).fill('NEEDLE');
  await waitUntil(async () => (await page.locator('[role=option]').count()) === 1, WITHIN);
  await shown(page, 'needle in the haystack');
  await world.say(2, 3, 'a second needle');
  await shown(page, 'a second needle');
  const linked = await open(t, new URL(page.url()).hash.slice(2));
  await waitUntil(async () => (await linked.page.locator('[role=option]').count()) === 2, WITHIN);
  linked.assertCalm();
  await page.getByRole('button', { name: 'Clear' }).click();
  await waitUntil(async () => (await page.locator('[role=option]').count()) > 10, WITHIN);
  assertCalm();
});

test('the keyboard chooses events, opens one by its number and closes it', { skip: withoutChromium }, async (t) => {
  const { page, assertCalm } = await open(t, 'events');
  await page.locator('[role=option]').first().waitFor();
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await page.keyboard.press('k');
  const [newest] = await seqsInSight(page);
  await page.getByRole('complementary', { name: `Event ${newest}` }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('complementary').waitFor({ state: 'detached' });
  await page.keyboard.press('#');
  await page.keyboard.type('17');
  await page.keyboard.press('Enter');
  await page.getByRole('complementary', { name: 'Event 17' }).waitFor();
  await page.locator('#event-17[aria-selected=true]').waitFor();
  await page.keyboard.press('Escape'); // leaves the field
  await page.keyboard.press('.');
  await waitUntil(async () => (await seqsInSight(page))[0] === newest, WITHIN);
  assertCalm();
});

test('scrolling goes back to the first event, past every one', { skip: withoutChromium }, async (t) => {
  for (let number = 0; number < 600; number++) await world.agent(number % AGENTS).read('plans/picnic');
  const { page, assertCalm } = await open(t, 'events');
  await page.locator('[role=option]').first().waitFor();
  const seen = new Set(await scrollDownTo(page, 1, 'half'));
  const answer = await fetch(`${world.url}observe/events?limit=1000`);
  const { events, has_more: hasMore } = (await answer.json()) as { events: { seq: number }[]; has_more: boolean };
  const missed = events.map(({ seq }) => seq).filter((seq) => !seen.has(seq) && !hasMore);
  assert.deepEqual(missed, []);
  assert.ok(seen.size > 900, `only ${seen.size} events were seen`);
  await page.getByText('back to the first').waitFor();
  assertCalm();
});

test('state is a tree; a value shows its history and what a write changed, and follows new writes', {
  skip: withoutChromium,
}, async (t) => {
  const { page, assertCalm } = await open(t, 'state');
  const tree = page.getByRole('tree', { name: 'Keys' });
  await tree.getByText('plans/', { exact: true }).click();
  await tree.getByText('survey/', { exact: true }).click();
  await tree.getByText('west', { exact: true }).click();
  const value = page.getByRole('region', { name: 'Value', exact: true }).last();
  await waitUntil(async () => (await value.textContent()) === 'open\nteam-1\n', WITHIN);
  await waitUntil(async () => (await page.locator('.diff del').allTextContents()).join() === 'nobody\n', WITHIN);
  assert.deepEqual(await page.locator('.diff ins').allTextContents(), ['team-1\n']);
  await world.write(5, HISTORY_KEY, 'done\nteam-1\n');
  await waitUntil(async () => (await value.textContent()) === 'done\nteam-1\n', WITHIN);
  await waitUntil(async () => (await page.locator('.version').count()) === 3, WITHIN);
  await page.locator('.version').last().click();
  assert.deepEqual(await page.locator('.diff ins').allTextContents(), ['open\nnobody\n']);
  await world.write(4, 'plans/survey/zenith', 'new here');
  await tree.getByText('zenith', { exact: true }).waitFor();
  await world.agent(4).remove('plans/survey/zenith');
  await tree.getByText('zenith', { exact: true }).waitFor({ state: 'detached' });
  await screenshot(page, 'test-state');
  assertCalm();
});

test('the tree opens, walks and chooses by keys', { skip: withoutChromium }, async (t) => {
  const { page, assertCalm } = await open(t, 'state');
  const tree = page.getByRole('tree', { name: 'Keys' });
  await tree.focus();
  await page.keyboard.press('End');
  await page.keyboard.press('Enter');
  await page.waitForURL(/#\/state\/./);
  await page.locator('.entry-key').waitFor();
  await tree.focus();
  await page.keyboard.press('Home');
  await page.keyboard.press('ArrowRight');
  await tree.locator('[aria-expanded=true]').first().waitFor();
  await page.keyboard.press('ArrowLeft');
  await waitUntil(async () => (await tree.locator('#tree-0[aria-expanded=true]').count()) === 0, WITHIN);
  assertCalm();
});

test('any key has a link: dots, slashes and percent signs', { skip: withoutChromium }, async (t) => {
  const { page, assertCalm } = await open(t, 'state');
  for (const key of ['.', '..', '/', 'a//b', '%41', 'a?b#c', ' ', 'ключ/值']) {
    await world.write(0, key, `value of ${key}`);
    await page.goto(`${world.url}#/state/${encodeURIComponent(key)}`);
    await shown(page, `value of ${key.trim()}`);
  }
  assertCalm();
});

test('the network draws who talks to whom, takes in newcomers, and says the same as a table', {
  skip: withoutChromium,
}, async (t) => {
  const { page, assertCalm } = await open(t, 'network');
  await page.locator('[data-layout=done]').waitFor();
  const canvas = page.locator('.graph-canvas');
  assert.ok((await canvas.locator('canvas').count()) > 0, 'there is no canvas');
  await world.arrive();
  await world.say(world.agents.length - 1, 0, 'first words');
  await shown(page, `${world.agents.length} agents`);
  for (let number = 0; number < 25; number++) await world.say(1, 0, 'insisting');
  await page.getByRole('link', { name: 'Table' }).click();
  const first = page.locator('.edge-table tbody tr').first();
  await waitUntil(async () => {
    const cells = await first.locator('td').allTextContents();
    return cells[0] === world.agent(1).address && cells[1] === world.agent(0).address && Number(cells[2]) >= 25;
  }, WITHIN);
  await page.goto(`${world.url}#/network/${world.agent(1).address}`);
  await page.locator('.graph-card').getByText(world.agent(1).address).waitFor();
  await screenshot(page, 'test-network');
  assertCalm();
});

test('agents are sorted and found, and each has a profile that goes on', { skip: withoutChromium }, async (t) => {
  const { page, assertCalm } = await open(t, 'agents');
  await page.getByRole('button', { name: 'Sent', exact: false }).first().click();
  await page.locator('[role=columnheader][aria-sort=descending]').getByText('Sent').waitFor();
  const cells = page.locator('.row .cell-messages_sent');
  const sent = (await cells.allTextContents()).map(Number);
  assert.ok(sent.length >= AGENTS && (sent[0] ?? 0) > 0, `${sent}`);
  assert.deepEqual(
    sent,
    [...sent].sort((a, b) => b - a),
  );
  const { address } = world.agent(6);
  await page.getByLabel('Find an agent by its address').fill(address.slice(4, 14));
  await waitUntil(async () => (await page.locator('.agent-row.row').count()) === 1, WITHIN);
  await page.locator('.agent-row.row').getByRole('link').click();
  await page.getByRole('heading', { name: address }).waitFor();
  await page.getByRole('img', { name: /events? since/ }).waitFor();
  await world.write(6, 'profile', 'written while watched');
  await shown(page, 'written while watched');
  await screenshot(page, 'test-agent');
  assertCalm();
});

test('the timeline plays history in order to its end, and starts anywhere', { skip: withoutChromium }, async (t) => {
  const last = await world.newestSeq();
  const { page, assertCalm } = await open(t, `timeline?seq=${last - 120}`);
  await page.getByRole('button', { name: '3,600×' }).click();
  await page.getByRole('button', { name: 'Play' }).click();
  await shown(page, 'reached the present');
  assert.equal(await page.locator('.player-time').getAttribute('data-seq'), String(last));
  const counted = await page.locator('.tally strong').allTextContents();
  const told = counted.reduce((sum, text) => sum + Number(text.replaceAll(',', '')), 0);
  assert.equal(told, await countAfter(last - 121));
  const slider = page.getByRole('slider', { name: 'Moment of history' });
  await slider.focus();
  await page.keyboard.press('Home');
  await waitUntil(async () => Number(await page.locator('.player-time').getAttribute('data-seq')) <= 1, WITHIN);
  await page.locator('main').focus();
  await page.keyboard.press('ArrowRight');
  await page.locator('.ticker li').first().waitFor();
  await screenshot(page, 'test-timeline');
  assertCalm();
});

test('what is removed by law leaves every open view at once and stands in the transparency log', {
  skip: withoutChromium,
}, async (t) => {
  const secret = 'the home address of a person';
  const messageId = await world.say(0, 1, secret);
  await world.write(2, 'leak', secret);
  const [feed, state, log] = await Promise.all([open(t, 'events'), open(t, 'state/leak'), open(t, 'transparency')]);
  await shown(feed.page, secret);
  await shown(state.page, secret);
  await shown(log.page, 'Nothing was ever removed');
  await remove({ type: 'message', message_id: messageId, reason: 'court order 17' });
  await remove({ type: 'state', key: 'leak', reason: 'personal data' });
  await waitUntil(async () => (await feed.page.getByText(secret).count()) === 0, WITHIN);
  await waitUntil(async () => (await state.page.getByText(secret).count()) === 0, WITHIN);
  await shown(feed.page, 'removed, see transparency');
  await shown(state.page, 'was removed');
  await shown(log.page, 'court order 17');
  await shown(log.page, 'personal data');
  await screenshot(log.page, 'test-transparency');
  for (const seen of [feed, state, log]) {
    await seen.page.reload();
    await seen.page.locator('.dot-live').waitFor();
    assert.equal(await seen.page.getByText(secret).count(), 0);
    seen.assertCalm();
  }
});

test('after a removal a view opens its stream once, not again and again', { skip: withoutChromium }, async (t) => {
  await world.write(3, 'leak/too', 'another secret');
  await remove({ type: 'state', key: 'leak/too', reason: 'personal data' });
  for (const hash of ['', `agents/${world.agent(3).address}`]) {
    const { page, assertCalm } = await open(t, 'transparency');
    let streams = 0;
    page.on('websocket', () => streams++);
    await page.goto(`${world.url}#/${hash}`);
    for (const word of ['one', 'two', 'three', 'four']) {
      await world.say(3, 4, `counted ${word} in #/${hash.slice(0, 6)}`);
      await shown(page, `counted ${word} in #/${hash.slice(0, 6)}`);
    }
    assert.ok(streams <= 2, `${streams} streams were opened for #/${hash}`);
    assertCalm();
  }
});

async function remove(body: object): Promise<void> {
  const answer = await fetch(`http://127.0.0.1:${world.server.adminPort}/admin/remove`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${ADMIN_KEY}`, 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.text());
}

async function countAfter(since: number): Promise<number> {
  const answer = await fetch(`${world.url}observe/events?since=${since}&limit=1000`);
  return ((await answer.json()) as { events: unknown[] }).events.length;
}
