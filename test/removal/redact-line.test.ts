/** Taking the content out of one line: what is left, whatever the content was, and wherever a crash came. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { REDACTED_TEXT } from '../../src/contract/redaction.js';
import { decodeLine, encodeLine, eventBody, messageSentBody, stateWrittenBody } from '../../src/shards/log-line.js';
import { contentPlace, redactLine } from '../../src/shards/redact-line.js';
import { seedFor } from '../support/seed.js';

const TS = '2026-03-18T05:30:00.123Z';
const ADDRESS = 'tab_00000000000000000001';

/** A line without its newline, as the log has it. */
function line(body: string, more = false): Buffer {
  return Buffer.from(encodeLine(7, TS, body, more).slice(0, -1), 'utf8');
}

function redacted(original: Buffer): Buffer {
  const place = contentPlace(original);
  assert.ok(place !== null);
  const changed = Buffer.from(original);
  redactLine(changed, place, false);
  return changed;
}

/** Texts that look like the log's own fields, beside arbitrary ones. */
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ unit: 'grapheme', maxLength: 60 }),
  fc.constantFrom(
    '',
    '"',
    '\\',
    '\\"',
    '\\\\"',
    '","value":"',
    '"data":{"key":"',
    ',"content":"',
    '\n',
    '"},"crc":"00000000"}',
  ),
);

test('a written value is gone from its line, and everything else of the line is as it was', (t) => {
  const property = fc.property(text, text, (key, value) => {
    const original = line(stateWrittenBody(ADDRESS, key, value, Buffer.byteLength(value)));
    const changed = redacted(original);
    assert.equal(changed.length, original.length);
    const event = decodeLine(changed);
    assert.ok(event !== null);
    const { crc: _crc, ...before } = decodeLine(original) as unknown as Record<string, unknown>;
    const { red: _red, ...after } = event as unknown as Record<string, unknown>;
    const data = { ...(before.data as object), value: REDACTED_TEXT };
    assert.deepEqual(after, { ...before, data, redacted: true });
    const place = contentPlace(original);
    assert.ok(place !== null);
    assert.equal(place.bytes, Buffer.byteLength(JSON.stringify(value)) - 2);
    const stars = changed.toString('latin1', place.offsetBytes, place.offsetBytes + place.bytes);
    assert.equal(stars, '*'.repeat(place.bytes));
  });
  fc.assert(property, { seed: seedFor(t), numRuns: 500 });
});

test('a sent content is gone from its line, and the fields of the log itself stay', (t) => {
  const property = fc.property(text, fc.boolean(), (content, more) => {
    const body = `${messageSentBody('11111111-1111-4111-8111-111111111111', ADDRESS, ADDRESS, content)},"ref":5`;
    const event = decodeLine(redacted(line(body, more)));
    assert.ok(event !== null);
    assert.deepEqual(event.data, { ...event.data, content: REDACTED_TEXT, content_length: Buffer.byteLength(content) });
    assert.deepEqual([event.redacted, event.ref, event.more], [true, 5, more ? true : undefined]);
  });
  fc.assert(property, { seed: seedFor(t), numRuns: 500 });
});

test('doing it again after a crash anywhere within ends in the same bytes', () => {
  const original = line(stateWrittenBody(ADDRESS, 'k', 'a "secret" value', 16));
  const place = contentPlace(original);
  assert.ok(place !== null);
  const done = redacted(original);
  for (let written = 0; written <= original.length; written++) {
    const torn = Buffer.concat([done.subarray(0, written), original.subarray(written)]);
    redactLine(torn, place, false);
    assert.deepEqual(torn, done);
  }
});

test('a damaged line loses its content and stays damaged', () => {
  const original = line(stateWrittenBody(ADDRESS, 'k', 'secret', 6));
  original[10] = (original[10] as number) ^ 1;
  assert.equal(decodeLine(original), null);
  const place = contentPlace(original);
  assert.ok(place !== null);
  redactLine(original, place, true);
  assert.equal(decodeLine(original), null);
  assert.ok(!original.includes('secret'));
});

test('lines without content have no place for any', () => {
  const lines = [
    eventBody('state_deleted', ADDRESS, { key: 'k', deleted_by: ADDRESS }),
    eventBody('state_read', ADDRESS, { key: '","value":"x', read_by: ADDRESS, found: true }),
    eventBody('registry_read', ADDRESS, { read_by: ADDRESS }),
    eventBody('message_delivered', ADDRESS, { message_id: 'm', to: ADDRESS, delivery_method: 'pull' }),
  ];
  for (const body of lines) assert.equal(contentPlace(line(body)), null, body);
  assert.equal(contentPlace(Buffer.from('no line of a log')), null);
});

test('a checksum of the other kind is no checksum', () => {
  const original = line(stateWrittenBody(ADDRESS, 'k', 'v', 1));
  const changed = redacted(original);
  changed[changed.length - 3] = (changed[changed.length - 3] as number) ^ 1;
  assert.equal(decodeLine(changed), null);
});
