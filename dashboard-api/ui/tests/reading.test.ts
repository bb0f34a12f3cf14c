import { expect, test } from 'vitest';
import { ServerClock } from '../src/live/clock';
import { describe } from '../src/live/reading';
import { MIN, NOON, iso, reading } from './build';

test('a value goes stale by itself, with no event, when the monotonic clock passes stale_at', () => {
  let monotonic = 5_000;
  const clock = new ServerClock(() => monotonic);
  clock.hear(NOON);
  const value = reading();
  monotonic += 10 * MIN - 1;
  expect(describe(value, undefined, clock.now).condition).toBe('fresh');
  monotonic += 1;
  expect(describe(value, undefined, clock.now)).toMatchObject({ condition: 'stale', ageMs: 10 * MIN });
});

test('the wall clock of the browser changes no age', () => {
  const clock = new ServerClock(() => 0);
  clock.hear(NOON);
  const before = Date.now;
  Date.now = () => NOON + 3 * 60 * MIN;
  try {
    expect(describe(reading({ observed_at: iso(NOON - 2 * MIN) }), undefined, clock.now).ageMs).toBe(2 * MIN);
  } finally {
    Date.now = before;
  }
});

test('silence outweighs staleness', () => {
  const value = reading({ silent_at: iso(NOON + 30 * MIN) });
  expect(describe(value, undefined, NOON + 29 * MIN).condition).toBe('stale');
  expect(describe(value, undefined, NOON + 30 * MIN).condition).toBe('silent');
});

test('a pair is as old, and as stale, as its older half', () => {
  const systolic = reading({ metric: 'systolic_pressure', text: '98', unit: 'mmHg' });
  const diastolic = reading({ metric: 'diastolic_pressure', text: '61', unit: 'mmHg', observed_at: iso(NOON - 20 * MIN), stale_at: iso(NOON - 10 * MIN) });
  expect(describe(systolic, diastolic, NOON)).toMatchObject({ text: '98/61', ageMs: 20 * MIN, condition: 'stale' });
});

test('a true zero is a value', () => {
  expect(describe(reading({ metric: 'steps', value: 0, text: '0', unit: 'steps' }), undefined, NOON).text).toBe('0');
  expect(describe(reading({ metric: 'consciousness', value: 0, text: '0', unit: 'ACVPU' }), undefined, NOON).text).toBe('Alert');
});

test('without the server’s time no age is claimed', () => expect(describe(reading(), undefined, null).ageMs).toBeNull());

test('every oddity has its mark', () => {
  const flags = { late: true, late_by_s: 2520, clock: 'corrected', clock_shift_s: -7200, typed: true, test: true } as const;
  expect(describe(reading({ flags }), undefined, NOON).marks).toEqual([
    { kind: 'late', by: 42 * MIN },
    { kind: 'clock', shift: -120 * MIN },
    { kind: 'typed' },
    { kind: 'test' },
  ]);
});
