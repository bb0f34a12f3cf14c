/** What every check needs: a browser, a signed-in context, the API beside the page, and a list of what went wrong. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const CHROMIUM = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => path && existsSync(path));

export class Bench {
  failures = [];
  /** What the pages themselves complained about. */
  complaints = [];
  states = new Map();

  static async open(base, tokens) {
    if (!CHROMIUM) throw new Error('no Chromium found: set CHROMIUM to its path');
    const bench = new Bench();
    bench.base = base.replace(/\/$/, '');
    bench.tokens = tokens;
    bench.browser = await chromium.launch({ executablePath: CHROMIUM, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] });
    if (process.env.SHOTS) mkdirSync(process.env.SHOTS, { recursive: true });
    return bench;
  }

  /** A run from its first browser to its exit code. */
  static async run(base, tokens, act) {
    const bench = await Bench.open(base, tokens);
    try {
      await act(bench);
      await bench.check('no page threw, and the content security policy refused nothing', () => {
        if (bench.complaints.length > 0) throw new Error([...new Set(bench.complaints)].join('\n'));
      });
    } finally {
      await bench.browser.close();
    }
    if (bench.failures.length > 0) console.log(`\n${bench.failures.length} failed:\n${bench.failures.map((name) => `  - ${name}`).join('\n')}`);
    else console.log('\nall passed');
    process.exitCode = bench.failures.length > 0 ? 1 : 0;
  }

  async check(name, act) {
    const began = performance.now();
    try {
      await act(this);
      console.log(`ok    ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
    } catch (problem) {
      this.failures.push(name);
      console.log(`FAIL  ${name}\n      ${String(problem.message ?? problem).split('\n').slice(0, 12).join('\n      ')}`);
    }
  }

  /** A browser of its own, signed in as the `who`-th user unless `who` is null. */
  async context({ who = 0, ...options } = {}) {
    const context = await this.browser.newContext({
      viewport: { width: 1440, height: 900 },
      storageState: who === null ? undefined : this.states.get(who),
      ...options,
    });
    context.on('weberror', (error) => this.complaints.push(error.error().message));
    context.on('console', (message) => {
      if (message.type() === 'error' && /content security|refused to/i.test(message.text())) this.complaints.push(message.text());
    });
    return context;
  }

  async page(path, options) {
    const context = await this.context(options);
    const page = await context.newPage();
    await page.goto(this.base + path);
    return page;
  }

  /** The API with the cookie of the page. */
  async api(page, path, { method = 'GET', body, status = 200 } = {}) {
    const response = await page.request.fetch(`${this.base}/api/v1${path}`, {
      method,
      data: body,
      headers: { 'sec-fetch-site': 'same-origin', origin: this.base },
    });
    if (response.status() !== status) throw new Error(`${method} ${path}: ${response.status()}, expected ${status}: ${await response.text()}`);
    const text = await response.text();
    return text === '' ? null : JSON.parse(text);
  }

  async shot(page, name) {
    if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, `${name}.png`) });
  }
}

export function expect(condition, otherwise) {
  if (!condition) throw new Error(otherwise);
}

/** Waits for `probe` to return something true; no sleeps of a guessed length. */
export async function until(what, probe, ms = 10_000) {
  const deadline = performance.now() + ms;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`not within ${ms / 1000} s: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

export function liveness(page) {
  return page.locator('[data-liveness]').getAttribute('data-liveness');
}

export function live(page, ms = 20_000) {
  return until('live', async () => (await liveness(page)) === 'live', ms);
}

/** Alerts that wait for somebody, each its patient's only one, as the API tells them; at least `count`. */
export function waitingAlerts(bench, page, count) {
  return until(
    `${count} patients with one open alert, unacknowledged`,
    async () => {
      const { alerts } = await bench.api(page, '/alerts?state=open&limit=500');
      const only = ({ patient }) => alerts.filter((other) => other.patient.id === patient.id).length === 1;
      const waiting = alerts.filter((alert) => !alert.test && !alert.technical && alert.acknowledged === null && only(alert));
      return waiting.length >= count && waiting;
    },
    120_000,
  );
}

export async function waitingAlert(bench, page) {
  return (await waitingAlerts(bench, page, 1))[0];
}

export const plain = (text) => text.replaceAll('\u00a0', ' ').replaceAll(/\s+/g, ' ').trim();
