/** Text that breaks careless code, and events full of it. */
import fc from 'fast-check';
import type { EventData, EventType } from '../../src/contract/events.js';

const PIECES = [
  '',
  'a',
  '0',
  '/',
  '%2F',
  '"',
  '\\',
  '\n',
  '\r\n',
  '\u0000',
  '\u007f',
  '\u0080',
  '\u00ff',
  '\u2028',
  '\u2029',
  '\ufeff',
  '\uffff',
  'é',
  '界',
  '😀',
  '\u{10ffff}',
  '<script>',
  ',"crc":"00000000"}',
  '","more":true,"',
  '{}',
  '__proto__',
];

/** Well-formed strings, as the gateway lets through. */
export function hostileText(maxLength = 12): fc.Arbitrary<string> {
  const unit = fc.oneof(fc.constantFrom(...PIECES), fc.string({ unit: 'binary', maxLength: 3 }));
  return fc.array(unit, { maxLength }).map((parts) => parts.join(''));
}

/** Never empty. */
export function hostileKey(): fc.Arbitrary<string> {
  return hostileText(6).map((text) => (text === '' ? '\u0000' : text));
}

export const address: fc.Arbitrary<string> = fc
  .string({ unit: fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz0123456789'), minLength: 20, maxLength: 20 })
  .map((rest) => `tab_${rest}`);

type SomeEvent = {
  [Type in EventType]: { readonly type: Type; readonly agent: string | null; readonly data: EventData[Type] };
}[EventType];

/** One event of any type, with hostile strings wherever an agent can put some. */
export const someEvent: fc.Arbitrary<SomeEvent> = fc
  .record({ a: address, b: address, text: hostileText(), key: hostileKey(), id: fc.uuid(), flag: fc.boolean() })
  .chain(({ a, b, text, key, id, flag }) =>
    fc.constantFrom<SomeEvent>(
      { type: 'operator_created', agent: null, data: { operator_id: id, contact_hash: text } },
      { type: 'agent_registered', agent: a, data: { address: a, operator_id: id, has_webhook: flag } },
      {
        type: 'message_sent',
        agent: a,
        data: { message_id: id, from: a, to: b, content: text, content_length: Buffer.byteLength(text) },
      },
      { type: 'message_delivered', agent: b, data: { message_id: id, to: b, delivery_method: flag ? 'pull' : 'push' } },
      { type: 'message_dropped', agent: b, data: { message_id: id, to: b, reason: 'queue_full' } },
      {
        type: 'state_written',
        agent: a,
        data: { key, value: text, value_length: Buffer.byteLength(text), written_by: a },
      },
      { type: 'state_deleted', agent: a, data: { key, deleted_by: a } },
      { type: 'state_read', agent: a, data: { key, read_by: a, found: flag } },
      { type: 'registry_read', agent: a, data: { read_by: a } },
    ),
  );
