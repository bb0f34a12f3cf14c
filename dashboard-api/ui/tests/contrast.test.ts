import { expect, test } from 'vitest';
import css from '../src/tokens.css?raw';

/** The design's table: what every token promises on the worst of the five backgrounds, or against the given fill. */
const BACKGROUNDS = ['bg', 'surface', 'raised', 'selected', 'band'];
const ON_BACKGROUNDS: [token: string, light: number, night: number][] = [
  ['text', 13.4, 9.4],
  ['muted', 5.9, 5.5],
  ['link', 6.5, 6.2],
  ['series-2', 5.9, 6.4],
  ['ok', 5.4, 6.2],
  ['warn', 6.0, 7.7],
  ['danger', 6.3, 5.3],
  ['control', 3.6, 3.3],
  ['focus', 5.2, 7.6],
  ['high-edge', 8.7, 5.3],
  ['medium-edge', 5.1, 8.1],
  ['low-edge', 4.8, 7.2],
  ['technical-edge', 4.6, 4.2],
];
const ON_FILL: [token: string, fill: string, light: number, night: number][] = [
  ['high-text', 'high-fill', 6.9, 4.9],
  ['medium-text', 'medium-fill', 12.1, 8.5],
  ['low-text', 'low-fill', 10.3, 5.0],
  ['technical-text', 'technical-fill', 13.2, 8.1],
  ['not-live-text', 'not-live-fill', 10.7, 8.5],
];

const palette = new Map(
  [...css.matchAll(/--([\w-]+): light-dark\((#[0-9A-F]{6}), (#[0-9A-F]{6})\)/g)].map(([, name, light, night]) => [name, { light, night }]),
);

function colour(name: string, mode: 'light' | 'night'): string {
  const found = palette.get(name)?.[mode];
  if (!found) throw new Error(`tokens.css has no --${name}`);
  return found;
}

/** WCAG 2.2, relative luminance. */
function luminance(hex: string): number {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => {
    const part = parseInt(hex.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function ratio(a: string, b: string): number {
  const [dark = 0, bright = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (bright + 0.05) / (dark + 0.05);
}

function worst(token: string, mode: 'light' | 'night'): number {
  return Math.min(...BACKGROUNDS.map((background) => ratio(colour(token, mode), colour(background, mode))));
}

/** The table names one decimal, rounded or cut. */
function promised(actual: number, promise: number): void {
  expect(actual).toBeGreaterThan(promise - 0.051);
  expect(actual).toBeLessThan(promise + 0.1);
}

test.each(ON_BACKGROUNDS)('%s', (token, light, night) => {
  promised(worst(token, 'light'), light);
  promised(worst(token, 'night'), night);
});

test.each(ON_FILL)('%s on %s', (token, fill, light, night) => {
  promised(ratio(colour(token, 'light'), colour(fill, 'light')), light);
  promised(ratio(colour(token, 'night'), colour(fill, 'night')), night);
});

test('whatever a person must read has 4.5, whatever they must find has 3', () => {
  for (const mode of ['light', 'night'] as const) {
    for (const [token] of ON_BACKGROUNDS) expect(worst(token, mode), token).toBeGreaterThanOrEqual(/edge|control|focus/.test(token) ? 3 : 4.5);
    for (const [token, fill] of ON_FILL) expect(ratio(colour(token, mode), colour(fill, mode)), token).toBeGreaterThanOrEqual(4.5);
  }
});
