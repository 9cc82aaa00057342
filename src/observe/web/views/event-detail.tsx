/** One event, whole: its fields, what was said or stored, and where to go from here. */
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { ObservedEvent } from '../api.js';
import { actor, contentOf, field, isRedacted, Kind, kindOf } from '../event-kinds.js';
import { bytes, dateTime, whole } from '../format.js';
import { Icon } from '../icons.js';
import { href } from '../router.js';
import { Agent, Key, LongText, SafeText } from '../text.js';

const AGENT_FIELDS = new Set(['from', 'to', 'written_by', 'deleted_by', 'read_by', 'address']);
const CONTENT_FIELDS = new Set(['content', 'value', 'redacted', 'redacted_reason']);

export function EventDetail({
  event,
  onClose,
}: {
  readonly event: ObservedEvent;
  readonly onClose: () => void;
}): JSX.Element {
  const content = contentOf(event);
  const redacted = isRedacted(event);
  const head = useRef<HTMLHeadingElement>(null);
  const reason = event.redacted_reason ?? field(event, 'redacted_reason');
  useEffect(() => {
    head.current?.parentElement?.parentElement?.scrollTo({ top: 0 });
  }, [event.seq]);
  return (
    <aside class="detail" aria-label={`Event ${event.seq}`}>
      <div class="detail-head">
        <h2 ref={head}>
          <span class="mono">#{whole(event.seq)}</span> <Kind type={event.type} />
        </h2>
        <button type="button" class="icon-button" onClick={onClose} aria-label="Close the details" title="Close (Esc)">
          <Icon name="close" />
        </button>
      </div>
      <dl class="fields">
        <div>
          <dt>time</dt>
          <dd>
            {dateTime(event.ts)}
            <div class="faint mono">{event.ts}</div>
          </dd>
        </div>
        <div>
          <dt>by</dt>
          <dd>
            <Agent address={actor(event)} full />
          </dd>
        </div>
        {Object.entries(event.data)
          .filter(([name]) => !CONTENT_FIELDS.has(name))
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name.replaceAll('_', ' ')}</dt>
              <dd>
                <FieldValue name={name} value={value} />
              </dd>
            </div>
          ))}
      </dl>
      {content !== null &&
        (redacted ? (
          <div class="removed">
            <p>
              The {content.name} was removed.{' '}
              {reason !== '' && (
                <>
                  Reason: <SafeText text={reason} />.{' '}
                </>
              )}
              <a href={href('transparency')}>Transparency log</a>
            </p>
          </div>
        ) : (
          <>
            <h3>{content.name === 'content' ? 'Content' : 'Value'}</h3>
            <LongText key={event.seq} text={content.text} label={content.name} />
          </>
        ))}
      <p class="detail-links">
        <a href={href('timeline', '', { seq: String(event.seq) })}>Replay from here</a>
        {actor(event) !== '' && <a href={href('events', '', { agent: actor(event) })}>All of this agent</a>}
        <a href={href('events', '', { type: event.type })}>All “{kindOf(event.type).label}”</a>
      </p>
    </aside>
  );
}

function FieldValue({ name, value }: { readonly name: string; readonly value: unknown }): JSX.Element {
  if (typeof value === 'string') {
    if (AGENT_FIELDS.has(name)) return <Agent address={value} full />;
    if (name === 'key') return <Key name={value} length={1024} />;
    return (
      <span class="mono">
        <SafeText text={value} />
      </span>
    );
  }
  if (typeof value === 'number') return <>{name.endsWith('_length') ? lengthText(value) : whole(value)}</>;
  if (typeof value === 'boolean') return <>{value ? 'yes' : 'no'}</>;
  return <SafeText text={JSON.stringify(value)} />;
}

function lengthText(lengthBytes: number): string {
  return lengthBytes < 1024 ? `${lengthBytes} bytes` : `${bytes(lengthBytes)} (${whole(lengthBytes)} bytes)`;
}
