/** For everybody: axe, keyboard, narrow screens, light and dark, empty servers, and servers that go away. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { Browser } from 'playwright-core';
import { waitUntil } from '../support/wait.js';
import {
  assertAccessible,
  launchChromium,
  NARROW,
  NARROWEST,
  screenshot,
  screenshotsAreWanted,
  visit,
  WIDE,
  withoutChromium,
} from './browser.js';
import { freePort } from './free-port.js';
import { OPEN_CONFIG, World } from './world.js';

const WITHIN = { timeoutMs: 30_000 };
const run = promisify(execFile);

let world: World;
let browser: Browser;

before(async () => {
  if (withoutChromium !== false) return;
  world = await World.launch();
  browser = await launchChromium();
  await world.arriveMany(10);
  await world.live(5, 160);
});

after(async () => {
  await browser?.close();
  await world?.dispose();
});

/** Each view, and those that open in it. */
function places(): Record<string, string> {
  const { address } = world.agent(0);
  return {
    overview: '',
    events: 'events',
    event: 'events?type=message_sent&seq=30',
    state: 'state',
    entry: `state/${encodeURIComponent('jobs/14/status')}`,
    network: 'network',
    links: 'network?as=table',
    agents: 'agents',
    agent: `agents/${address}`,
    timeline: 'timeline',
    transparency: 'transparency',
  };
}

for (const colorScheme of ['light', 'dark'] as const) {
  test(`axe finds nothing serious in any view, wide or narrow, in ${colorScheme}`, {
    skip: withoutChromium,
  }, async (t) => {
    const { page, assertCalm } = await visit(t, browser, world.url, { colorScheme, reducedMotion: 'reduce' });
    for (const [name, hash] of Object.entries(places())) {
      for (const [size, viewport] of [
        ['wide', WIDE],
        ['narrow', NARROW],
      ] as const) {
        // Mostly the same document at another width; these are laid out in another way.
        const isChecked = size === 'wide' || (colorScheme === 'light' && ['event', 'entry', 'agents'].includes(name));
        if (!isChecked && !screenshotsAreWanted) continue;
        await page.setViewportSize(viewport);
        await page.goto(`${world.url}#/${hash}`);
        await page.locator('h1').waitFor();
        await page.locator('.dot-live').waitFor();
        await page.locator('.loading').first().waitFor({ state: 'detached' });
        if (name === 'network') await page.locator('[data-layout=done]').waitFor();
        await screenshot(page, `${name}-${size}-${colorScheme}`);
        if (isChecked) await assertAccessible(page, `${name}, ${size}, ${colorScheme}`);
      }
    }
    assertCalm();
  });
}

test('every view fits a screen 360 pixels wide, and all together cost few requests', {
  skip: withoutChromium,
}, async (t) => {
  const { page, assertCalm } = await visit(t, browser, world.url, { viewport: NARROWEST });
  let requests = 0;
  page.on('request', (request) => {
    if (new URL(request.url()).pathname.startsWith('/observe/')) requests++;
  });
  for (const [name, hash] of Object.entries(places())) {
    await page.goto(`${world.url}#/${hash}`);
    await page.locator('h1').waitFor();
    await page.locator('.loading').first().waitFor({ state: 'detached' });
    const wider = await page.evaluate(`(() => {
      const main = document.querySelector('main');
      return Math.max(document.documentElement.scrollWidth - innerWidth, main.scrollWidth - main.clientWidth);
    })()`);
    assert.equal(wider, 0, `${name} is wider than the screen`);
  }
  // A reader who looks at everything within a minute must not meet the limit of 300.
  assert.ok(requests < 120, `${requests} requests for ${Object.keys(places()).length} views`);
  assertCalm();
});

test('without a mouse: skip link, views by two keys, help, and focus that is seen', {
  skip: withoutChromium,
}, async (t) => {
  const { page, assertCalm } = await visit(t, browser, world.url);
  await page.locator('.dot-live').waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to the content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate('document.activeElement.id'), 'main');
  for (const [key, title] of Object.entries({
    e: 'Events',
    s: 'State',
    n: 'Network',
    a: 'Agents',
    t: 'Timeline',
    r: 'Transparency',
    o: 'Overview',
  })) {
    await page.keyboard.press('g');
    await page.keyboard.press(key);
    await page.getByRole('heading', { level: 1, name: title }).waitFor();
    await page.getByRole('navigation').locator('[aria-current=page]').getByText(title).waitFor();
  }
  await page.keyboard.press('?');
  const help = page.getByRole('dialog', { name: 'Keyboard' });
  await help.waitFor();
  await assertAccessible(page, 'help');
  await page.keyboard.press('Escape');
  await help.waitFor({ state: 'hidden' });
  await page.getByRole('link', { name: 'Agents' }).first().focus();
  await page.keyboard.press('Tab');
  const outline = await page.evaluate('getComputedStyle(document.activeElement).outlineStyle');
  assert.notEqual(outline, 'none', 'focus is not seen');
  assertCalm();
});

test('a choice of colours is kept', { skip: withoutChromium }, async (t) => {
  const { page, assertCalm } = await visit(t, browser, world.url, { colorScheme: 'light' });
  const ground = (): Promise<unknown> => page.evaluate('getComputedStyle(document.body).backgroundColor');
  const light = await ground();
  await page.getByRole('button', { name: /^Colours/ }).click();
  await page.getByRole('button', { name: /^Colours/ }).click();
  await waitUntil(async () => (await ground()) !== light, WITHIN);
  const dark = await ground();
  await page.reload();
  await page.locator('h1').waitFor();
  assert.equal(await ground(), dark);
  assertCalm();
});

test('a page that has no WebGL shows the network as a table and says why', { skip: withoutChromium }, async (t) => {
  const { page, context } = await visit(t, browser, world.url);
  await context.addInitScript({
    content: `const original = HTMLCanvasElement.prototype.getContext;
      HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
        return /webgl/.test(kind) ? null : original.call(this, kind, ...rest);
      };`,
  });
  await page.goto(`${world.url}#/network`);
  await page.reload();
  await page.getByText('has no WebGL').waitFor();
  await page.locator('.edge-table tbody tr').first().waitFor();
});

test('an empty server says how the first agent gets in, the commands work, and the agent appears', {
  skip: withoutChromium,
}, async (t) => {
  const empty = await World.launch({ config: { ...OPEN_CONFIG, verification: { gate_type: 'pipeline' } } });
  t.after(() => empty.dispose());
  const { page, assertCalm } = await visit(t, browser, empty.url);
  for (const view of ['', 'events', 'state', 'network', 'agents', 'timeline', 'transparency']) {
    for (const [size, viewport] of [
      ['wide', WIDE],
      ['narrow', NARROW],
    ] as const) {
      if (size === 'narrow' && !screenshotsAreWanted) continue;
      await page.setViewportSize(viewport);
      await page.goto(`${empty.url}#/${view}`);
      await page.locator('h1, h2').first().waitFor();
      await page.locator('.loading').first().waitFor({ state: 'detached' });
      await screenshot(page, `empty-${view || 'overview'}-${size}`);
      if (size === 'wide') await assertAccessible(page, `empty ${view}`);
    }
  }
  await page.goto(empty.url);
  await page.getByLabel('Address of the kernel API').fill(`http://127.0.0.1:${empty.server.kernelPort}`);
  const commands = (await page.locator('.commands').textContent()) ?? '';
  const { stdout } = await run('bash', ['-euc', commands], { timeout: 30_000 });
  const address = /tab_[a-z0-9]{20}/.exec(stdout)?.[0] ?? '';
  assert.notEqual(address, '', stdout);
  for (const [, token] of stdout.matchAll(/((?:at|sk)_live_[0-9a-f]{64})/g)) empty.server.handedOut.add(token ?? '');
  await page.locator('.latest').getByText('first light').waitFor();
  await waitUntil(async () => (await page.locator('.commands').count()) === 0, WITHIN);
  assert.equal(await page.locator('[data-figure=agents]').textContent(), '1');
  assertCalm();
});

test('when the server restarts the page says so, comes back by itself, and misses and repeats nothing', {
  skip: withoutChromium,
}, async (t) => {
  const port = await freePort();
  const mortal = await World.launch({ config: OPEN_CONFIG, args: ['--observe-listen', `127.0.0.1:${port}`] });
  t.after(() => mortal.dispose());
  await mortal.arriveMany(2);
  const { page, mistakes, tolerateFailedRequests } = await visit(t, browser, `${mortal.url}#/events`);
  await page.locator('.dot-live').waitFor();
  for (let number = 0; number < 5; number++) await mortal.write(0, 'count', `before ${number}`);
  await page.getByText('before 4').waitFor();
  tolerateFailedRequests();
  await mortal.server.stop();
  await page.getByRole('alert').getByText('The connection to the server is lost').waitFor();
  await screenshot(page, 'reconnecting');
  await mortal.server.start();
  for (let number = 0; number < 40; number++) await mortal.write(number % 2, 'count', `after ${number}`);
  await page.getByText('after 39').waitFor();
  await page.locator('.dot-live').waitFor();
  assert.equal(await page.getByRole('alert').count(), 0);
  const values = await page.locator('[role=option] .summary').allTextContents();
  const told = values.flatMap((text) => /(?:before|after) \d+/.exec(text)?.[0] ?? []).reverse();
  const expected = [
    ...Array.from({ length: 5 }, (_, number) => `before ${number}`),
    ...Array.from({ length: 40 }, (_, number) => `after ${number}`),
  ];
  assert.deepEqual(told, expected.slice(-told.length));
  assert.ok(told.length >= 20, `only ${told.length} rows are in sight`);
  await page.locator('.rows').evaluate((node) => {
    node.scrollTop = node.scrollHeight;
  });
  await page.getByText('before 0').waitFor();
  assert.deepEqual(mistakes, []);
});
