import { expect, live, until } from './bench.mjs';

/** Everything that can be tapped and is smaller than a fingertip; links in running text are exempt, as in WCAG 2.5.8. */
function small(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll('a, button, select, input, [role=button]')]
      .filter((element) => element.checkVisibility() && element.getBoundingClientRect().bottom > 0 && !element.matches('.skip, p a, td a'))
      .map((element) => {
        const target = element.matches('[data-focus]') ? element.closest('[role=row]') : element.matches('input[type=checkbox], input[type=radio]') ? element.closest('label') : element;
        const { width, height } = target.getBoundingClientRect();
        return width < 44 || height < 44 ? `${element.outerHTML.slice(0, 80)} ${Math.round(width)}×${Math.round(height)}` : null;
      })
      .filter(Boolean),
  );
}

export async function phone(bench) {
  await bench.check('17 at 360 px: no sideways scroll, every target 44 px, an alert opened and its form reached by touch', async () => {
    const page = await bench.page('/wards', { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
    await live(page);
    const looked = async (name) => {
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect(over <= 0, `${name} scrolls sideways by ${over} px`);
      const tiny = await small(page);
      expect(tiny.length === 0, `${name}: too small:\n${tiny.join('\n')}`);
      await bench.shot(page, `${name}-360`);
    };
    await page.waitForSelector('[data-patient]');
    await looked('wards');
    await page.locator('[data-patient]').first().tap();
    await page.waitForSelector('.banner h1');
    await looked('patient');
    await page.getByRole('link', { name: 'Alerts' }).tap();
    await page.getByRole('link', { name: /^All of 24 h/ }).tap();
    await page.waitForSelector('[data-alert]');
    await looked('alerts');
    await page.locator('[data-alert]').first().tap();
    await page.waitForSelector('.panel h2');
    await looked('alert');
    const button = page.getByRole('button', { name: /^Acknowledge / });
    if (await button.count()) {
      await button.tap();
      await looked('acknowledge');
    }
    await page.getByRole('button', { name: 'More' }).tap();
    await until('the menu', () => page.locator('dialog').isVisible());
    await looked('menu');
    await page.context().close();
  });
}
