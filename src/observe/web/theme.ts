/** Light or dark: the system's choice until the reader makes one, which this browser then remembers. */
import { signal } from '@preact/signals';

export type Theme = 'system' | 'light' | 'dark';

const STORED_AS = 'tabulum.theme';
const NEXT: Readonly<Record<Theme, Theme>> = { system: 'light', light: 'dark', dark: 'system' };

export const theme = signal<Theme>(readTheme());

function readTheme(): Theme {
  try {
    const stored = localStorage.getItem(STORED_AS);
    return stored === 'light' || stored === 'dark' ? stored : 'system';
  } catch {
    return 'system'; // storage is forbidden: the choice lasts as long as the page
  }
}

export function setTheme(next: Theme): void {
  theme.value = next;
  applyTheme();
  try {
    localStorage.setItem(STORED_AS, next);
  } catch {
    // As above.
  }
}

export function cycleTheme(): void {
  setTheme(NEXT[theme.peek()]);
}

/** Puts the choice on the document, where the style sheet looks for it. */
export function applyTheme(): void {
  const { documentElement } = document;
  if (theme.peek() === 'system') documentElement.removeAttribute('data-theme');
  else documentElement.setAttribute('data-theme', theme.peek());
}
