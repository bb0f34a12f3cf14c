/** What is read aloud: one polite region that speaks every ten seconds at most, and one for what cannot wait. */
const QUIET_MS = 10_000;

export const spoken = $state({ status: '', alert: '' });

let spokeAt = -QUIET_MS;
let waiting: ReturnType<typeof setTimeout> | null = null;
let next = '';

export function announceStatus(text: string): void {
  next = text;
  if (waiting !== null) return;
  const delay = Math.max(0, spokeAt + QUIET_MS - performance.now());
  waiting = setTimeout(() => {
    waiting = null;
    spokeAt = performance.now();
    spoken.status = next;
  }, delay);
}

export function announceAlert(text: string): void {
  spoken.alert = text;
}
