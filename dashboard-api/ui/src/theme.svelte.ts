import { keep, kept } from './preferences';

export type Theme = 'system' | 'light' | 'night';

export const THEMES: readonly Theme[] = ['system', 'light', 'night'];

const start = kept('theme');
export const theme = $state<{ is: Theme }>({ is: start === 'light' || start === 'night' ? start : 'system' });

export function showTheme(): void {
  if (theme.is === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.is;
}

export function setTheme(to: Theme): void {
  theme.is = to;
  keep('theme', to);
  showTheme();
}
