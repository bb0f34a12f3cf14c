/** How this browser likes the page. Nothing about a patient is ever kept. */
type Name = 'theme' | 'shortcuts' | 'sound';

export function kept(name: Name): string | null {
  try {
    return localStorage.getItem(`vigil.${name}`);
  } catch {
    return null;
  }
}

export function keep(name: Name, value: string): void {
  try {
    localStorage.setItem(`vigil.${name}`, value);
  } catch {
    // A browser that keeps nothing still works; it only forgets.
  }
}
