const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const NBSP = '\u00a0';

/** A span in two units at most, as the server writes it: `2 h 10 min`, `4 min`, `12 s`. */
export function elapsed(ms: number): string {
  const sign = ms < 0 ? '−' : '';
  const span = Math.abs(ms);
  const days = Math.floor(span / DAY);
  const hours = Math.floor(span / HOUR) % 24;
  const minutes = Math.floor(span / MINUTE) % 60;
  if (days > 0) return sign + two(days, 'd', hours, 'h');
  if (hours > 0) return sign + two(hours, 'h', minutes, 'min');
  if (minutes > 0) return sign + one(minutes, 'min');
  return sign + one(Math.floor(span / SECOND), 's');
}

/** The age of a value. Under a minute is `now`: seconds would only make the list flicker. */
export function age(ms: number): string {
  return ms < MINUTE ? 'now' : elapsed(ms);
}

function one(count: number, unit: string): string {
  return `${count}${NBSP}${unit}`;
}

function two(count: number, unit: string, rest: number, small: string): string {
  return rest === 0 ? one(count, unit) : `${one(count, unit)} ${one(rest, small)}`;
}
