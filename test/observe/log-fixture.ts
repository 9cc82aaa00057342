/** Data directories made of event logs alone, for observers in a process of their own: large ones in a moment. */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KernelEvent } from '../../src/contract/events.js';
import { type EventBody, encodeLine, eventBody } from '../../src/shards/log-line.js';
import { seededRandom } from '../support/seed.js';

const SEGMENT_BYTES = 4 * 1024 * 1024;
const FLUSH_BYTES = 1024 * 1024;
const FIRST_MS = Date.parse('2026-03-18T05:30:00.000Z');

export interface LogFixtureOptions {
  readonly seed: number;
  readonly shards: number;
  readonly agents: number;
  readonly events: number;
}

export interface LogFixture {
  readonly agents: readonly string[];
  /** What lies in the logs, by `seq`. */
  readonly events: KernelEvent[];
}

/** @param keep false leaves `events` empty, for more than fit into memory comfortably */
export function writeLogFixture(dataDir: string, options: LogFixtureOptions, keep = true): LogFixture {
  const { seed, shards, agents: agentCount, events: eventCount } = options;
  const random = seededRandom(seed);
  mkdirSync(dataDir, { recursive: true });
  const manifest = { format: 1, id: `fixture-${seed}`, shards, created_at: '2026-03-18T05:30:00.000Z' };
  writeFileSync(join(dataDir, 'manifest.json'), JSON.stringify(manifest));
  const writers = Array.from({ length: shards }, (_, shard) => new SegmentWriter(dataDir, shard));
  const agents = Array.from({ length: agentCount }, (_, n) => `tab_${n.toString(36).padStart(20, '0')}`);
  const events: KernelEvent[] = [];
  let seq = 0;
  for (let n = 0; n < agentCount + eventCount; n++) {
    seq += random(10) === 0 ? 2 : 1; // gaps are normal
    const ts = new Date(FIRST_MS + n * 100).toISOString();
    const fact = n < agentCount ? registration(agents[n] as string) : anyFact(random, agents);
    writers[random(shards)]?.append(encodeLine(seq, ts, fact.body, false));
    if (keep) events.push({ seq, ts, ...fact.event } as KernelEvent);
  }
  for (const writer of writers) writer.flush();
  return { agents, events };
}

interface Fact {
  readonly body: EventBody;
  readonly event: Pick<KernelEvent, 'type' | 'agent' | 'data'>;
}

function fact<Type extends KernelEvent['type']>(
  type: Type,
  agent: string,
  data: Extract<KernelEvent, { type: Type }>['data'],
): Fact {
  return { body: eventBody(type, agent, data as never), event: { type, agent, data } as Fact['event'] };
}

function registration(address: string): Fact {
  return fact('agent_registered', address, { address, operator_id: 'fixture', has_webhook: false });
}

function anyFact(random: (below: number) => number, agents: readonly string[]): Fact {
  const agent = agents[random(agents.length)] as string;
  const key = `${'abc'[random(3)]}/${random(2_000)}`;
  const kind = random(10);
  if (kind < 4) {
    const value = 'v'.repeat(random(300));
    return fact('state_written', agent, { key, value, value_length: value.length, written_by: agent });
  }
  if (kind < 5) return fact('state_deleted', agent, { key, deleted_by: agent });
  if (kind < 7) return fact('state_read', agent, { key, read_by: agent, found: true });
  const to = agents[random(agents.length)] as string;
  const content = 'm'.repeat(1 + random(300));
  return fact('message_sent', agent, {
    message_id: `00000000-0000-4000-8000-${String(random(1e9)).padStart(12, '0')}`,
    from: agent,
    to,
    content,
    content_length: content.length,
  });
}

class SegmentWriter {
  private readonly logDir: string;
  private segment = 1;
  private sizeBytes = 0;
  private pending = '';

  constructor(dataDir: string, shard: number) {
    this.logDir = join(dataDir, `shard-${String(shard).padStart(2, '0')}`, 'log');
    mkdirSync(this.logDir, { recursive: true });
    writeFileSync(this.path, '');
  }

  append(line: string): void {
    this.pending += line;
    if (this.pending.length >= FLUSH_BYTES) this.flush();
  }

  flush(): void {
    appendFileSync(this.path, this.pending);
    this.sizeBytes += this.pending.length;
    this.pending = '';
    if (this.sizeBytes < SEGMENT_BYTES) return;
    this.segment += 1;
    this.sizeBytes = 0;
    writeFileSync(this.path, '');
  }

  private get path(): string {
    return join(this.logDir, `${String(this.segment).padStart(8, '0')}.ndjson`);
  }
}
