import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { decodeLine, encodeLine, eventBody } from '../../src/shards/log-line.js';
import { seedFor } from '../support/seed.js';
import { someEvent } from './hostile.js';

const TS = '2026-03-18T05:30:00.123Z';
/** `01234567"}`: the checksum's digits and what closes the line. */
const CRC_AND_END_BYTES = 10;

function lineOf(text: string): Buffer {
  assert.ok(text.endsWith('\n') && text.indexOf('\n') === text.length - 1, 'one newline, at the end');
  return Buffer.from(text.slice(0, -1), 'utf8');
}

test('every event comes back from its line as it was, whatever its strings hold', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(someEvent, fc.maxSafeNat(), fc.boolean(), fc.option(fc.maxSafeNat()), (event, seq, more, ref) => {
      const body = eventBody(event.type, event.agent, event.data) + (ref === null ? '' : `,"ref":${ref}`);
      const decoded = decodeLine(lineOf(encodeLine(seq, TS, body, more)));
      assert.ok(decoded !== null);
      const { crc: _crc, ...fields } = decoded as typeof decoded & { crc: string };
      assert.deepEqual(fields, {
        seq,
        ts: TS,
        type: event.type,
        ...(event.agent === null ? {} : { agent: event.agent }),
        data: event.data,
        ...(ref === null ? {} : { ref }),
        ...(more ? { more: true } : {}),
      });
    }),
    { seed, numRuns: 500 },
  );
});

test('the checksum is the CRC-32 of every byte before it, as eight hex digits', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(someEvent, fc.boolean(), (event, more) => {
      const text = encodeLine(7, TS, eventBody(event.type, event.agent, event.data), more);
      const end = text.lastIndexOf(',"crc":"');
      const expected = crc32(Buffer.from(text.slice(0, end), 'utf8'))
        .toString(16)
        .padStart(8, '0');
      assert.equal(text.slice(end), `,"crc":"${expected}"}\n`);
    }),
    { seed, numRuns: 200 },
  );
});

test('any single flipped bit before the checksum is detected', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(someEvent, (event) => {
      const line = lineOf(encodeLine(123_456, TS, eventBody(event.type, event.agent, event.data), false));
      for (let bit = 0; bit < (line.length - CRC_AND_END_BYTES) * 8; bit++) {
        const byte = bit >> 3;
        line[byte] = (line[byte] as number) ^ (1 << (bit & 7));
        assert.equal(decodeLine(line), null, `bit ${bit & 7} of byte ${byte}`);
        line[byte] = (line[byte] as number) ^ (1 << (bit & 7));
      }
    }),
    { seed, numRuns: 30 },
  );
});

test('any replaced byte before the checksum is detected', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(someEvent, fc.nat(), fc.integer({ min: 1, max: 255 }), (event, place, change) => {
      const line = lineOf(encodeLine(9, TS, eventBody(event.type, event.agent, event.data), true));
      const byte = place % (line.length - CRC_AND_END_BYTES);
      line[byte] = (line[byte] as number) ^ change;
      assert.equal(decodeLine(line), null);
    }),
    { seed, numRuns: 1_000 },
  );
});

/** Flips every bit of the checksum's own digits and of what closes the line; returns those that went unseen. */
function unseenFlips(line: Buffer): string[] {
  const unseen: string[] = [];
  for (let byte = line.length - CRC_AND_END_BYTES; byte < line.length; byte++) {
    for (let bit = 0; bit < 8; bit++) {
      const flipped = Buffer.from(line);
      flipped[byte] = (flipped[byte] as number) ^ (1 << bit);
      if (decodeLine(flipped) !== null) unseen.push(JSON.stringify(flipped.toString('latin1', line.length - 10)));
    }
  }
  return unseen;
}

test('any single flipped bit in the checksum itself is detected', () => {
  for (let seq = 1; seq <= 64; seq++) {
    const line = lineOf(encodeLine(seq, TS, eventBody('registry_read', 'tab_a', { read_by: 'tab_a' }), false));
    assert.deepEqual(unseenFlips(line), []);
  }
});

test('a line cut short at any byte is no event', () => {
  const line = lineOf(encodeLine(1, TS, eventBody('registry_read', 'tab_a', { read_by: 'tab_a' }), false));
  for (let length = 0; length < line.length; length++) assert.equal(decodeLine(line.subarray(0, length)), null);
  assert.notEqual(decodeLine(line), null);
});

test('content can be replaced in place: a line whose content keeps its bytes keeps its length', (t) => {
  const seed = seedFor(t);
  const replaceable = fc.string({ unit: fc.constantFrom('a', 'b', 'z'), minLength: 1, maxLength: 300 });
  fc.assert(
    fc.property(replaceable, fc.maxSafeNat(), (content, seq) => {
      const sent = (text: string): Buffer => {
        const data = { message_id: 'm', from: 'f', to: 't', content: text, content_length: content.length };
        return Buffer.from(encodeLine(seq, TS, eventBody('message_sent', 'f', data), false));
      };
      assert.equal(sent('-'.repeat(content.length)).length, sent(content).length);
    }),
    { seed, numRuns: 200 },
  );
});
