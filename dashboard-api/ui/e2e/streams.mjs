import { expect, live, liveness, until } from './bench.mjs';

const TABS = 7;

async function tabs(bench, count) {
  const context = await bench.context();
  const streams = [];
  context.on('request', (request) => request.url().includes('/api/v1/events') && streams.push(request.url()));
  const pages = [];
  const times = [];
  for (let i = 0; i < count; i += 1) {
    const page = await context.newPage();
    const began = performance.now();
    await page.goto(`${bench.base}/wards`);
    await page.waitForSelector('[data-patient]');
    times.push(performance.now() - began);
    pages.push(page);
  }
  for (const page of pages) await live(page);
  return { context, pages, streams, times };
}

export async function streams(bench) {
  await bench.check(`11 ${TABS} tabs share one stream; when the leader is closed the others stay live`, async () => {
    const { context, pages, streams, times } = await tabs(bench, TABS);
    expect(streams.length === 1, `${streams.length} streams were opened`);
    console.log(`      the tabs took ${times.map(Math.round).join(', ')} ms`);
    await pages.shift().close();
    await until('another tab takes over', () => streams.length === 2);
    for (const page of pages) await live(page, 10_000);
    await context.close();
  });

  // Headless Chromium freezes no page; the event that it would send on waking, and the jump of the clocks, can be had.
  await bench.check('12 a page that was asleep is not live in its first frame, and live again with the next beat', async () => {
    const page = await bench.page('/wards');
    await live(page);
    const first = await page.evaluate(
      () =>
        new Promise((seen) => {
          document.dispatchEvent(new Event('resume'));
          requestAnimationFrame(() => seen(document.querySelector('[data-liveness]').dataset.liveness));
        }),
    );
    expect(first === 'not-live', `the first frame said ${first}`);
    await live(page, 10_000);
    await page.evaluate(() => {
      const real = Date.now;
      Date.now = () => real() + 60_000;
    });
    await until('not live after the clocks went apart', async () => (await liveness(page)) === 'not-live', 3_000);
    await live(page, 10_000);
    await page.context().close();
  });

  await bench.check('signing out in one tab signs out all of them, and no name stays', async () => {
    const { context, pages } = await tabs(bench, 2);
    const state = await context.storageState();
    const [first, second] = pages;
    // Only the page is told: the session of the other checks must live on.
    await first.route('**/api/v1/session', (route) => (route.request().method() === 'DELETE' ? route.fulfill({ status: 204 }) : route.continue()));
    await first.getByRole('button', { name: 'More' }).click();
    await first.getByRole('button', { name: 'Sign out' }).click();
    for (const page of [first, second]) {
      await until('the sign-in form', () => new URL(page.url()).pathname === '/sign-in');
      expect((await page.locator('[data-patient]').count()) === 0, 'patients are still on the page');
    }
    expect(state.origins.every(({ localStorage }) => localStorage.every(({ name }) => /^vigil\.(theme|shortcuts|sound)$/.test(name))), 'the browser keeps more than preferences');
    await context.close();
  });

  if (!process.env.VIGIL_PID) {
    console.log('skip  9 (set VIGIL_PID to stop and continue the server)');
    return;
  }
  await bench.check(`9 server stopped: ${TABS} tabs not live within 10 s, in their titles too, no value without "as of"; continued: live, scroll kept`, async () => {
    const pid = Number(process.env.VIGIL_PID);
    const { context, pages } = await tabs(bench, TABS);
    const list = pages[0].locator('.scroller');
    await list.evaluate((scroller) => (scroller.scrollTop = 200));
    const scrolled = await list.evaluate(({ scrollTop }) => scrollTop);
    process.kill(pid, 'SIGSTOP');
    try {
      const deadline = performance.now() + 10_000;
      for (const page of pages) {
        await until('not live', async () => (await liveness(page)) === 'not-live', deadline - performance.now());
        await until('the title', async () => (await page.title()).startsWith('NOT LIVE'), 1_000);
        const bare = await page.locator('.value').evaluateAll((values) => values.filter(({ textContent }) => !/as of \d\d:\d\d:\d\d/.test(textContent)).length);
        expect(bare === 0, `${bare} values without "as of"`);
      }
      await bench.shot(pages[0], 'not-live');
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    for (const page of pages) await live(page, 30_000);
    const now = await list.evaluate(({ scrollTop }) => scrollTop);
    expect(now === scrolled, `the list was at ${scrolled}, now at ${now}`);
    await context.close();
  });
}
