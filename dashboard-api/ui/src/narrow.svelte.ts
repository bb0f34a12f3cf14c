import { MediaQuery } from 'svelte/reactivity';

/** A phone: one thing at a time, the rail a bottom bar. */
export const narrow = new MediaQuery('max-width: 899px');

/** Too narrow for the ward's columns: rows become cards. */
export const cards = new MediaQuery('max-width: 1199px');
