import { expect, test } from 'vitest';
import { birthday, clockSeconds, dateTime, knownZone, moment, yearsSince } from '../src/time/zoned';

const at = (text: string) => Date.parse(text);

test.each([
  ['2026-07-14T01:12:07Z', 'Europe/Berlin', '14-Jul-2026 03:12'],
  ['2026-09-01T23:05:00Z', 'Europe/Lisbon', '02-Sep-2026 00:05'],
  ['2026-01-01T00:00:00Z', 'UTC', '01-Jan-2026 00:00'],
  // The clocks of Lisbon show 01:30 twice.
  ['2026-10-25T00:30:00Z', 'Europe/Lisbon', '25-Oct-2026 01:30 +01:00'],
  ['2026-10-25T01:30:00Z', 'Europe/Lisbon', '25-Oct-2026 01:30 +00:00'],
  ['2026-10-25T02:30:00Z', 'Europe/Lisbon', '25-Oct-2026 02:30'],
  // Lord Howe turns back by half an hour.
  ['2026-04-04T14:45:00Z', 'Australia/Lord_Howe', '05-Apr-2026 01:45 +11:00'],
])('%s in %s is %s', (time, zone, words) => expect(dateTime(at(time), zone)).toBe(words));

test('a moment of the ward’s today has no date, even when UTC says another day', () => {
  const now = at('2026-07-14T22:30:00Z');
  expect(moment(at('2026-07-14T22:10:00Z'), 'Europe/Berlin', now)).toBe('00:10');
  expect(moment(at('2026-07-14T21:50:00Z'), 'Europe/Berlin', now)).toBe('14-Jul-2026 23:50');
});

test('seconds are told in the ward’s zone', () => expect(clockSeconds(at('2026-07-14T01:12:07Z'), 'Europe/Berlin')).toBe('03:12:07'));

test('a birthday has no zone', () => expect(birthday('1945-07-14')).toBe('14-Jul-1945'));

test.each([
  ['2026-07-13T21:59:00Z', 80],
  ['2026-07-13T22:01:00Z', 81],
])('at %s somebody born on 14-Jul-1945 is %i', (now, years) => expect(yearsSince('1945-07-14', at(now), 'Europe/Berlin')).toBe(years));

test('a zone that nobody knows does not break the page', () => expect(knownZone('Europe/Atlantis')).toBe('UTC'));
