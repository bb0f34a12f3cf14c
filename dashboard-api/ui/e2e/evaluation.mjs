/**
 * The engine dies and the stream lives: drives a running Vigil whose processor is a process of its own, which this starts, kills and
 * starts again.
 *
 *   npm run e2e:evaluation -- <base-url> <one-time-token> <pid-file> <command of the processor>...
 *
 * While the processor runs its id stands in the file. At least one patient is there, with values that keep coming. CHROMIUM, SHOTS: as run.mjs.
 */
import { spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { axe } from './accessibility.mjs';
import { Bench, expect, live, liveness, plain, until } from './bench.mjs';

const [base, token, pidFile, ...command] = process.argv.slice(2);
if (command.length === 0) {
  console.error('usage: npm run e2e:evaluation -- <base-url> <one-time-token> <pid-file> <command of the processor>...');
  process.exit(2);
}

/** Generous: what is promised is 180 s, what it took is printed. */
const PATIENCE_MS = 300_000;
const STOPPED = 'EVALUATION STOPPED';

class Processor {
  start() {
    this.child = spawn(command[0], command.slice(1), { stdio: 'ignore' });
    this.ended = new Promise((done) => this.child.once('exit', done)).then(() => rmSync(pidFile, { force: true }));
    writeFileSync(pidFile, `${this.child.pid}\n`);
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

/** A signed-in page that keeps its beats where they can be looked at. */
async function listening(bench, options) {
  const context = await bench.context(options);
  await context.addInitScript(() => {
    globalThis.beats = [];
    globalThis.EventSource = class extends EventSource {
      constructor(...args) {
        super(...args);
        this.addEventListener('beat', ({ data }) => globalThis.beats.push(JSON.parse(data)));
      }
    };
  });
  return context.newPage();
}

const newest = (page) => page.evaluate(() => globalThis.beats.at(-1) ?? null);
const strip = async (page) => plain(await page.locator('.strip').innerText());

/** Everything on the page that speaks of rules or alerts, while no rule is evaluated. */
async function saysSo(page, since) {
  expect((await liveness(page)) === 'stopped', `the page says ${await liveness(page)}`);
  expect(plain(await page.locator('[data-liveness]').innerText()) === STOPPED, 'the words are others');
  await until('the title', async () => (await page.title()).startsWith(STOPPED), 2_000);
  const header = plain(await page.locator('.header').innerText());
  expect(header.includes(`No rule is being evaluated since`) && header.includes(since.slice(11, 16)), `not since ${since}: ${header}`);
  expect(!/\bLIVE\b/.test(header), `the header still says LIVE: ${header}`);
  expect(!(await strip(page)).startsWith('No unacknowledged'), 'the strip says that nothing is unacknowledged');
}

/** "As of" a moment at which nothing was evaluated is not said. */
async function claimsNothing(page, where, since) {
  const said = plain(await page.locator('main').innerText()).match(/No (?:open )?alert\b[^.]*as of (\d\d:\d\d:\d\d)/);
  expect(said, `${where}: the sentence about no alert is missing`);
  expect(said[1] === since.slice(11, 19), `${where}: "${said[0]}", but the last canary was at ${since}`);
}

async function looks(bench, page, scheme, since) {
  await page.goto(`${bench.base}/wards`);
  await page.waitForSelector('[data-patient] .value');
  await until('stopped', async () => (await liveness(page)) === 'stopped');
  await saysSo(page, since);
  await axe(page, `ward list, evaluation stopped, ${scheme}`);
  await bench.shot(page, `wards-stopped-${scheme}`);
  await page.locator('[data-patient] a').first().click();
  await page.waitForSelector('.banner');
  await saysSo(page, since);
  await claimsNothing(page, 'patient', since);
  await axe(page, `patient, evaluation stopped, ${scheme}`);
  await page.getByRole('link', { name: 'Alerts' }).click();
  await page.waitForSelector('.inbox .empty');
  await saysSo(page, since);
  await claimsNothing(page, 'alerts', since);
  await axe(page, `alerts, evaluation stopped, ${scheme}`);
  await bench.shot(page, `alerts-stopped-${scheme}`);
}

async function evaluation(bench) {
  const processor = new Processor();
  process.once('exit', () => processor.child?.kill('SIGKILL'));
  processor.start();
  let page;

  await bench.check('10 signed in, values shown, live, and every partition had its canary', async () => {
    page = await listening(bench, { who: null });
    await page.goto(`${bench.base}/sign-in#token=${encodeURIComponent(token)}`);
    await page.waitForSelector('[data-patient] .value', { timeout: 60_000 });
    bench.states.set(0, await page.context().storageState());
    await until('a canary of every partition', async () => (await newest(page))?.canary_at, PATIENCE_MS);
    await live(page);
    expect(!(await page.title()).includes(STOPPED), 'the title says that evaluation stopped');
    expect((await strip(page)) === 'No unacknowledged HIGH alert', `the strip says "${await strip(page)}"`);
  });
  if (bench.failures.length > 0) return;

  await bench.check(`10 processor killed: ${STOPPED}, in the title too, while beats and values go on`, async () => {
    await processor.kill();
    const began = performance.now();
    await until(STOPPED, async () => (await liveness(page)) === 'stopped', PATIENCE_MS);
    console.log(`      it took ${((performance.now() - began) / 1000).toFixed(0)} s`);
    const { canary_at: since } = await newest(page);
    await saysSo(page, since);
    const heard = await page.evaluate(() => globalThis.beats.length);
    await until('three more beats', async () => (await page.evaluate(() => globalThis.beats.length)) >= heard + 3, 20_000);
    expect((await newest(page)).canary_at === since, 'a canary came although nothing evaluates');
    await saysSo(page, since);
    expect((await page.locator('.value').filter({ hasText: 'as of' }).count()) === 0, 'values are "as of" although they are heard');
  });

  for (const scheme of ['light', 'dark']) {
    await bench.check(`18 axe, ${scheme}: ward list, patient, alerts while evaluation is stopped; a page opened then says so as well`, async () => {
      const late = await listening(bench, { colorScheme: scheme });
      await looks(bench, late, scheme, (await newest(page)).canary_at);
      await late.context().close();
    });
  }

  await bench.check('10 processor started again: live, nothing says that it stopped', async () => {
    processor.start();
    const began = performance.now();
    await live(page, PATIENCE_MS);
    console.log(`      it took ${((performance.now() - began) / 1000).toFixed(0)} s`);
    await until('the title', async () => !(await page.title()).includes(STOPPED), 2_000);
    expect(!(await strip(page)).includes('nothing is evaluated'), 'the strip still says that nothing is evaluated');
    expect(!plain(await page.locator('.header').innerText()).includes('No rule is being evaluated'), 'the header still says so');
  });
  await processor.kill();
}

await Bench.run(base, [token], evaluation);
