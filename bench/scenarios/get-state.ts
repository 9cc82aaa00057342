/** How close does an authenticated, rate-limited, logged read come to the least an HTTP server can do? */
import { AGENTS, getRequests, KEYS, VALUE_BYTES } from '../dataset.js';
import { fillState } from '../fill.js';
import { compare, measureInTurn } from '../measure.js';
import { startBareServer } from '../reference/bare.js';
import { type BenchContext, check, loadedSide, noFailures, type Scenario, warmUp } from '../scenario.js';
import { Subject } from '../subject.js';

export const getState: Scenario = { name: 'get-state', run };

async function run(context: BenchContext) {
  const subject = await Subject.start(context, { name: 'kernel', agents: AGENTS });
  await fillState(subject);
  const requests = getRequests(subject);
  const [first] = requests;
  if (first === undefined) throw new Error('nothing to ask');
  const bare = await startBareServer(context, await subject.sampleOf(first));

  const plan = { connections: context.connections, seconds: context.seconds, requests };
  const ours = loadedSide(context, 'GET /v1/state/{key}', subject.pid, { ...plan, url: subject.url });
  const reference = loadedSide(context, 'bare handler, same bytes', bare.pid, { ...plan, url: bare.url });
  await warmUp(context, reference, ours);
  const rounds = await measureInTurn(ours, reference, context.rounds);
  const entry = (await subject.ask(first)) as { value: string };
  return {
    dataset: `${KEYS} keys of ${VALUE_BYTES} bytes, ${AGENTS} agents, ${context.connections} connections`,
    rows: [compare('GET state', 'rate', ours, reference, rounds, { floor: 0.5, aim: 0.8 })],
    checks: [
      noFailures(ours, rounds.ours),
      noFailures(reference, rounds.reference),
      check('a value read is the value written', entry.value.length === VALUE_BYTES, `${entry.value.length} bytes`),
    ],
  };
}
