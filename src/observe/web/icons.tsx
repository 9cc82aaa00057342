/** Line icons of one weight, drawn here so that nothing is fetched. Decoration only: names stand beside them. */
import type { JSX } from 'preact';
import type { ViewName } from './router.js';

const PATHS: Readonly<Record<ViewName | 'sun' | 'moon' | 'auto' | 'help' | 'pause' | 'play' | 'close', string>> = {
  overview: 'M3 13h4v4H3zM8 8h4v9H8zM13 3h4v14h-4z',
  events: 'M3 5h14M3 10h14M3 15h9',
  state: 'M4 4h5v4H4zM11 12h5v4h-5zM6.5 8v6H11',
  network:
    'M5 6.5 14 5M5.5 7.5l4 6M14.5 6.5l-4 7M5 6.5a1.5 1.5 0 1 1-.01 0M15 5.5a1.5 1.5 0 1 1-.01 0M10 15.5a1.5 1.5 0 1 1-.01 0',
  agents: 'M10 9a3 3 0 1 0-.01 0M4 17c.6-3.4 3-5 6-5s5.4 1.6 6 5',
  timeline: 'M10 3a7 7 0 1 0 .01 0M10 6v4.5l3 1.7',
  transparency: 'M5 3h7l3 3v11H5zM8 9h5M8 12h5',
  sun: 'M10 7a3 3 0 1 0 .01 0M10 2v2M10 16v2M2 10h2M16 10h2M4.5 4.5l1.4 1.4M14.1 14.1l1.4 1.4M15.5 4.5l-1.4 1.4M5.9 14.1l-1.4 1.4',
  moon: 'M16 11.5A6.5 6.5 0 1 1 8.5 4a5 5 0 0 0 7.5 7.5z',
  auto: 'M10 3a7 7 0 1 0 .01 0M10 3v14',
  help: 'M7.5 7.5a2.5 2.5 0 1 1 3.7 2.2c-.8.4-1.2.9-1.2 1.8M10 14.6v.2',
  pause: 'M7 4.5v11M13 4.5v11',
  play: 'M6.5 4.5v11l9-5.5z',
  close: 'M5 5l10 10M15 5 5 15',
};

export function Icon({ name }: { readonly name: keyof typeof PATHS }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 20 20" width="18" height="18" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="7" class="mark-ground" />
      <path d="M9 10h14M16 10v13" class="mark-lines" />
      <circle cx="9" cy="10" r="2.6" class="mark-node" />
      <circle cx="23" cy="10" r="2.6" class="mark-node" />
      <circle cx="16" cy="23" r="2.6" class="mark-foot" />
    </svg>
  );
}
