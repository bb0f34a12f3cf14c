import { expect, test } from 'vitest';
import { liveness, type Heard } from '../src/live/liveness';
import { NOON } from './build';

function heard(change: Partial<Heard> = {}): Heard {
  return { now: 100_000, startedAt: 0, beatAt: 98_000, asOf: NOON, serverNow: NOON + 2_000, streamSince: NOON, canaryAt: NOON - 20_000, lagMs: 100, woken: false, ...change };
}

test.each<[string, Partial<Heard>, object]>([
  ['a beat 2 s ago', {}, { kind: 'live', seconds: 2 }],
  ['a beat 4.9 s ago', { beatAt: 95_100 }, { kind: 'live' }],
  ['no beat for so long that the next tick would be past 6 s', { beatAt: 95_000 }, { kind: 'not-live', asOf: NOON }],
  ['a page that just opened', { beatAt: null, serverNow: null, asOf: null, now: 3_000 }, { kind: 'connecting' }],
  ['a page that never heard anything', { beatAt: null, serverNow: null, asOf: null }, { kind: 'not-live', asOf: null }],
  ['a page that was asleep, whatever its monotonic clock says', { woken: true }, { kind: 'not-live', asOf: NOON }],
  ['a follower that lags', { lagMs: 40_200 }, { kind: 'behind', seconds: 40 }],
  ['a lag of just 5 s', { lagMs: 5_000 }, { kind: 'live' }],
  ['a canary of 150 s', { canaryAt: NOON + 2_000 - 150_000 }, { kind: 'live' }],
  ['a canary older than that', { canaryAt: NOON + 2_000 - 150_001 }, { kind: 'stopped', since: NOON + 2_000 - 150_001, atLeast: false }],
  ['no canary yet, the stream young', { canaryAt: null }, { kind: 'live' }],
  ['no canary, 150 s into the stream', { canaryAt: null, serverNow: NOON + 150_001 }, { kind: 'stopped', since: NOON, atLeast: true }],
  ['a dead engine and a dead stream', { canaryAt: NOON - 900_000, beatAt: 50_000 }, { kind: 'not-live' }],
])('%s', (_, change, state) => expect(liveness(heard(change))).toMatchObject(state));
