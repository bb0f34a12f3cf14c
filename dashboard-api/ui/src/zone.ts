import { session, wards } from './session.svelte';
import { knownZone } from './time/zoned';

/** The zone of a ward, or of all wards when they share one; otherwise UTC, which the header says. */
export function zoneOf(ward: string | null): string {
  const zones = new Set(
    wards()
      .filter(({ id }) => ward === null || id === ward)
      .map(({ timezone }) => timezone),
  );
  const [only] = zones;
  return zones.size === 1 && only && session.is === 'in' ? knownZone(only) : 'UTC';
}
