import { api, Problem } from '../api/http';
import type { Alert, Snapshot, StreamEvent } from '../api/types';
import { announceAlert, announceStatus } from './announce.svelte';
import { ServerClock } from './clock';
import { liveness, type Liveness } from './liveness';
import { alarming } from './order';
import { ring, soundWhile } from './sound.svelte';
import { Store } from './store.svelte';
import { Stream } from './stream';
import { m } from '../messages/en';

/** A wall clock that ran this much further than the monotonic one: the computer slept. */
const SLEPT_MS = 3_000;
const SKEW_MS = 60_000;
const SELDOM_MS = 15_000;

/** The page's one connection to now: the store, the server's time, and whether either may be believed. */
class Live {
  readonly store = new Store();
  /** The server's time, once a second; null until the server named one. */
  now = $state<number | null>(null);
  /** The same for what is out of sight, less often: a thousand patients must not cost a tick each second. */
  seldom = $state<number | null>(null);
  liveness = $state.raw<Liveness>({ kind: 'connecting' });
  /** Whether a request may be promised to reach the server; where it may not, nothing is offered. */
  canAct = $state(false);
  /** When everything shown is only as of then; otherwise null. */
  asOf = $state<number | null>(null);
  /** Up to when the alerts shown are all there were: while nothing is evaluated, the last proof that it was. Null: not known. */
  readonly alertsAsOf = $derived.by(() => {
    if (this.liveness.kind === 'stopped') return this.liveness.atLeast ? null : this.liveness.since;
    return this.asOf ?? this.now;
  });
  /** How far this computer's clock is from the server's, when that is worth saying. */
  skewMs = $state(0);
  /** The server runs another build than it did when this page was loaded. */
  outdated = $state(false);

  readonly #clock = new ServerClock();
  readonly #stream: Stream;
  #queue: StreamEvent[] = [];
  #frame = 0;
  #startedAt = performance.now();
  #beatAt: number | null = null;
  #streamSince: number | null = null;
  #woken = false;
  #build: string | null = null;
  #wallAhead = Date.now() - performance.now();
  #whenSignedOut: () => void = () => {};

  constructor() {
    this.#stream = new Stream({
      heard: (event, firstHand) => this.#heard(event, firstHand),
      state: (seq) => this.#state(seq),
      refused: () => void this.#askSession(),
      signedOut: () => this.#whenSignedOut(),
    });
    const watchdog = new Worker(new URL('./watchdog.worker.ts', import.meta.url), { type: 'module' });
    watchdog.onmessage = () => this.#tick();
    addEventListener('pageshow', ({ persisted }) => persisted && this.#wake());
    document.addEventListener('resume', () => this.#wake());
  }

  start(whenSignedOut: () => void): void {
    this.#whenSignedOut = whenSignedOut;
    this.#startedAt = performance.now();
    this.#stream.start();
  }

  stop(): void {
    this.#stream.stop();
    this.#forget();
  }

  signOut(): void {
    this.#stream.signOut();
    this.#forget();
  }

  /** An answer of the server outside the stream says the same as the stream will. */
  putAlert(alert: Alert): void {
    this.#flush();
    this.store.putAlerts([alert]);
  }

  #heard(event: StreamEvent, firstHand: boolean): void {
    if (event.type === 'snapshot' && this.#streamSince === null) this.#streamSince = Date.parse(event.data.server_time);
    this.#clock.hear(Date.parse(event.data.server_time));
    // Everything on the page ages by the tick; between two ticks only a first or a returning stream is news.
    if (this.now === null || !this.canAct) this.#advance();
    if (event.type !== 'delta' && firstHand) {
      this.#beatAt = performance.now();
      this.#woken = false;
      this.#noteServer(event.data.build, Date.parse(event.data.server_time));
    }
    this.#queue.push(event);
    this.#frame ||= requestAnimationFrame(() => this.#flush());
    this.#judge();
  }

  #noteServer(build: string, serverTime: number): void {
    this.#build ??= build;
    this.outdated = this.#build !== build;
    const skew = Date.now() - serverTime;
    this.skewMs = Math.abs(skew) > SKEW_MS ? skew : 0;
  }

  /** Applies what came since the last frame, all of it at once. */
  #flush(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const events = this.#queue;
    this.#queue = [];
    for (const event of events) {
      if (event.type === 'snapshot') this.store.snapshot(event.data);
      if (event.type === 'beat') this.store.beat = event.data;
      if (event.type === 'delta') {
        this.#announce(event.data.alerts);
        this.store.delta(event.data);
      }
    }
    if (events.length > 0) this.#judge();
  }

  #announce(alerts: readonly Alert[]): void {
    for (const alert of alerts) {
      if (alarming(alert) && !this.store.alerts.has(alert.id)) {
        ring();
        announceAlert(m.newHigh(m.patientName(alert.patient.name), alert.summary));
      }
    }
  }

  #tick(): void {
    const wallAhead = Date.now() - performance.now();
    if (wallAhead - this.#wallAhead > SLEPT_MS) this.#wake();
    this.#wallAhead = wallAhead;
    // A hidden page draws no frames.
    if (document.visibilityState === 'hidden') this.#flush();
    this.#advance();
    this.#judge();
    soundWhile(this.canAct && [...this.store.alerts.values()].some(alarming));
    this.#stream.tick();
  }

  #advance(): void {
    this.now = this.#clock.now;
    if (this.now === null) return;
    if (this.seldom === null || Math.abs(this.now - this.seldom) >= SELDOM_MS) this.seldom = this.now;
  }

  /** The monotonic clock may have slept with the page: nothing is known until the server speaks. */
  #wake(): void {
    this.#woken = true;
    this.#wallAhead = Date.now() - performance.now();
    this.#judge();
  }

  #judge(): void {
    const { beat } = this.store;
    const before = this.liveness.kind;
    const judged = liveness({
      now: performance.now(),
      startedAt: this.#startedAt,
      beatAt: this.#beatAt,
      asOf: this.#clock.lastHeard,
      serverNow: this.#clock.now,
      streamSince: this.#streamSince,
      canaryAt: beat?.canary_at ? Date.parse(beat.canary_at) : null,
      lagMs: beat?.follower_lag_ms ?? 0,
      woken: this.#woken,
    });
    // Thousands of values look at these: they are touched only when they change.
    if (JSON.stringify(judged) !== JSON.stringify(this.liveness)) this.liveness = judged;
    const after = judged.kind;
    this.canAct = after !== 'not-live' && after !== 'connecting';
    this.asOf = this.canAct ? null : this.#clock.lastHeard;
    if (after === before || !this.store.filled) return;
    if (after === 'not-live' || after === 'stopped') {
      ring();
      announceAlert(after === 'stopped' ? m.stoppedSpoken : m.notLiveSpoken);
    } else if (before === 'not-live' || before === 'stopped') announceStatus(m.liveAgain);
  }

  #state(seq: number): Snapshot | null {
    this.#flush();
    const { beat, filled } = this.store;
    return beat && filled ? this.store.asSnapshot(seq, beat) : null;
  }

  async #askSession(): Promise<void> {
    try {
      await api('/session');
    } catch (problem) {
      if (problem instanceof Problem && problem.status === 401) this.#whenSignedOut();
    }
  }

  #forget(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#queue = [];
    this.store.clear();
    this.#beatAt = null;
    this.#streamSince = null;
    this.#judge();
  }
}

export const live = new Live();
