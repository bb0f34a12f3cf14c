import { expect, live, until } from './bench.mjs';

export async function signIn(bench) {
  for (const [who, token] of bench.tokens.entries()) {
    await bench.check(`1 one-time link ${who + 1}: signed in, list full, token gone from the address`, async () => {
      const page = await bench.page(`/sign-in#token=${encodeURIComponent(token)}`, { who: null });
      await page.waitForSelector('[data-patient]', { timeout: 60_000 });
      await live(page);
      expect(!page.url().includes('token'), `the address still reads ${page.url()}`);
      const back = await page.evaluate(() => history.length);
      expect(back <= 2, 'the link stands in the history');
      bench.states.set(who, await page.context().storageState());
      await page.context().close();
    });
  }

  await bench.check('a used link says so and offers the password', async () => {
    const page = await bench.page(`/sign-in#token=${encodeURIComponent(bench.tokens[0])}`, { who: null });
    await page.getByText('The link did not work').waitFor();
    expect(!page.url().includes('token'), `the address still reads ${page.url()}`);
    await page.getByLabel('Password').waitFor();
    await bench.shot(page, 'sign-in-used-link');
    await page.context().close();
  });

  await bench.check('a wrong password is refused in words; pasting is not', async () => {
    const page = await bench.page('/wards', { who: null, permissions: ['clipboard-read', 'clipboard-write'] });
    await page.getByLabel('Name').fill('nobody');
    await page.getByLabel('Password').focus();
    await page.evaluate(() => navigator.clipboard.writeText('not the password'));
    await page.keyboard.press('Control+V');
    expect((await page.getByLabel('Password').inputValue()) === 'not the password', 'pasting was blocked');
    await page.keyboard.press('Enter');
    await until('words about it', async () => (await page.getByRole('alert').allInnerTexts()).join(' ').includes('Name or password is wrong'));
    await page.context().close();
  });
}
