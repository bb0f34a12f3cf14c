import type { Alert, Priority } from '../api/types';

/** How many rows must move to get from one order to the other: all but the longest run that is already right. */
export function displaced(shown: readonly string[], wanted: readonly string[]): number {
  const place = new Map(wanted.map((id, index) => [id, index]));
  const tails: number[] = [];
  let strangers = 0;
  for (const id of shown) {
    const index = place.get(id);
    if (index === undefined) {
      strangers += 1;
      continue;
    }
    let low = 0;
    let high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((tails[middle] ?? 0) < index) low = middle + 1;
      else high = middle;
    }
    tails[low] = index;
  }
  return strangers + wanted.length - tails.length;
}

/** What a frozen list shows: every row where it was, and what is new after the last. */
export function frozenOrder(shown: readonly string[], wanted: readonly string[]): readonly string[] {
  const known = new Set(shown);
  const fresh = wanted.filter((id) => !known.has(id));
  return fresh.length === 0 ? shown : [...shown, ...fresh];
}

const URGENCY: Record<Priority, number> = { high: 0, medium: 1, low: 2 };

/** Still waiting for somebody. A test pages nobody, and what was withdrawn needs no answer. */
export function unacknowledged(alert: Alert): boolean {
  return alert.acknowledged === null && alert.state !== 'withdrawn' && !alert.test;
}

/** What shows on every screen, and sounds, until somebody has it. */
export function alarming(alert: Alert): boolean {
  return alert.priority === 'high' && !alert.technical && unacknowledged(alert);
}

/** Unacknowledged first, then by priority; technical after clinical; the longest waiting first. */
export function compareAlerts(a: Alert, b: Alert): number {
  return (
    Number(unacknowledged(b)) - Number(unacknowledged(a)) ||
    Number(a.technical) - Number(b.technical) ||
    URGENCY[a.priority] - URGENCY[b.priority] ||
    a.since.localeCompare(b.since) ||
    a.id.localeCompare(b.id)
  );
}

export interface Need {
  name: string;
  silent: boolean;
  /** The patient's alerts that are open or wait for somebody, in the order of `compareAlerts`. */
  alerts: readonly Alert[];
}

/** Unacknowledged high, medium; silent; unacknowledged low; acknowledged; the rest. */
export function rank({ alerts, silent }: Need): number {
  const first = alerts.find((alert) => !alert.test);
  const waiting = first !== undefined && unacknowledged(first) && !first.technical ? first.priority : null;
  if (waiting === 'high') return 0;
  if (waiting === 'medium') return 1;
  if (silent) return 2;
  if (first !== undefined && unacknowledged(first)) return 3;
  return first === undefined ? 5 : 4;
}

export function compareNeeds(a: Need, b: Need): number {
  return rank(a) - rank(b) || compareNames(a.name, b.name);
}

const collator = new Intl.Collator('en', { sensitivity: 'base', numeric: true });

export function compareNames(a: string, b: string): number {
  return collator.compare(a, b);
}
