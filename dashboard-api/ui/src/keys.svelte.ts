import { onDestroy } from 'svelte';
import { keep, kept } from './preferences';

/** Single keys, only while the list or panel has focus, and never while somebody types. */
export type Keys = Record<string, () => void>;

/** These are no characters: they work even when shortcuts are off. */
const ALWAYS = new Set(['Escape', 'ArrowDown', 'ArrowUp']);
const PREFIX_MS = 1_500;

export const shortcuts = $state({ on: kept('shortcuts') !== 'off' });

export function switchShortcuts(on: boolean): void {
  shortcuts.on = on;
  keep('shortcuts', on ? 'on' : 'off');
}

const maps: Keys[] = [];
let prefixed = -PREFIX_MS;

/** Adds keys for as long as the component lives; the newest wins. */
export function useKeys(keys: Keys): void {
  maps.push(keys);
  onDestroy(() => maps.splice(maps.indexOf(keys), 1));
}

export function onkeydown(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target instanceof Element && event.target.matches('input:not([type=checkbox]), textarea, select');
  if (!ALWAYS.has(event.key) && (typing || !shortcuts.on)) return;
  if (typing && event.key !== 'Escape') return;
  if (event.key === 'g') {
    prefixed = performance.now();
    return;
  }
  const name = performance.now() - prefixed < PREFIX_MS ? `g ${event.key}` : event.key;
  prefixed = -PREFIX_MS;
  const act = maps.findLast((keys) => name in keys)?.[name];
  if (!act) return;
  event.preventDefault();
  act();
}
