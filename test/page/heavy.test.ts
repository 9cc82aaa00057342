/** Events as large as events can be: the API cuts its pages by bytes then, and the feed still shows every one. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { launchChromium, visit, withoutChromium } from './browser.js';
import { scrollDownTo } from './scrolling.js';
import { World } from './world.js';

const LARGEST_BYTES = 900_000;
const VALUES = 30;

let world: World;
let browser: Browser;
let firstSeq: number;
let lastSeq: number;

before(async () => {
  if (withoutChromium !== false) return;
  world = await World.launch();
  browser = await launchChromium();
  await world.arrive();
  firstSeq = (await world.newestSeq()) + 1;
  for (let index = 0; index < VALUES; index++) await world.write(0, `large/${index}`, 'v'.repeat(LARGEST_BYTES));
  lastSeq = firstSeq + VALUES - 1;
});

after(async () => {
  await browser?.close();
  await world?.dispose();
});

test('a feed of nothing but large events begins at the newest and reaches the first', {
  skip: withoutChromium,
}, async (t) => {
  const { page, assertCalm } = await visit(t, browser, `${world.url}#/transparency`);
  let requests = 0;
  page.on('request', (request) => {
    if (request.url().includes('/observe/events?')) requests += 1;
  });
  await page.goto(`${world.url}#/events`);
  await page.locator(`#event-${lastSeq}`).waitFor();
  const seen = await scrollDownTo(page, firstSeq, 'end');
  assert.equal(seen.filter((seq) => seq >= firstSeq).length, VALUES);
  assert.ok(requests <= 3 * VALUES, `${requests} requests for ${VALUES} events`);

  await page.goto(`${world.url}#/events?seq=${firstSeq + 12}`);
  await page.locator(`#event-${firstSeq + 12}[aria-selected=true]`).waitFor();
  await page.goto(`${world.url}#/events?seq=99999999`);
  await page.locator(`#event-${lastSeq}`).waitFor();
  assertCalm();
});
