/**
 * A real Chromium for tests of the observation page.
 * Owns:  the browser process and its pages; one browser for a test file, a fresh context for each test.
 * Invariant: a page that logged an error, threw, broke the Content-Security-Policy or asked another host fails its test.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { PROJECT_ROOT } from '../docs/project-root.js';
import type { Cleanup } from '../support/temp-dir.js';

/** Debian's Chromium, unless CHROMIUM names another one. */
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** For `test(..., { skip })`: why there can be no test, or false. */
export const withoutChromium: string | false = existsSync(CHROMIUM)
  ? false
  : `there is no ${CHROMIUM}: install the package "chromium", or set CHROMIUM`;

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
  // WebGL without a graphics card: the picture of the network is drawn by the processor.
  '--use-angle=swiftshader',
  '--enable-unsafe-swiftshader',
];

export const WIDE = { width: 1440, height: 900 };
export const NARROW = { width: 390, height: 844 };
export const NARROWEST = { width: 360, height: 640 };

/** Long enough for a busy machine; nothing waits for it but what is wrong. */
const WAIT_MS = 30_000;

/** In text, for these files are compiled without the types of a browser. */
const TELL_VIOLATIONS = `document.addEventListener('securitypolicyviolation', (event) => {
  console.error('security policy: ' + event.violatedDirective + ' ' + event.blockedURI);
});`;

/** Where screenshots go when SCREENSHOTS is set: into this folder, else none are taken. */
const SCREENSHOTS = process.env.SCREENSHOTS ?? '';
export const screenshotsAreWanted = SCREENSHOTS !== '';

export async function launchChromium(extra: readonly string[] = []): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: [...ARGUMENTS, ...extra], headless: true });
}

export interface Visit {
  readonly page: Page;
  readonly context: BrowserContext;
  /** What went wrong in the page so far, in words. */
  readonly mistakes: readonly string[];
  /** Fails when anything went wrong. */
  assertCalm(): void;
  /** From here on a failed request is what the test is about: a server that is away. */
  tolerateFailedRequests(): void;
}

/** Opens a page in a context of its own; after the test it is closed, and must have been calm. */
export async function visit(
  t: Cleanup,
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<Visit> {
  const context = await browser.newContext({ viewport: WIDE, locale: 'en-GB', timezoneId: 'UTC', ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  const mistakes: string[] = [];
  const own = new URL(url).host;
  let tolerant = false;
  page.on('console', (message) => {
    if (message.type() !== 'error' && message.type() !== 'warning') return;
    const text = message.text();
    if (tolerant && /Failed to load resource|WebSocket connection|net::ERR/.test(text)) return;
    if (/GL Driver Message|GPU stall/.test(text)) return; // drawn by the processor, it tells how slow that is
    mistakes.push(`console ${message.type()}: ${text}`);
  });
  page.on('pageerror', (error) => mistakes.push(`threw: ${error.stack ?? error.message}`));
  page.on('dialog', (dialog) => {
    mistakes.push(`a dialog opened: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => {
    const { host, protocol } = new URL(request.url());
    if (host !== own && protocol !== 'data:') mistakes.push(`asked another host: ${request.url()}`);
  });
  await page.addInitScript({ content: TELL_VIOLATIONS });
  const assertCalm = (): void => assert.deepEqual(mistakes, []);
  t.after(async () => {
    await context.close();
  });
  await page.goto(url);
  return {
    page,
    context,
    mistakes,
    assertCalm,
    tolerateFailedRequests: () => {
      tolerant = true;
    },
  };
}

/** Takes a screenshot when they are asked for. */
export async function screenshot(page: Page, name: string): Promise<void> {
  if (SCREENSHOTS === '') return;
  await mkdir(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

const axeSource = readFile(createRequire(join(PROJECT_ROOT, 'package.json')).resolve('axe-core/axe.min.js'), 'utf8');

interface AxeFinding {
  readonly id: string;
  readonly impact: string | null;
  readonly help: string;
  readonly nodes: readonly { readonly html: string; readonly failureSummary?: string }[];
}

/** Fails when axe finds anything serious or critical in the page as it is now. */
export async function assertAccessible(page: Page, what: string): Promise<void> {
  const source = await axeSource;
  await page.evaluate(source); // not by a script element: the page's policy forbids that
  const findings = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run(): Promise<{ violations: AxeFinding[] }> } };
    return (await axe.run()).violations;
  });
  const serious = findings.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  const told = serious.map(
    ({ id, help, nodes }) =>
      `${id}: ${help}\n${nodes.map(({ html, failureSummary = '' }) => `    ${html.slice(0, 200)}\n      ${failureSummary.replaceAll('\n', '\n      ')}`).join('\n')}`,
  );
  assert.deepEqual(told, [], `${what}: serious findings of axe`);
}
