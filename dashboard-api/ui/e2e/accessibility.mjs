import { createRequire } from 'node:module';
import { expect, live, liveness, until } from './bench.mjs';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

export async function axe(page, where) {
  await page.evaluate(await axeSource());
  const { violations } = await page.evaluate((tags) => globalThis.axe.run(document, { runOnly: tags }), TAGS);
  const found = violations.map(({ id, nodes }) => `${where}: ${id} ×${nodes.length}: ${nodes[0].html.slice(0, 140)} ${nodes[0].failureSummary?.split('\n')[1] ?? ''}`);
  expect(found.length === 0, found.join('\n'));
}

let source;
async function axeSource() {
  source ??= await import('node:fs/promises').then(({ readFile }) => readFile(AXE, 'utf8'));
  return source;
}

const PROBLEM = { type: 'about:blank', title: 'The store does not answer', status: 503, detail: 'It was asked for 5 s.', remedy: 'Try again in a minute.', request_id: 'e2e' };

async function screens(page, bench, scheme) {
  const go = async (path, selector) => {
    await page.goto(bench.base + path);
    await page.waitForSelector(selector);
    await live(page);
  };
  await go('/wards', '[data-patient]');
  await axe(page, 'ward list');
  await bench.shot(page, `wards-${scheme}`);
  await go('/wards/no-such-ward', '.empty');
  await axe(page, 'ward list, empty');
  await go('/alerts?show=all', '[data-alert]');
  await axe(page, 'alerts');
  await bench.shot(page, `alerts-${scheme}`);
  await go('/alerts?ward=no-such-ward', '.empty');
  await axe(page, 'alerts, empty');
  await go('/alerts?show=all', '[data-alert]');
  await page.locator('[data-alert] a').first().click();
  await page.waitForSelector('.panel h3');
  await axe(page, 'alert panel');
  const button = page.getByRole('button', { name: /^Acknowledge / });
  if (await button.count()) {
    await button.click();
    await axe(page, 'acknowledgement');
  }
  await page.getByRole('button', { name: 'More' }).click();
  await axe(page, 'menu');
  await page.keyboard.press('Escape');
  await go('/wards', '[data-patient]');
  await page.locator('[data-patient] a').first().click();
  await page.waitForSelector('.banner');
  await axe(page, 'patient');
}

async function troubles(page, bench, scheme) {
  await page.route('**/api/v1/alerts/*', (route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body: JSON.stringify(PROBLEM) }));
  await page.goto(`${bench.base}/alerts/e2e-no-such-alert`);
  await page.waitForSelector('.problem');
  await axe(page, 'alert panel, error');
  await bench.shot(page, `alert-error-${scheme}`);
  await page.unroute('**/api/v1/alerts/*');
  await page.route('**/api/v1/session', () => {});
  await page.goto(`${bench.base}/wards`);
  await page.waitForSelector('.empty');
  await axe(page, 'loading');
  await page.unroute('**/api/v1/session');
}

/** The network goes away under an open page. */
async function cutOff(page, bench, scheme) {
  await page.goto(`${bench.base}/wards`);
  await page.waitForSelector('[data-patient]');
  await live(page);
  await page.context().setOffline(true);
  // An open stream outlives the network that the browser pretends to have lost.
  await page.evaluate(() => globalThis.streams.forEach((stream) => stream.close()));
  await until('not live', async () => (await liveness(page)) === 'not-live');
  await axe(page, 'ward list, not live');
  await bench.shot(page, `wards-not-live-${scheme}`);
  await page.getByRole('link', { name: 'Alerts' }).click();
  await page.waitForSelector('.inbox');
  await axe(page, 'alerts, not live');
  await page.context().setOffline(false);
}

export async function accessibility(bench) {
  for (const scheme of ['light', 'dark']) {
    await bench.check(`18 axe, ${scheme}: sign-in, ward list, alerts, alert panel, patient; empty, error, loading, not live`, async () => {
      const out = await bench.page('/sign-in', { who: null, colorScheme: scheme });
      await out.waitForSelector('form');
      await axe(out, 'sign-in');
      await bench.shot(out, `sign-in-${scheme}`);
      await out.context().close();
      const context = await bench.context({ colorScheme: scheme });
      await context.addInitScript(() => {
        globalThis.streams = [];
        globalThis.EventSource = class extends EventSource {
          constructor(...args) {
            super(...args);
            globalThis.streams.push(this);
          }
        };
      });
      const page = await context.newPage();
      await screens(page, bench, scheme);
      await troubles(page, bench, scheme);
      await cutOff(page, bench, scheme);
      await context.close();
    });
  }

  await bench.check('20 reduced motion: no animation runs; otherwise none goes on for ever', async () => {
    for (const reducedMotion of ['reduce', 'no-preference']) {
      const page = await bench.page('/alerts?show=all', { reducedMotion });
      await page.waitForSelector('[data-alert]');
      await page.locator('[data-alert] a').first().click();
      await page.waitForSelector('.panel');
      const running = await page.evaluate(() => document.getAnimations().map((one) => one.effect?.getComputedTiming().endTime ?? Infinity));
      expect(reducedMotion === 'reduce' ? running.length === 0 : running.every((end) => end <= 150), `${reducedMotion}: ${running}`);
      await page.context().close();
    }
  });
}
