import { displaced, frozenOrder } from './order';

/** Without a pointer that hovers, a finger on its way to a row cannot be seen: then only a person reorders. */
const touchOnly = matchMedia('(hover: none)');

/** A list that holds still while somebody is on it, and says how many rows wait for their new place. */
export class Ordered {
  focused = $state(false);
  pointed = $state(false);
  scrolled = $state(false);
  /** Somebody works on one of its rows elsewhere. */
  held = $state(false);
  #touch = $state(touchOnly.matches);
  #shown = $state.raw<readonly string[]>([]);
  readonly #wanted: () => readonly string[];
  #key = '';

  readonly frozen = $derived.by(() => this.focused || this.pointed || this.scrolled || this.held || this.#touch);
  readonly ids = $derived.by(() => frozenOrder(this.#shown, this.#wanted()));
  readonly pending = $derived.by(() => (this.ids === this.#wanted() ? 0 : displaced(this.ids, this.#wanted())));

  /** `key` names what the reader asked for (filter, sort, search): when it changes, the list follows at once. */
  constructor(wanted: () => readonly string[], key: () => string) {
    this.#wanted = wanted;
    touchOnly.addEventListener('change', () => (this.#touch = touchOnly.matches));
    $effect.pre(() => {
      const asked = key();
      const order = wanted();
      if (this.frozen && asked === this.#key && this.#shown.length > 0) return;
      this.#key = asked;
      this.#shown = order;
    });
  }

  reorder(): void {
    this.#shown = this.#wanted();
  }
}
