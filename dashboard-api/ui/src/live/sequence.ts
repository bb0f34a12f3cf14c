import type { StreamEvent } from '../api/types';

/** Follows the numbers of one stream. A hole means that something was missed, and then only a snapshot helps. */
export class Sequence {
  #last: number | null = null;

  take(event: StreamEvent): 'apply' | 'ignore' | 'gap' {
    if (event.type === 'snapshot') {
      this.#last = event.data.seq;
      return 'apply';
    }
    if (this.#last === null) return 'ignore';
    const expected = event.type === 'delta' ? this.#last + 1 : this.#last;
    if (event.data.seq !== expected) {
      this.#last = null;
      return 'gap';
    }
    this.#last = event.data.seq;
    return 'apply';
  }
}
