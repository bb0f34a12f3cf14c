import { expect, test } from 'vitest';
import { age, elapsed } from '../src/time/elapsed';

const S = 1000;
const MIN = 60 * S;
const H = 60 * MIN;
const plain = (text: string) => text.replaceAll('\u00a0', ' ');

test.each([
  [0, '0 s'],
  [999, '0 s'],
  [12 * S, '12 s'],
  [MIN - 1, '59 s'],
  [4 * MIN, '4 min'],
  [4 * MIN + 59 * S, '4 min'],
  [2 * H, '2 h'],
  [2 * H + 10 * MIN, '2 h 10 min'],
  [24 * H - 1, '23 h 59 min'],
  [24 * H, '1 d'],
  [75 * H + 59 * MIN, '3 d 3 h'],
  [-2 * H, '−2 h'],
])('%i ms is %s', (ms, words) => expect(plain(elapsed(ms))).toBe(words));

test.each([
  [-5 * S, 'now'],
  [59_999, 'now'],
  [MIN, '1 min'],
])('an age of %i ms is %s', (ms, words) => expect(plain(age(ms))).toBe(words));

test('a number never parts from its unit at the end of a line', () => {
  expect(elapsed(2 * H + 10 * MIN)).toBe('2\u00a0h 10\u00a0min');
});
