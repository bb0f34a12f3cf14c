import type { Flags, Reading } from '../api/types';

export type Condition = 'fresh' | 'stale' | 'silent';
export type Mark = { kind: 'late'; by: number | null } | { kind: 'clock'; shift: number | null } | { kind: 'unstamped' } | { kind: 'typed' } | { kind: 'test' };

export interface Described {
  text: string;
  unit: string;
  /** Null as long as the server's time is unknown: then no age can be said. */
  ageMs: number | null;
  condition: Condition;
  marks: Mark[];
  breach: Reading['breach'];
}

const ACVPU = ['Alert', 'Confusion', 'Voice', 'Pain', 'Unresponsive'];

/**
 * Says what a reading is worth at `now`, the server's time. It goes stale and silent by itself; no event is needed.
 * A pair (systolic, diastolic) is as old as its older half.
 */
export function describe(reading: Reading, second: Reading | undefined, now: number | null): Described {
  const both = second ? [reading, second] : [reading];
  const earliest = (times: string[]) => Math.min(...times.map(Date.parse));
  const silentTimes = both.map((one) => one.silent_at).filter((time) => time !== null);
  let condition: Condition = 'fresh';
  if (now !== null && now >= earliest(both.map((one) => one.stale_at))) condition = 'stale';
  if (now !== null && silentTimes.length > 0 && now >= earliest(silentTimes)) condition = 'silent';
  return {
    text: both.map(words).join('/'),
    unit: reading.metric === 'consciousness' ? '' : reading.unit,
    ageMs: now === null ? null : now - earliest(both.map((one) => one.observed_at)),
    condition,
    marks: mergeMarks(both.map((one) => marks(one.flags))),
    breach: reading.breach ?? second?.breach ?? null,
  };
}

export function words(reading: { metric: string; value: number; text: string }): string {
  return (reading.metric === 'consciousness' && ACVPU[reading.value]) || reading.text;
}

export function marks(flags: Flags): Mark[] {
  const found: Mark[] = [];
  if (flags.late) found.push({ kind: 'late', by: flags.late_by_s === null ? null : flags.late_by_s * 1000 });
  if (flags.clock === 'corrected') found.push({ kind: 'clock', shift: flags.clock_shift_s === null ? null : flags.clock_shift_s * 1000 });
  if (flags.clock === 'unstamped') found.push({ kind: 'unstamped' });
  if (flags.typed) found.push({ kind: 'typed' });
  if (flags.test) found.push({ kind: 'test' });
  return found;
}

function mergeMarks([first = [], second = []]: Mark[][]): Mark[] {
  return [...first, ...second.filter((mark) => !first.some(({ kind }) => kind === mark.kind))];
}
