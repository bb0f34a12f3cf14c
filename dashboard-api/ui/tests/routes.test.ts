import { expect, test } from 'vitest';
import { parse, paths } from '../src/routes';

test.each([
  ['/', { screen: 'wards', ward: null }],
  ['/wards/7%20north', { screen: 'wards', ward: '7 north' }],
  ['/patients/p1', { screen: 'patient', patient: 'p1' }],
  ['/patients', { screen: 'unknown' }],
  ['/alerts', { screen: 'alerts', alert: null }],
  ['/alerts/a1/x', { screen: 'unknown' }],
  ['/sign-in', { screen: 'sign-in' }],
  ['/wards/%E0%A4%A', { screen: 'wards', ward: '%E0%A4%A' }],
])('%s', (path, route) => expect(parse(path)).toEqual(route));

test('what is written is read again', () => {
  const odd = 'a/b?c#d é';
  expect(parse(paths.patient(odd))).toEqual({ screen: 'patient', patient: odd });
  expect(parse(paths.alert(odd))).toEqual({ screen: 'alerts', alert: odd });
});
