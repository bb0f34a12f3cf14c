import { Sequence } from './sequence';
import type { Snapshot, StreamEvent } from '../api/types';

/** A leader whose beats stop for this long asks the server anew. */
const REOPEN_AFTER_MS = 10_000;
/** A visible tab that hears nothing from its leader for this long takes its place. */
const STEAL_AFTER_MS = 8_000;
const RETRY_MS = 2_000;
const LOCK = 'vigil-stream';

type Message =
  | { kind: 'event'; event: StreamEvent }
  | { kind: 'hello'; from: string }
  | { kind: 'state'; to: string; snapshot: Snapshot }
  /** The leader lives, even though the server may not. */
  | { kind: 'trying' }
  | { kind: 'signed-out' };

export interface Listener {
  /** `firstHand`: the server says so now; otherwise a neighbouring tab told what it knew. */
  heard(event: StreamEvent, firstHand: boolean): void;
  /** What a new tab needs, or null before the first snapshot. */
  state(seq: number): Snapshot | null;
  /** The server closed the door on the stream: it is for the listener to find out whether the session ended. */
  refused(): void;
  signedOut(): void;
}

/**
 * One stream per browser. The tab that holds the lock is the leader: it alone has an `EventSource`, and tells the others what it
 * hears. Without locks (a page that did not come over TLS) every tab opens its own.
 */
export class Stream {
  readonly #me = crypto.getRandomValues(new Uint32Array(2)).join('-');
  readonly #channel = new BroadcastChannel('vigil-1');
  #sequence = new Sequence();
  #seq = 0;
  #source: EventSource | null = null;
  #release: (() => void) | null = null;
  #waiting: AbortController | null = null;
  #openedAt = 0;
  #wordAt = 0;
  #running = false;

  constructor(
    private readonly listener: Listener,
    private readonly monotonic: () => number = () => performance.now(),
  ) {
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => this.#told(data);
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#sequence = new Sequence();
    this.#wordAt = this.monotonic();
    if (!('locks' in navigator)) {
      this.#open();
      return;
    }
    this.#say({ kind: 'hello', from: this.#me });
    void this.#lead(false);
  }

  stop(): void {
    this.#running = false;
    this.#waiting?.abort();
    this.#release?.();
    this.#close();
  }

  /** Everybody in this browser leaves together. */
  signOut(): void {
    this.#say({ kind: 'signed-out' });
    this.stop();
  }

  /** Once a second, from the watchdog. */
  tick(): void {
    if (!this.#running) return;
    const now = this.monotonic();
    if (this.#release || !('locks' in navigator)) {
      this.#say({ kind: 'trying' });
      const patience = this.#source ? REOPEN_AFTER_MS : RETRY_MS;
      if (now - Math.max(this.#openedAt, this.#wordAt) > patience) this.#open();
    } else if (now - this.#wordAt > STEAL_AFTER_MS && document.visibilityState === 'visible') {
      this.#wordAt = now;
      void this.#lead(true);
    }
  }

  async #lead(steal: boolean): Promise<void> {
    this.#waiting?.abort();
    this.#waiting = steal ? null : new AbortController();
    const options: LockOptions = steal ? { steal } : { signal: this.#waiting?.signal };
    let led = false;
    try {
      await navigator.locks.request(LOCK, options, async () => {
        led = true;
        this.#waiting = null;
        this.#open();
        await new Promise<void>((release) => (this.#release = release));
      });
    } catch (stolen) {
      if (!(stolen instanceof DOMException && stolen.name === 'AbortError')) throw stolen;
    }
    if (!led) return;
    this.#release = null;
    this.#close();
    if (this.#running) {
      this.#wordAt = this.monotonic();
      void this.#lead(false);
    }
  }

  #open(): void {
    this.#close();
    this.#openedAt = this.monotonic();
    const source = new EventSource('/api/v1/events');
    this.#source = source;
    for (const type of ['snapshot', 'delta', 'beat'] as const) {
      source.addEventListener(type, ({ data }: MessageEvent<string>) => this.#heard({ type, data: JSON.parse(data) } as StreamEvent));
    }
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return;
      this.#close();
      this.listener.refused();
    };
  }

  #close(): void {
    this.#source?.close();
    this.#source = null;
  }

  #heard(event: StreamEvent): void {
    if (this.#take(event) === 'gap') {
      this.#open();
      return;
    }
    if ('locks' in navigator) this.#say({ kind: 'event', event });
  }

  #told(message: Message): void {
    if (message.kind === 'signed-out') {
      this.stop();
      this.listener.signedOut();
    }
    if (!this.#running) return;
    if (message.kind === 'hello' && this.#release) {
      const snapshot = this.listener.state(this.#seq);
      if (snapshot) this.#say({ kind: 'state', to: message.from, snapshot });
    }
    if (this.#release || !('locks' in navigator)) return;
    if (message.kind === 'trying') this.#wordAt = this.monotonic();
    if (message.kind === 'state' && message.to === this.#me) this.#take({ type: 'snapshot', data: message.snapshot }, false);
    if (message.kind === 'event' && this.#take(message.event) === 'gap') this.#say({ kind: 'hello', from: this.#me });
  }

  #take(event: StreamEvent, firstHand = true): 'apply' | 'ignore' | 'gap' {
    const verdict = this.#sequence.take(event);
    if (verdict === 'apply') {
      this.#seq = event.data.seq;
      if (event.type === 'beat') this.#wordAt = this.monotonic();
      this.listener.heard(event, firstHand);
    }
    return verdict;
  }

  #say(message: Message): void {
    this.#channel.postMessage(message);
  }
}
