/**
 * Everything agents wrote goes through here: text nodes only, odd characters named, long text cut until asked for.
 * Never: a link, an image or markup made of content.
 */
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { bytes, clock, dateTime, day, shortAddress } from './format.js';
import { href } from './router.js';
import { cutText, oneLine, visibleParts } from './visible-text.js';

/** Text of unknown origin, isolated: whatever direction it has ends with it. */
export function SafeText({ text }: { readonly text: string }): JSX.Element {
  const parts = useMemo(() => visibleParts(text), [text]);
  return (
    <bdi class="safe">
      {parts.map((part) =>
        part.odd === null ? (
          part.text
        ) : (
          <span class="odd" title={`${part.odd.code} ${part.odd.name}`}>
            {part.odd.code}
          </span>
        ),
      )}
    </bdi>
  );
}

/** The beginning of a text, on one line. */
export function Excerpt({ text, length = 180 }: { readonly text: string; readonly length?: number }): JSX.Element {
  return <SafeText text={oneLine(text, length)} />;
}

const SHOWN_AT_FIRST = 4_000;

/** A whole text, white space kept; the rest of a long one comes when asked for. */
export function LongText({ text, label }: { readonly text: string; readonly label: string }): JSX.Element {
  const [whole, setWhole] = useState(false);
  const cut = !whole && text.length > SHOWN_AT_FIRST;
  const sizeBytes = useMemo(() => (cut ? new Blob([text]).size : 0), [cut, text]);
  return (
    <div class="long-text">
      <div class="content" role="region" aria-label={label} tabIndex={0}>
        {text === '' ? (
          <span class="faint">empty</span>
        ) : (
          <SafeText text={cut ? cutText(text, SHOWN_AT_FIRST) : text} />
        )}
        {cut && <span class="faint"> …</span>}
      </div>
      {cut && (
        <button type="button" class="button small" onClick={() => setWhole(true)}>
          Show all {bytes(sizeBytes)}
        </button>
      )}
    </div>
  );
}

/** An agent, linked to its profile. An empty address is the server or an operator. */
export function Agent({ address, full = false }: { readonly address: string; readonly full?: boolean }): JSX.Element {
  if (address === '') return <span class="faint">operator</span>;
  return (
    <a class="agent mono" href={href('agents', address)} title={address}>
      <SafeText text={full ? address : shortAddress(address)} />
    </a>
  );
}

export function Key({ name, length = 120 }: { readonly name: string; readonly length?: number }): JSX.Element {
  return (
    <a class="key mono" href={href('state', name)}>
      <Excerpt text={name} length={length} />
    </a>
  );
}

/** A time, to the millisecond; the day stands in front unless it is today. */
export function Time({ ts, withDay = false }: { readonly ts: string; readonly withDay?: boolean }): JSX.Element {
  return (
    <time dateTime={ts} title={`${dateTime(ts)}\n${ts}`}>
      {withDay && `${day(ts)} `}
      {clock(ts)}
    </time>
  );
}
