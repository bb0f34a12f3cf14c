import { expect, live, liveness, plain, until, waitingAlert } from './bench.mjs';

/** Whether what has the focus can be seen: it has an outline, lies in the window and nothing lies on it. */
async function focusSeen(page, step) {
  const trouble = await page.evaluate(() => {
    const focused = document.activeElement;
    if (!focused || focused === document.body) return 'nothing has the focus';
    const box = focused.getBoundingClientRect();
    if (box.width === 0 || box.top < -1 || box.bottom > innerHeight + 1) return `the focus is out of sight: ${focused.outerHTML.slice(0, 120)}`;
    const outlined = [focused, ...['::after'].map((part) => [focused, part])].some((target) => {
      const style = Array.isArray(target) ? getComputedStyle(...target) : getComputedStyle(target);
      return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 3;
    });
    if (!outlined && !focused.matches('[tabindex="-1"]')) return `no outline of 3 px: ${focused.outerHTML.slice(0, 120)}`;
    const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    if (!top || !(focused.contains(top) || top.contains(focused) || top.closest('[role=row]')?.contains(focused))) return `covered by ${top?.outerHTML.slice(0, 120)}`;
    return null;
  });
  expect(trouble === null, `${step}: ${trouble}`);
}

/** Presses Tab until the focus is where `selector` says. */
async function tabTo(page, selector, step) {
  for (let i = 0; i < 40; i += 1) {
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted), selector)) return focusSeen(page, step);
    await page.keyboard.press('Tab');
  }
  throw new Error(`${step}: Tab does not reach ${selector}`);
}

export async function acknowledgement(bench) {
  const byPassword = process.env.E2E_NAME && process.env.E2E_PASSWORD;
  const page = await bench.page(byPassword ? '/sign-in' : '/wards', { who: byPassword ? null : 0 });
  const note = `seen, on my way ${Date.now()}`;
  let alert;
  let user;

  await bench.check(`5 keyboard only: ${byPassword ? 'sign-in, ' : ''}alerts, acknowledge with a note, back on the row`, async () => {
    if (byPassword) {
      await tabTo(page, 'input[name=name]', 'name');
      await page.keyboard.type(process.env.E2E_NAME);
      await page.keyboard.press('Tab');
      await page.keyboard.type(process.env.E2E_PASSWORD);
      await page.keyboard.press('Enter');
    }
    await page.waitForSelector('[data-patient]');
    await live(page);
    ({ user } = await bench.api(page, '/session'));
    alert = await waitingAlert(bench, page);
    await tabTo(page, '[data-patient] [data-focus]', 'first row');
    await page.keyboard.press('j');
    await focusSeen(page, 'second row');
    await page.keyboard.press('g');
    await page.keyboard.press('a');
    await until('the alerts', () => new URL(page.url()).pathname === '/alerts');
    await page.waitForSelector(`[data-alert="${alert.id}"]`);
    const wanted = `[data-alert="${alert.id}"] [data-focus]`;
    for (let i = 0; i < 200; i += 1) {
      await page.keyboard.press('j');
      if (await page.evaluate((selector) => document.activeElement?.matches(selector), wanted)) break;
    }
    await focusSeen(page, 'the alert’s row');
    await page.keyboard.press('a');
    await page.waitForSelector('form input');
    await until('the note has the focus', () => page.evaluate(() => document.activeElement?.matches('form input')));
    await focusSeen(page, 'the note');
    const form = plain(await page.locator('form').innerText());
    expect(form.includes(alert.patient.name) && form.includes(alert.rule_name), `the form does not name patient and rule: ${form}`);
    await bench.shot(page, 'acknowledge-form');
    await page.keyboard.type(note);
    await page.keyboard.press('Enter');
    await page.getByText(`Acknowledged by ${user}`).first().waitFor();
    const { acknowledged } = await bench.api(page, `/alerts/${alert.id}`);
    expect(acknowledged?.by === user && acknowledged.note === note, `the API says ${JSON.stringify(acknowledged)}`);
    await page.keyboard.press('Escape');
    await until('the focus is back on the row', () => page.evaluate((selector) => document.activeElement?.matches(selector), wanted));
    await focusSeen(page, 'back on the row');
  });

  await bench.check('8 undo within ten seconds: unacknowledged again', async () => {
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: /^Undo/ }).click();
    await page.getByRole('button', { name: `Acknowledge ${alert.patient.name}` }).waitFor();
    const { acknowledged } = await bench.api(page, `/alerts/${alert.id}`);
    expect(acknowledged === null, `the API says ${JSON.stringify(acknowledged)}`);
  });

  await bench.check('"Sending…" until the server answered; a failure says not sent, and the note is kept', async () => {
    await page.route('**/acknowledgements', async (route) => {
      await new Promise((done) => setTimeout(done, 600));
      await route.abort();
    });
    await page.getByRole('button', { name: `Acknowledge ${alert.patient.name}` }).click();
    await page.locator('form input').fill('draft');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Sending…' }).waitFor();
    expect((await page.getByText(`Acknowledged by ${user}`).count()) === 0, 'acknowledged before the server said so');
    await page.getByText('Not sent, still paging').waitFor();
    expect((await page.locator('form input').inputValue()) === 'draft', 'the note was lost');
    const { acknowledged } = await bench.api(page, `/alerts/${alert.id}`);
    expect(acknowledged === null, `the API says ${JSON.stringify(acknowledged)}`);
    await bench.shot(page, 'acknowledge-not-sent');
    await page.unroute('**/acknowledgements');
    await page.keyboard.press('Escape');
  });

  await bench.check('single-key shortcuts can be switched off', async () => {
    await page.getByRole('button', { name: 'More' }).click();
    await page.getByLabel('Single-key shortcuts').uncheck();
    await page.keyboard.press('Escape');
    await page.locator('.panel .body').focus();
    await page.keyboard.press('a');
    expect((await page.locator('form input').count()) === 0, 'a still opens the form');
    await page.getByRole('button', { name: 'More' }).click();
    await page.getByLabel('Single-key shortcuts').check();
    await page.keyboard.press('Escape');
  });

  await bench.check('sound is off until asked for; after a reload it says that it is blocked, until the page is touched', async () => {
    await page.getByRole('button', { name: 'Sound OFF' }).click();
    await page.getByRole('button', { name: 'Sound ON' }).waitFor();
    const path = new URL(page.url()).pathname;
    const again = await page.context().newPage();
    await again.goto(bench.base + path);
    await again.getByRole('button', { name: 'Sound BLOCKED' }).waitFor();
    await again.keyboard.press('Tab');
    await again.getByRole('button', { name: 'Sound ON' }).waitFor();
    await again.close();
    await page.getByRole('button', { name: 'Sound ON' }).click();
    await page.getByRole('button', { name: 'Sound OFF' }).waitFor();
  });

  await bench.check('7 two browsers acknowledge at once: the second sees who was first, nothing is overwritten', async () => {
    const second = await bench.page(`/alerts/${encodeURIComponent(alert.id)}`, { who: bench.states.size > 1 ? 1 : 0 });
    await live(second);
    let firstSent;
    const sent = new Promise((resolve) => (firstSent = resolve));
    await second.route('**/acknowledgements', async (route) => {
      await sent;
      await route.continue();
    });
    await second.getByRole('button', { name: `Acknowledge ${alert.patient.name}` }).click();
    await second.locator('form input').fill('second');
    await second.keyboard.press('Enter');
    await page.getByRole('button', { name: `Acknowledge ${alert.patient.name}` }).click();
    await page.locator('form input').fill('first');
    await page.keyboard.press('Enter');
    await page.locator('.panel').getByText(`Acknowledged by ${user}`).first().waitFor();
    firstSent();
    const panel = second.locator('.panel');
    await until('the first one’s name, time and note', async () => /Acknowledged by .+ \d\d:\d\d:\d\d.* “first”/s.test(plain(await panel.locator('footer').innerText())));
    await until('no more sending', async () => (await second.getByRole('button', { name: 'Sending…' }).count()) === 0);
    expect(plain(await panel.locator('footer').innerText()).includes(user), 'the second browser does not name the first user');
    const { acknowledged } = await bench.api(page, `/alerts/${alert.id}`);
    expect(acknowledged.by === user && acknowledged.note === 'first', `the API says ${JSON.stringify(acknowledged)}`);
    await bench.shot(second, 'acknowledged-by-another');
    await second.context().close();
  });

  if (process.env.VIGIL_PID) {
    await bench.check('6 server stopped, acknowledged at once: says not sent; continued: exactly one acknowledgement', async () => {
      const pid = Number(process.env.VIGIL_PID);
      const other = await waitingAlert(bench, page);
      const acknowledgements = ({ history }) => history.filter(({ what }) => /^acknowledged/i.test(what)).length;
      // It may have been taken and given back before.
      const before = acknowledgements(await bench.api(page, `/alerts/${other.id}`));
      await page.goto(`${bench.base}/alerts/${encodeURIComponent(other.id)}`);
      await live(page);
      await page.getByRole('button', { name: `Acknowledge ${other.patient.name}` }).click();
      process.kill(pid, 'SIGSTOP');
      try {
        await page.keyboard.press('Enter');
        await page.getByText('Not sent, still paging').waitFor({ timeout: 15_000 });
        expect((await page.locator('.panel footer').innerText()).includes('Acknowledged by') === false, 'acknowledged while the server was stopped');
        expect((await liveness(page)) === 'not-live', 'still live');
        await bench.shot(page, 'not-live-not-sent');
      } finally {
        process.kill(pid, 'SIGCONT');
      }
      await live(page, 30_000);
      // The first request may arrive after all, and take the form away under the click.
      const send = page.getByRole('button', { name: 'Send acknowledgement' });
      const done = page.locator('.panel').getByText(/Acknowledged by/);
      const acknowledged = async () => (await done.count()) > 0 || (await send.click({ timeout: 1_000 }).catch(() => {}), false);
      await until('acknowledged', acknowledged, 30_000);
      const after = await bench.api(page, `/alerts/${other.id}`);
      expect(after.acknowledged?.by === user, `the API says ${JSON.stringify(after.acknowledged)}`);
      const times = acknowledgements(after) - before;
      expect(times === 1, `acknowledged ${times} times`);
    });
  }

  await page.context().close();
}
