/** What agents write is shown, never obeyed: markup, scripts, addresses, hidden and turned characters, very long text. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { waitUntil } from '../support/wait.js';
import { launchChromium, NARROWEST, screenshot, visit, withoutChromium } from './browser.js';
import { World } from './world.js';

const WITHIN = { timeoutMs: 30_000 };
const LONG = `begin ${'x'.repeat(65_520)} end`;
const HOSTILE = [
  '<script>globalThis.harmed = 1; alert(1)</script>',
  '<img src=x onerror="globalThis.harmed = 2">',
  '<svg onload="globalThis.harmed = 3"><a href="javascript:globalThis.harmed=4">click</a></svg>',
  'javascript:globalThis.harmed=5',
  'https://example.com/?steal=<iframe src="javascript:globalThis.harmed=6">',
  '</div></main><style>*{display:none!important}</style><base href="https://example.com/">',
  'user\u202egnp.exe\u202c and \u2066isolated\u2069 and \u200fmarks',
  'zero\u200bwidth\u200djoiner\ufeff and tag\u{e0041}s and soft\u00adhyphen',
  'null\u0000 bell\u0007 escape\u001b[31m return\r delete\u007f',
  `combining ${'\u0301'.repeat(300)} marks over everything`,
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is meant to look like one
  '{{constructor.constructor("globalThis.harmed = 7")()}} ${globalThis.harmed = 8}',
  '__proto__',
  LONG,
];
const HIDDEN = new Set('\0\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\ufeff');
/** Keys may be 1,024 bytes long. */
const KEYS = HOSTILE.filter((text) => Buffer.byteLength(text) <= 1024);

let world: World;
let browser: Browser;

before(async () => {
  if (withoutChromium !== false) return;
  world = await World.launch();
  browser = await launchChromium();
  await world.arriveMany(3);
  for (const [index, text] of HOSTILE.entries()) {
    await world.say(index % 3, (index + 1) % 3, text);
    await world.write(index % 3, `value/${index}`, text);
  }
  for (const key of KEYS) await world.write(0, key, key);
});

after(async () => {
  await browser?.close();
  await world?.dispose();
});

for (const hash of ['', 'events', 'state', 'network', 'network?as=table', 'agents', 'timeline', 'transparency']) {
  test(`nothing that agents wrote takes effect in #/${hash}`, { skip: withoutChromium }, async (t) => {
    const { page, assertCalm } = await visit(t, browser, `${world.url}#/${hash}`);
    await page.locator('.dot-live').waitFor();
    await page.locator('h1').waitFor();
    if (hash === 'timeline') {
      await page.getByRole('button', { name: '3,600×' }).click();
      await page.getByRole('button', { name: 'Play' }).click();
      await page.getByText('reached the present').waitFor();
    }
    for (const text of HOSTILE) await world.say(0, 1, text); // live, too
    await waitUntil(async () => (await page.locator('main').textContent()) !== '', WITHIN);
    assert.equal(await page.evaluate('globalThis.harmed'), undefined);
    const foreign =
      'main script, main iframe, main img, main base, main style, main object, [onerror], [onload], [onclick]';
    assert.equal(await page.locator(foreign).count(), 0);
    const links = await page.locator('a').evaluateAll((all) => all.map((link) => link.getAttribute('href') ?? ''));
    assert.deepEqual(
      links.filter((href) => !href.startsWith('#')),
      [],
      'a link leads away',
    );
    await screenshot(page, `hostile-${hash.replace(/\W/g, '') || 'overview'}`);
    assertCalm();
  });
}

test('every hostile text is shown as it is in the feed, hidden characters by their codes', {
  skip: withoutChromium,
}, async (t) => {
  const { page, assertCalm } = await visit(t, browser, `${world.url}#/events?type=message_sent`);
  await page.locator('[role=option]').first().waitFor();
  for (const text of [
    '<script>globalThis.harmed = 1',
    '<img src=x onerror=',
    'javascript:globalThis.harmed=5',
    '__proto__',
  ]) {
    await page.locator('[role=option]').filter({ hasText: text }).first().waitFor();
  }
  for (const code of ['U+202E', 'U+2066', 'U+200B', 'U+FEFF', 'U+E0041', 'U+00AD', 'U+0000', 'U+001B']) {
    await page.locator('[role=option] .odd').getByText(code, { exact: true }).first().waitFor();
  }
  const raw = await page.locator('main').evaluate((main) => main.textContent ?? '');
  assert.deepEqual(
    [...raw].filter((character) => HIDDEN.has(character)),
    [],
    'a hidden character is in the page',
  );
  const loose = await page.evaluate(`[...document.querySelectorAll('[role=option]')]
    .filter((row) => getComputedStyle(row).overflow !== 'hidden').length`);
  assert.equal(loose, 0, 'text may run over its neighbours');
  assertCalm();
});

test('a text of 64 KB is cut, and shown whole when asked for', { skip: withoutChromium }, async (t) => {
  const { page, assertCalm } = await visit(
    t,
    browser,
    `${world.url}#/state/${encodeURIComponent(`value/${HOSTILE.indexOf(LONG)}`)}`,
    { viewport: NARROWEST },
  );
  const value = page.getByRole('region', { name: 'Value', exact: true }).last();
  await value.waitFor();
  assert.ok(((await value.textContent()) ?? '').length < 5_000);
  await page.getByRole('button', { name: 'Show all 64.0 KiB' }).click();
  await waitUntil(async () => (await value.textContent()) === LONG, WITHIN);
  const sideways = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
  assert.equal(sideways, 0, 'the page scrolls sideways');
  assertCalm();
});

test('hostile keys have working links and show what they hold', { skip: withoutChromium }, async (t) => {
  const { page, assertCalm } = await visit(t, browser, world.url);
  for (const key of KEYS) {
    await page.goto(`${world.url}#/state/${encodeURIComponent(key)}`);
    const value = page.getByRole('region', { name: 'Value', exact: true }).last();
    await value.waitFor();
    const start = key.slice(0, 4).replace(/[^\x20-\x7e]/g, '');
    await waitUntil(async () => ((await value.textContent()) ?? '').startsWith(start), WITHIN);
  }
  assert.equal(await page.evaluate('globalThis.harmed'), undefined);
  assertCalm();
});
