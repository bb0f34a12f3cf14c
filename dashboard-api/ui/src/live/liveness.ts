/** What the page may claim about what it shows. Pure: the times are arguments. */
export const DEAF_AFTER_MS = 6_000;
export const CANARY_AFTER_MS = 150_000;
export const LAG_AFTER_MS = 5_000;

export type Liveness =
  | { kind: 'connecting' }
  /** Nothing was heard for too long; what is shown is as of then. */
  | { kind: 'not-live'; asOf: number | null }
  /** The stream lives and the engine does not: nobody is watching the rules. */
  | { kind: 'stopped'; since: number; atLeast: boolean }
  | { kind: 'behind'; seconds: number }
  | { kind: 'live'; seconds: number };

export interface Heard {
  /** Monotonic. */
  now: number;
  startedAt: number;
  /** When the last beat came, monotonic; null when none did since the page started or woke up. */
  beatAt: number | null;
  /** The last time that the server named. */
  asOf: number | null;
  /** The server's time now, carried on. */
  serverNow: number | null;
  /** The server's time when this page first heard the stream. */
  streamSince: number | null;
  canaryAt: number | null;
  lagMs: number;
  /** Whether the page was asleep and has heard nothing since. */
  woken: boolean;
}

export function liveness(heard: Heard): Liveness {
  if (heard.woken) return { kind: 'not-live', asOf: heard.asOf };
  if (heard.beatAt === null || heard.serverNow === null) {
    return heard.now - heard.startedAt < DEAF_AFTER_MS ? { kind: 'connecting' } : { kind: 'not-live', asOf: heard.asOf };
  }
  const silence = heard.now - heard.beatAt;
  // A tick comes once a second: from the fifth on, the next would be too late.
  if (silence >= DEAF_AFTER_MS - 1_000) return { kind: 'not-live', asOf: heard.asOf };
  const canary = heard.canaryAt ?? heard.streamSince ?? heard.serverNow;
  if (heard.serverNow - canary > CANARY_AFTER_MS) return { kind: 'stopped', since: canary, atLeast: heard.canaryAt === null };
  if (heard.lagMs > LAG_AFTER_MS) return { kind: 'behind', seconds: Math.round(heard.lagMs / 1000) };
  return { kind: 'live', seconds: Math.max(0, Math.floor(silence / 1000)) };
}
