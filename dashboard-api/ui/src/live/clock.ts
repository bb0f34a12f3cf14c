/** The server's time, carried on by a monotonic clock. The browser's own wall clock is never asked. */
export class ServerClock {
  #server: number | null = null;
  #at = 0;

  constructor(private readonly monotonic: () => number = () => performance.now()) {}

  hear(serverMs: number): void {
    this.#server = serverMs;
    this.#at = this.monotonic();
  }

  /** The last time the server itself named. */
  get lastHeard(): number | null {
    return this.#server;
  }

  get now(): number | null {
    return this.#server === null ? null : this.#server + this.monotonic() - this.#at;
  }
}
