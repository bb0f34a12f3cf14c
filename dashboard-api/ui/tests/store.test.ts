import { expect, test } from 'vitest';
import { Sequence } from '../src/live/sequence';
import { Store } from '../src/live/store.svelte';
import { acknowledged, alert, beat, delta, patientDelta, reading, row, snapshot } from './build';

function filled(...args: Parameters<typeof snapshot>): Store {
  const store = new Store();
  store.snapshot(snapshot(...args));
  return store;
}

test('a delta changes what it names and leaves the rest', () => {
  const store = filled([row('a', { values: { spo2: reading(), heart_rate: reading({ metric: 'heart_rate', text: '70' }) } }), row('b')]);
  const [a, b] = [store.patients.get('a'), store.patients.get('b')];
  const untouched = b?.values.get('spo2');
  store.delta(delta(1, { patients: [patientDelta('a', { values: { spo2: reading({ text: '84' }) }, heard_at: '2026-07-14T12:01:00Z', silent: true })] }));
  expect(store.patients.get('a')).toBe(a);
  expect(a?.values.get('spo2')?.text).toBe('84');
  expect(a?.values.get('heart_rate')?.text).toBe('70');
  expect(a).toMatchObject({ name: 'A', heardAt: '2026-07-14T12:01:00Z', silent: true });
  expect(b?.values.get('spo2')).toBe(untouched);
});

test('a value that was voided is gone, not zero', () => {
  const store = filled([row('a')]);
  store.delta(delta(1, { patients: [patientDelta('a', { values: { spo2: null } })] }));
  expect(store.patients.get('a')?.values.has('spo2')).toBe(false);
});

test('a snapshot keeps the rows, takes away values that are no longer, and marks who is gone', () => {
  const store = filled([row('a', { values: { spo2: reading(), weight: reading({ metric: 'weight' }) } }), row('b')]);
  const a = store.patients.get('a');
  store.snapshot(snapshot([row('a')], [], 9));
  expect(store.patients.get('a')).toBe(a);
  expect([...(a?.values.keys() ?? [])]).toEqual(['spo2']);
  expect(store.patients.get('b')?.gone).toBe(true);
  store.forgetGone();
  expect(store.patients.has('b')).toBe(false);
});

test('a patient’s alerts: open or waiting, the most urgent first', () => {
  const store = filled([row('a')], [
    alert('done', 'a', { state: 'cleared', acknowledged }),
    alert('low', 'a', { priority: 'low' }),
    alert('high', 'a'),
    alert('brief', 'a', { priority: 'medium', state: 'cleared' }),
  ]);
  expect(store.patients.get('a')?.alerts.map(({ id }) => id)).toEqual(['high', 'brief', 'low']);
  store.putAlerts([alert('high', 'a', { acknowledged, version: 2 })]);
  expect(store.patients.get('a')?.alerts.map(({ id }) => id)).toEqual(['brief', 'low', 'high']);
});

test('an older version of an alert never wins', () => {
  const store = filled([row('a')], [alert('1', 'a', { version: 3, acknowledged })]);
  store.delta(delta(1, { alerts: [alert('1', 'a', { version: 2 })] }));
  expect(store.alerts.get('1')?.acknowledged).toEqual(acknowledged);
});

test('what a new tab is told equals what the server said', () => {
  const said = snapshot([row('a', { open_alerts: 1, worst: 'high' }), row('b')], [alert('1', 'a')], 4);
  const store = filled(said.patients, said.alerts, 4);
  const told = store.asSnapshot(4, beat(4));
  expect(told.patients).toEqual(said.patients);
  expect(told.alerts).toEqual(said.alerts);
  expect(told.seq).toBe(4);
  expect(() => structuredClone(told)).not.toThrow();
});

test('a hole in the numbers asks for a snapshot, and nothing is applied until it comes', () => {
  const sequence = new Sequence();
  const take = (seq: number) => sequence.take({ type: 'delta', data: delta(seq) });
  expect(take(1)).toBe('ignore');
  expect(sequence.take({ type: 'snapshot', data: snapshot([], [], 7) })).toBe('apply');
  expect(take(8)).toBe('apply');
  expect(sequence.take({ type: 'beat', data: beat(8) })).toBe('apply');
  expect(take(10)).toBe('gap');
  expect(take(11)).toBe('ignore');
  expect(sequence.take({ type: 'snapshot', data: snapshot([], [], 12) })).toBe('apply');
  expect(sequence.take({ type: 'beat', data: beat(13) })).toBe('gap');
});
