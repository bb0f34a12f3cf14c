import { expect, live, plain, until, waitingAlerts } from './bench.mjs';

const SINGLE = ['heart_rate', 'spo2', 'respiratory_rate', 'temperature'];
const MINUTE = 60_000;

/** The words for an age, written a second time so that the page is not compared with itself. */
function age(ms) {
  const minutes = Math.floor(ms / MINUTE);
  if (minutes < 1) return 'now';
  const [d, h, m] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24, minutes % 60];
  const parts = [d && `${d} d`, h && `${h} h`, !d && m && `${m} min`].filter(Boolean);
  return parts.slice(0, 2).join(' ');
}

/** Compares `count` random cells with the API; a value that changed meanwhile is looked at again. */
async function compareCells(bench, page, count) {
  const { patients } = await bench.api(page, '/patients');
  const cells = patients.flatMap((patient) => SINGLE.filter((metric) => patient.values[metric]).map((metric) => ({ id: patient.id, metric })));
  for (let i = 0; i < count; i += 1) {
    const { id, metric } = cells[Math.floor(Math.random() * cells.length)];
    const cell = page.locator(`[data-patient="${id}"] [data-metric="${metric}"]`);
    let told = '';
    let shown = '';
    await until(
      `cell ${metric} of ${id} equals the API`,
      async () => {
        const { server_time, patients: now } = await bench.api(page, '/patients');
        const value = now.find((patient) => patient.id === id).values[metric];
        const at = Date.parse(server_time);
        shown = plain(await cell.textContent());
        const ages = [0, -1500, 1500].map((slack) => age(at + slack - Date.parse(value.observed_at)));
        const stale = at >= Date.parse(value.stale_at);
        told = `${value.text} ${value.unit} … ${ages[0]}${stale ? ' STALE' : ''}`;
        return (
          shown.includes(value.text) &&
          shown.includes(value.unit) &&
          ages.some((words) => shown.includes(words)) &&
          (shown.includes('STALE') || shown.includes('SILENT')) === (stale || (value.silent_at !== null && at >= Date.parse(value.silent_at)))
        );
      },
      8_000,
    ).catch((problem) => {
      throw new Error(`${problem.message}: API "${told}", page "${shown}"`);
    });
  }
}

export async function wardList(bench) {
  const page = await bench.page('/wards');
  await live(page);

  await bench.check('1 as many rows as the API has patients, 20 random cells equal with unit and age', async () => {
    const { patients } = await bench.api(page, '/patients');
    const ids = await page.locator('[data-patient]').evaluateAll((rows) => rows.map(({ dataset }) => dataset.patient));
    expect(ids.length === patients.length, `${ids.length} rows, ${patients.length} patients`);
    expect(new Set(ids).size === ids.length, 'a patient stands twice');
    await compareCells(bench, page, 20);
    await bench.shot(page, 'wards-light-1440');
  });

  await bench.check('2 while values change, every row stays the same node', async () => {
    await page.evaluate(() => {
      globalThis.kept = [...document.querySelectorAll('[data-patient]')];
      globalThis.touched = 0;
      new MutationObserver((changes) => (globalThis.touched += changes.length)).observe(document.querySelector('[role=table]'), { characterData: true, childList: true, subtree: true });
    });
    await until('a few values changed', () => page.evaluate(() => globalThis.touched >= 10), 90_000);
    const lost = await page.evaluate(() => globalThis.kept.filter((row) => !row.isConnected).length);
    expect(lost === 0, `${lost} rows were made anew`);
  });

  await bench.check('3 with the pointer on row 5 nothing moves, the pill counts, the click opens that patient', async () => {
    // Of two who wait, the upper one's acknowledgement puts the other before them.
    const waiting = await waitingAlerts(bench, page, 2);
    const shown = await page.locator('[data-patient]').evaluateAll((rows) => rows.map(({ dataset }) => dataset.patient));
    const place = ({ patient }) => shown.indexOf(patient.id);
    const [alert] = waiting.sort((a, b) => place(a) - place(b));
    const row = page.locator('[data-patient]').nth(4);
    const id = await row.getAttribute('data-patient');
    const before = await row.boundingBox();
    await row.hover();
    await bench.api(page, `/alerts/${alert.id}/acknowledgements`, { method: 'POST', body: {}, status: 201 });
    try {
      await page.getByRole('button', { name: /^\d+ to reorder/ }).waitFor({ timeout: 8_000 });
      const after = await page.locator(`[data-patient="${id}"]`).boundingBox();
      expect(JSON.stringify(after) === JSON.stringify(before), `row 5 moved from ${JSON.stringify(before)} to ${JSON.stringify(after)}`);
      await bench.shot(page, 'wards-pill');
    } finally {
      await bench.api(page, `/alerts/${alert.id}/acknowledgements`, { method: 'DELETE' });
    }
    await page.mouse.click(before.x + before.width / 2, before.y + before.height / 2);
    await until('the patient’s page', () => new URL(page.url()).pathname === `/patients/${encodeURIComponent(id)}`);
    await bench.shot(page, 'patient-light-1440');
    await page.goBack();
    await page.waitForSelector('[data-patient]');
  });

  await bench.check('filter and sort stand in the address and survive a reload; a name never does', async () => {
    await page.getByLabel('Sort').selectOption('name');
    await page.getByLabel('Find').fill('a');
    expect(new URL(page.url()).search === '?sort=name', `the address reads ${page.url()}`);
    await page.reload();
    await page.waitForSelector('[data-patient]');
    expect((await page.getByLabel('Sort').inputValue()) === 'name', 'the sort was lost');
    const names = await page.locator('[data-patient] [data-focus]').allTextContents();
    const sorted = [...names].sort(new Intl.Collator('en', { sensitivity: 'base', numeric: true }).compare);
    expect(JSON.stringify(names) === JSON.stringify(sorted), 'not in the order of names');
  });

  await bench.check('13 with the browser’s clock three hours ahead ages still equal the server’s, and the skew is said', async () => {
    const context = await bench.context();
    await context.addInitScript(() => {
      const real = Date.now;
      Date.now = () => real() + 3 * 3_600_000;
    });
    const ahead = await context.newPage();
    await ahead.goto(`${bench.base}/wards`);
    await live(ahead);
    await compareCells(bench, ahead, 5);
    await ahead.getByRole('button', { name: 'More' }).click();
    await until('the skew in words', async () => plain(await ahead.locator('dialog').innerText()).includes('3 h ahead'));
    await context.close();
  });

  await page.context().close();
}
