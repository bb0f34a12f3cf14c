import { describe, expect, test } from 'vitest';
import { compareNeeds, displaced, frozenOrder, rank, unacknowledged } from '../src/live/order';
import { acknowledged, alert } from './build';

const need = (name: string, alerts = [] as ReturnType<typeof alert>[], silent = false) => ({ name, alerts, silent });

describe('order', () => {
  test('unacknowledged high, medium; silent; low; acknowledged; the rest by name', () => {
    const wanted = [
      need('zoe', [alert('1', 'zoe')]),
      need('yan', [alert('2', 'yan', { priority: 'medium' })]),
      need('xia', [], true),
      need('wim', [alert('3', 'wim', { priority: 'low' })]),
      need('ada', [alert('4', 'ada', { acknowledged })]),
      need('abe'),
      need('bea'),
    ];
    expect([...wanted].reverse().sort(compareNeeds).map(({ name }) => name)).toEqual(wanted.map(({ name }) => name));
  });

  test('a test pages nobody and moves nobody up', () => {
    expect(rank(need('a', [alert('1', 'a', { test: true })]))).toBe(rank(need('b')));
    expect(unacknowledged(alert('1', 'a', { test: true }))).toBe(false);
  });

  test('what cleared before anybody saw it still waits for somebody; what was withdrawn does not', () => {
    expect(unacknowledged(alert('1', 'a', { state: 'cleared' }))).toBe(true);
    expect(unacknowledged(alert('1', 'a', { state: 'withdrawn' }))).toBe(false);
  });
});

describe('frozen', () => {
  test('no row leaves its place, and who is new comes after the last', () => {
    expect(frozenOrder(['a', 'b', 'c'], ['d', 'c', 'a'])).toEqual(['a', 'b', 'c', 'd']);
  });

  test('the very same list when nobody is new', () => {
    const shown = ['a', 'b'];
    expect(frozenOrder(shown, ['b', 'a'])).toBe(shown);
  });

  test.each([
    ['abcd', 'abcd', 0],
    ['abcd', 'dabc', 1],
    ['abcd', 'badc', 2],
    ['abcd', 'dcba', 3],
    // One that no longer belongs, one that came.
    ['abcd', 'abd', 1],
    ['abcd', 'abcde', 1],
  ])('from %s to %s, %i must move', (shown, wanted, moves) => expect(displaced([...shown], [...wanted])).toBe(moves));
});
