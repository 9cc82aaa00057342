/** How many messages a second reach their recipients, and how soon: by pulling, long polling and pushing; and many to one. */
import { AGENTS, VALUE_BYTES } from '../dataset.js';
import { type FlowResult, measureFlow, type Way } from '../flow.js';
import { compare, measureInTurn, type Side } from '../measure.js';
import { type BenchContext, check, noFailures, type Scenario, warmUp } from '../scenario.js';
import { Subject } from '../subject.js';

/** Every sender waits for its answer: enough of them to fill the group commits, few enough for one client process. */
const SENDERS = 64;

export const deliveryWays: Scenario = {
  name: 'delivery-ways',
  run: (context) => run(context, AGENTS, `${AGENTS} recipients`),
};

export const fanIn: Scenario = { name: 'fan-in', run: (context) => run(context, 1, 'one recipient') };

async function run(context: BenchContext, recipientCount: number, recipientsText: string) {
  const subject = await Subject.start(context, { name: 'kernel', agents: AGENTS });
  const recipients = subject.agents.slice(0, recipientCount);
  const flows: FlowResult[] = [];
  const sideOf = (way: Way): Side => ({
    name: `${way}, ${recipientsText}`,
    pid: subject.pid,
    run: async () => {
      const flow = await measureFlow(subject, { way, recipients, senders: SENDERS, seconds: context.seconds });
      flows.push(flow);
      return flow;
    },
  });
  const [pull, poll, push] = [sideOf('pull'), sideOf('long poll'), sideOf('push')];
  await warmUp(context, pull, poll, push);
  const polled = await measureInTurn(poll, pull, context.rounds);
  const pushed = await measureInTurn(push, pull, context.rounds);
  const sent = flows.reduce((sum, one) => sum + one.sent, 0);
  const received = flows.reduce((sum, one) => sum + one.completed, 0);
  const repeated = flows.reduce((sum, one) => sum + one.repeated, 0);
  const what = `delivered to ${recipientsText}`;
  return {
    dataset: `messages of ${VALUE_BYTES} bytes from ${SENDERS} connections to ${recipientsText}; a time is from send to arrival`,
    rows: [
      compare(`${what}, long poll`, 'rate', poll, pull, polled, null),
      compare(`${what}, long poll`, 'p99', poll, pull, polled, null),
      compare(`${what}, push`, 'rate', push, pull, pushed, null),
      compare(`${what}, push`, 'p99', push, pull, pushed, null),
    ],
    checks: [
      noFailures(poll, polled.ours),
      noFailures(push, pushed.ours),
      check('every message sent arrives', received === sent, `${received} of ${sent}`),
      check('nothing arrives twice', repeated === 0, repeated),
    ],
  };
}
