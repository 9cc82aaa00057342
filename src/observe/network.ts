/**
 * The network of who writes to whom, as one document: at most so many agents and edges, the busiest.
 * Owns:      the last document. Made anew when events have come and some time has passed, the longer the more there is.
 * Never:     holds up the thread's other work for long: it walks the index piece by piece. What comes in meanwhile may be
 *            in the document or not.
 */
import { Buffer } from 'node:buffer';
import type { EventIndex } from './event-index.js';
import { agentIdKey, decodeAgent, decodeCount } from './index-rows.js';
import type { Table } from './index-store.js';
import { Largest } from './largest.js';

const MAX_NODES = 5_000;
const MAX_EDGES = 20_000;
/** Of the time between two makings, at most this part goes into making. */
const MAX_SHARE = 0.05;
/** Made so fast, it is made for every request. */
const QUICK_MS = 5;
const ROWS_AT_A_TIME = 2_000;

interface Node {
  readonly address: string;
  readonly messages_sent: number;
  readonly messages_received: number;
}

interface Edge {
  readonly fromId: number;
  readonly toId: number;
  readonly count: number;
}

export class NetworkDocument {
  private json = '';
  private madeFor = -1;
  private freshUntilMs = 0;
  private making: Promise<string> | null = null;

  constructor(private readonly index: EventIndex) {}

  /** Costs a walk over all agents and edges when it is made anew: about a microsecond for each. */
  read(): Promise<string> {
    const isKnown = this.madeFor >= 0 && (this.madeFor === this.index.lastSeq || performance.now() < this.freshUntilMs);
    if (isKnown) return Promise.resolve(this.json);
    this.making ??= this.makeAnew().finally(() => {
      this.making = null;
    });
    return this.making;
  }

  private async makeAnew(): Promise<string> {
    const startMs = performance.now();
    const seq = this.index.lastSeq;
    this.json = await this.make();
    this.madeFor = seq;
    const tookMs = performance.now() - startMs;
    this.freshUntilMs = startMs + (tookMs < QUICK_MS ? 0 : tookMs / MAX_SHARE);
    return this.json;
  }

  private async make(): Promise<string> {
    const { agents, edges: edgeCount } = this.index.figures;
    const nodes = await this.busiestAgents();
    const shown = new Map<number, string>();
    for (const [agentId, { address }] of nodes) shown.set(agentId, address);
    const edges = await this.strongestEdges(agents > MAX_NODES ? shown : null);
    const named = edges.map(({ fromId, toId, count }) => {
      return { from: shown.get(fromId) ?? this.addressOf(fromId), to: shown.get(toId) ?? this.addressOf(toId), count };
    });
    return JSON.stringify({
      nodes: nodes.map(([, node]) => node),
      edges: named,
      total_nodes: agents,
      total_edges: edgeCount,
    });
  }

  /** With their numbers, in order of registration. */
  private async busiestAgents(): Promise<[number, Node][]> {
    const busiest = new Largest<[number, Node]>(MAX_NODES, ([, node]) => node.messages_sent + node.messages_received);
    await walk(this.index.store.table('agents'), (key, value) => {
      const row = decodeAgent(value);
      const node = {
        address: key.toString('latin1'),
        messages_sent: row.messagesSent,
        messages_received: row.messagesReceived,
      };
      busiest.offer([row.agentId, node]);
    });
    return busiest.items().sort((a, b) => a[0] - b[0]);
  }

  /** Heaviest first; only those between agents that are shown. */
  private async strongestEdges(shown: ReadonlyMap<number, string> | null): Promise<Edge[]> {
    const strongest = new Largest<Edge>(MAX_EDGES, (edge) => edge.count);
    await walk(this.index.store.table('edges'), (key, value) => {
      const edge = { fromId: key.readUInt32BE(0), toId: key.readUInt32BE(4), count: decodeCount(value) };
      if (shown === null || (shown.has(edge.fromId) && shown.has(edge.toId))) strongest.offer(edge);
    });
    return strongest.items().sort((a, b) => b.count - a.count);
  }

  private addressOf(agentId: number): string {
    return this.index.store.table('agent_ids').get(agentIdKey(agentId))?.toString('latin1') ?? '';
  }
}

/** Every row, in some turns of the loop: an iterator of LMDB must not be held across one. */
async function walk(table: Table, visit: (key: Buffer, value: Buffer) => void): Promise<void> {
  let start: Buffer = Buffer.from([0]);
  for (;;) {
    let rows = 0;
    for (const { key, value } of table.getRange({ start, limit: ROWS_AT_A_TIME })) {
      visit(key, value);
      rows += 1;
      // The smallest key above this one.
      if (rows === ROWS_AT_A_TIME) start = Buffer.concat([key, Buffer.from([0])]);
    }
    if (rows < ROWS_AT_A_TIME) return;
    await new Promise(setImmediate);
  }
}
