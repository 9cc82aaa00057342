/** Frame of the page: navigation, state of the stream, theme, help, and the place where the view stands. */
import type { ComponentType, JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { ConnectionBanner, ConnectionDot } from './connection.js';
import { Icon, Mark } from './icons.js';
import { lazyView } from './lazy-view.js';
import { href, route, VIEWS, type ViewName } from './router.js';
import { HelpDialog, helpIsOpen, useShortcuts } from './shortcuts.js';
import { cycleTheme, theme } from './theme.js';
import { AgentsView } from './views/agents.js';
import { EventsView } from './views/events.js';
import { OverviewView } from './views/overview.js';
import { StateView } from './views/state.js';
import { TransparencyView } from './views/transparency.js';

const TITLES: Readonly<Record<ViewName, string>> = {
  overview: 'Overview',
  events: 'Events',
  state: 'State',
  network: 'Network',
  agents: 'Agents',
  timeline: 'Timeline',
  transparency: 'Transparency',
};

const VIEW_OF: Readonly<Record<ViewName, ComponentType>> = {
  overview: OverviewView,
  events: EventsView,
  state: StateView,
  network: lazyView(async () => (await import('./views/network.js')).NetworkView),
  agents: AgentsView,
  timeline: lazyView(async () => (await import('./views/timeline.js')).TimelineView),
  transparency: TransparencyView,
};

const THEME_NAME = { system: 'follows the system', light: 'light', dark: 'dark' } as const;
const THEME_ICON = { system: 'auto', light: 'sun', dark: 'moon' } as const;

export function Shell(): JSX.Element {
  const { view } = route.value;
  const main = useRef<HTMLElement>(null);
  const nav = useRef<HTMLElement>(null);
  const shownBefore = useRef(view);
  useShortcuts();
  useEffect(() => {
    document.title = view === 'overview' ? 'Tabulum' : `${TITLES[view]} · Tabulum`;
    nav.current?.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
    if (shownBefore.current === view) return;
    shownBefore.current = view;
    main.current?.focus({ preventScroll: true }); // a new view is read from its beginning
  }, [view]);
  const View = VIEW_OF[view];
  return (
    <div class="shell">
      {/* biome-ignore lint/a11y/useValidAnchor: it goes within the page; the hash belongs to the views */}
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the content
      </a>
      <header class="bar">
        <a class="brand" href={href('overview')}>
          <Mark />
          <span>Tabulum</span>
        </a>
        <nav class="nav" aria-label="Views" ref={nav}>
          {VIEWS.map((name) => (
            <a key={name} href={href(name)} aria-current={name === view ? 'page' : undefined}>
              <Icon name={name} />
              <span>{TITLES[name]}</span>
            </a>
          ))}
        </nav>
        <div class="bar-end">
          <ConnectionDot />
          <button
            type="button"
            class="icon-button"
            onClick={cycleTheme}
            title={`Colours: ${THEME_NAME[theme.value]}`}
            aria-label={`Colours: ${THEME_NAME[theme.value]}. Change`}
          >
            <Icon name={THEME_ICON[theme.value]} />
          </button>
          <button
            type="button"
            class="icon-button"
            onClick={() => {
              helpIsOpen.value = true;
            }}
            title="Keyboard shortcuts (?)"
            aria-label="Keyboard shortcuts"
          >
            <Icon name="help" />
          </button>
        </div>
      </header>
      <div class="stage">
        <ConnectionBanner />
        <main id="main" class={`main main-${view}`} ref={main} tabIndex={-1}>
          <View key={view} />
        </main>
      </div>
      <HelpDialog />
    </div>
  );
}
