/** What each type of event means to a reader: its name, its colour family, and one line that tells it. */
import type { JSX } from 'preact';
import type { ObservedEvent } from './api.js';
import { bytes, shortAddress } from './format.js';
import { Excerpt } from './text.js';

export type Family = 'message' | 'state' | 'read' | 'arrival' | 'loss';

const KINDS: Readonly<Record<string, { readonly label: string; readonly family: Family }>> = {
  message_sent: { label: 'message sent', family: 'message' },
  message_delivered: { label: 'delivered', family: 'message' },
  message_dropped: { label: 'dropped', family: 'loss' },
  state_written: { label: 'state written', family: 'state' },
  state_deleted: { label: 'state deleted', family: 'loss' },
  state_read: { label: 'state read', family: 'read' },
  registry_read: { label: 'registry read', family: 'read' },
  agent_registered: { label: 'agent arrived', family: 'arrival' },
  operator_created: { label: 'operator', family: 'arrival' },
};

export function kindOf(type: string): { readonly label: string; readonly family: Family } {
  return KINDS[type] ?? { label: type.slice(0, 32).replaceAll('_', ' '), family: 'read' };
}

export function Kind({ type }: { readonly type: string }): JSX.Element {
  const { label, family } = kindOf(type);
  return <span class={`kind kind-${family}`}>{label}</span>;
}

/** A field of an event's data as text; what is missing is empty. */
export function field(event: ObservedEvent, name: string): string {
  const value = event.data[name];
  if (typeof value === 'string') return value;
  return value === undefined || value === null ? '' : String(value);
}

/** Who did it: the sender, writer or reader; the newcomer of a registration; empty for operators. */
export function actor(event: ObservedEvent): string {
  return event.agent ?? (event.type === 'message_delivered' ? field(event, 'to') : field(event, 'address'));
}

/** What was said or stored, if the event carries it. */
export function contentOf(event: ObservedEvent): { readonly name: 'content' | 'value'; readonly text: string } | null {
  if (event.type === 'message_sent') return { name: 'content', text: field(event, 'content') };
  if (event.type === 'state_written') return { name: 'value', text: field(event, 'value') };
  return null;
}

export function isRedacted(event: ObservedEvent): boolean {
  return event.redacted === true || event.data.redacted === true;
}

/** One line about the event, without its actor. Holds no link, so that a row can be one thing to choose. */
export function Summary({ event }: { readonly event: ObservedEvent }): JSX.Element {
  const content = contentOf(event);
  if (content !== null && isRedacted(event)) {
    return (
      <>
        <Lead event={event} />
        <span class="redacted">removed, see transparency</span>
      </>
    );
  }
  switch (event.type) {
    case 'message_sent':
    case 'state_written':
      return (
        <>
          <Lead event={event} />
          <Excerpt text={content?.text ?? ''} />
        </>
      );
    case 'state_deleted':
      return <Lead event={event} />;
    case 'state_read':
      return (
        <>
          <Lead event={event} />
          {event.data.found === false && <span class="faint">not found</span>}
        </>
      );
    case 'message_delivered':
      return <span class="faint">by {field(event, 'delivery_method')}</span>;
    case 'message_dropped':
      return <span class="faint">{field(event, 'reason').replaceAll('_', ' ')}</span>;
    case 'agent_registered':
      return <span class="faint">{event.data.has_webhook === true ? 'with a webhook' : 'joined'}</span>;
    case 'operator_created':
      return (
        <span class="faint">
          <Excerpt text={field(event, 'contact_hash')} length={60} />
        </span>
      );
    case 'registry_read':
      return <span class="faint">looked who is here</span>;
    default:
      return <Excerpt text={JSON.stringify(event.data)} />;
  }
}

function Lead({ event }: { readonly event: ObservedEvent }): JSX.Element {
  if (event.type === 'message_sent') {
    return (
      <>
        <span class="faint">to </span>
        <span class="mono to">
          <Excerpt text={shortAddress(field(event, 'to'))} />
        </span>{' '}
      </>
    );
  }
  return (
    <>
      <span class="mono lead-key">
        <Excerpt text={field(event, 'key')} length={80} />
      </span>{' '}
    </>
  );
}

/** Size of what the event carries, as people read it; empty when it carries nothing. */
export function sizeOf(event: ObservedEvent): string {
  const length = event.data.content_length ?? event.data.value_length;
  return typeof length === 'number' ? bytes(length) : '';
}

/** Everything a search looks at, in lower case. */
export function searchable(event: ObservedEvent): string {
  const texts = [event.type, event.agent ?? ''];
  for (const value of Object.values(event.data)) if (typeof value === 'string') texts.push(value);
  return texts.join('\n').toLowerCase();
}
