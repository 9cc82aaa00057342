/** What is posted, and how a receiver checks it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeenIds, verifyWebhook } from '../../examples/webhook-receiver.js';
import { VERSION } from '../../src/contract/version.js';
import { signMessage } from '../../src/webhooks/signed-message.js';

const SECRET = `whsec_${Buffer.from('0123456789abcdef0123456789abcdef').toString('base64')}`;
const NOW = 1_773_812_345_678;
const MESSAGE = {
  messageId: '9b2c7f0e-0000-4000-8000-000000000001',
  from: 'tab_00000000000000000001',
  to: 'tab_00000000000000000002',
  content: 'line\n"quoted" \\ \u0000 😀',
  sentAtMs: 1_773_812_000_007,
};

test('a receiver that follows Standard Webhooks accepts the post and reads the message', () => {
  const { headers, body } = signMessage(MESSAGE, SECRET, NOW);
  assert.deepEqual(verifyWebhook(headers, body, SECRET, NOW), {
    message_id: MESSAGE.messageId,
    from: MESSAGE.from,
    to: MESSAGE.to,
    content: MESSAGE.content,
    timestamp: '2026-03-18T05:33:20.007Z',
  });
  assert.equal(headers['webhook-timestamp'], '1773812345', 'whole seconds');
  assert.equal(headers['user-agent'], `Tabulum/${VERSION}`);
});

test('the signature is that of the specification', () => {
  // The example of the specification's reference libraries.
  const headers = {
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  };
  const body = Buffer.from('{"test": 2432232314}');
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
  assert.deepEqual(verifyWebhook(headers, body, secret, 1_614_265_330_000), { test: 2432232314 });
});

test('another body, id, time or secret is refused, and so is an old post', () => {
  const { headers, body } = signMessage(MESSAGE, SECRET, NOW);
  const otherSecret = `whsec_${Buffer.alloc(32).toString('base64')}`;
  const refused: readonly (readonly [string, () => unknown])[] = [
    ['body', () => verifyWebhook(headers, Buffer.concat([body, Buffer.from(' ')]), SECRET, NOW)],
    ['id', () => verifyWebhook({ ...headers, 'webhook-id': 'x' }, body, SECRET, NOW)],
    ['time', () => verifyWebhook({ ...headers, 'webhook-timestamp': '1773812346' }, body, SECRET, NOW)],
    ['secret', () => verifyWebhook(headers, body, otherSecret, NOW)],
    ['no signature', () => verifyWebhook({ ...headers, 'webhook-signature': undefined }, body, SECRET, NOW)],
    ['other version', () => verifyWebhook({ ...headers, 'webhook-signature': 'v1a,xxxx' }, body, SECRET, NOW)],
    ['old', () => verifyWebhook(headers, body, SECRET, NOW + 301_000)],
    ['not a time', () => verifyWebhook({ ...headers, 'webhook-timestamp': 'soon' }, body, SECRET, NOW)],
  ];
  for (const [what, check] of refused) assert.throws(check, Error, what);
});

test('a repeat has the id of the first post, and a time and signature of its own', () => {
  const first = signMessage(MESSAGE, SECRET, NOW);
  const repeat = signMessage(MESSAGE, SECRET, NOW + 4_000);
  assert.equal(repeat.headers['webhook-id'], first.headers['webhook-id']);
  assert.deepEqual(repeat.body, first.body);
  assert.notEqual(repeat.headers['webhook-signature'], first.headers['webhook-signature']);
  const seen = new SeenIds(2);
  assert.deepEqual(
    ['a', 'b', 'a', 'c', 'b'].map((id) => seen.add(id)),
    [true, true, false, true, false],
  );
  assert.equal(seen.add('a'), true, 'only so many are remembered');
});

test('nothing of the secret is in the post', () => {
  const { headers, body } = signMessage(MESSAGE, SECRET, NOW);
  assert.ok(!(JSON.stringify(headers) + body.toString()).includes(SECRET.slice(6, 20)));
});
