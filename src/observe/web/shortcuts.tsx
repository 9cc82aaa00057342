/**
 * Keyboard shortcuts: `g` and a letter goes to a view, single keys act in the view that registered them, `?` lists all.
 * Never: takes a key from a field that is typed in, or one held with Ctrl, Alt or Meta.
 */
import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { href, navigate, type ViewName } from './router.js';
import { cycleTheme } from './theme.js';

export interface Shortcut {
  readonly key: string;
  readonly what: string;
  readonly run: () => void;
}

export const helpIsOpen = signal(false);

const GO_TO: Readonly<Record<string, ViewName>> = {
  o: 'overview',
  e: 'events',
  s: 'state',
  n: 'network',
  a: 'agents',
  t: 'timeline',
  r: 'transparency',
};
/** A `g` counts for this long. */
const CHORD_MS = 1_500;

const viewShortcuts = signal<readonly Shortcut[]>([]);

/** Registers a view's own keys for as long as it is shown. */
export function useViewShortcuts(shortcuts: readonly Shortcut[]): void {
  const latest = useRef(shortcuts);
  latest.current = shortcuts;
  useEffect(() => {
    viewShortcuts.value = latest.current.map(({ key, what }, index) => ({
      key,
      what,
      run: () => latest.current[index]?.run(),
    }));
    return () => {
      viewShortcuts.value = [];
    };
  }, []);
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.matches('input, textarea, select') || target.isContentEditable;
}

/** Listens to keys for the whole page. */
export function useShortcuts(): void {
  useEffect(() => {
    let chordUntilMs = 0;
    const onKey = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
      if (isTyping(event.target)) {
        if (event.key === 'Escape' && event.target instanceof HTMLElement) event.target.blur();
        return;
      }
      if (helpIsOpen.peek()) return; // the dialog has its own
      const goTo = GO_TO[event.key];
      if (performance.now() < chordUntilMs && goTo !== undefined) {
        chordUntilMs = 0;
        event.preventDefault();
        navigate(href(goTo));
      } else if (event.key === 'g') {
        chordUntilMs = performance.now() + CHORD_MS;
      } else if (event.key === '?') {
        helpIsOpen.value = true;
      } else if (event.key === 'T') {
        cycleTheme();
      } else {
        const shortcut = viewShortcuts.peek().find((known) => known.key === event.key);
        if (shortcut === undefined) return;
        event.preventDefault();
        shortcut.run();
      }
    };
    document.addEventListener('keydown', onKey);
    return () => document.removeEventListener('keydown', onKey);
  }, []);
}

export function HelpDialog(): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const open = helpIsOpen.value;
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  const close = (): void => {
    helpIsOpen.value = false;
  };
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it, as every dialog; a click beside it does too
    <dialog
      class="help"
      ref={dialog}
      aria-labelledby="help-title"
      onClose={close}
      onClick={(event) => event.target === dialog.current && close()}
    >
      <div class="help-body">
        <div class="help-head">
          <h2 id="help-title">Keyboard</h2>
          <button type="button" class="button small" onClick={close}>
            Close
          </button>
        </div>
        <dl class="keys">
          {Object.entries(GO_TO).map(([key, view]) => (
            <KeyLine key={key} keys={['g', key]} what={`go to ${view}`} />
          ))}
          {viewShortcuts.value.map(({ key, what }) => (
            <KeyLine key={key} keys={[key === ' ' ? 'space' : key]} what={what} />
          ))}
          <KeyLine keys={['T']} what="change colours" />
          <KeyLine keys={['?']} what="this help" />
        </dl>
      </div>
    </dialog>
  );
}

function KeyLine({ keys, what }: { readonly keys: readonly string[]; readonly what: string }): JSX.Element {
  return (
    <div>
      <dt>
        {keys.map((key) => (
          <kbd key={key}>{key}</kbd>
        ))}
      </dt>
      <dd>{what}</dd>
    </div>
  );
}
