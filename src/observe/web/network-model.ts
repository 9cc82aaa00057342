/**
 * Who talks to whom, as numbers: counts by direction, and the links worth drawing.
 * Owns:  the counts since the server began, raised by the stream.
 * Never: knows of pixels.
 */
import type { Network, ObservedEvent } from './api.js';
import { field } from './event-kinds.js';

export interface Talker {
  readonly address: string;
  sent: number;
  received: number;
}

/** Two agents and the messages between them, in both directions. `a` < `b`. */
export interface Link {
  readonly key: string;
  readonly a: string;
  readonly b: string;
  count: number;
}

export interface DirectedEdge {
  readonly from: string;
  readonly to: string;
  count: number;
}

export class NetworkModel {
  readonly talkers = new Map<string, Talker>();
  readonly links = new Map<string, Link>();
  readonly edges = new Map<string, DirectedEdge>();

  constructor(network: Network) {
    for (const node of network.nodes) {
      this.talkers.set(node.address, {
        address: node.address,
        sent: node.messages_sent,
        received: node.messages_received,
      });
    }
    for (const { from, to, count } of network.edges) this.addMessages(from, to, count);
  }

  /** Adds an event's message or newcomer. True when a node or link is new: the picture has another shape now. */
  take(event: ObservedEvent): boolean {
    if (event.type === 'agent_registered') {
      const address = field(event, 'address');
      const isNew = !this.talkers.has(address);
      if (address !== '') this.talker(address);
      return isNew;
    }
    if (event.type !== 'message_sent') return false;
    const from = field(event, 'from');
    const to = field(event, 'to');
    const size = this.talkers.size + this.links.size;
    this.talker(from).sent++;
    this.talker(to).received++;
    this.addMessages(from, to, 1);
    return this.talkers.size + this.links.size !== size;
  }

  /** The strongest links of at least `least` messages, at most `limit` of them. */
  strongest(least: number, limit: number): Link[] {
    const wanted = [...this.links.values()].filter(({ a, b, count }) => count >= least && a !== b);
    return wanted.length <= limit ? wanted : wanted.sort((x, y) => y.count - x.count).slice(0, limit);
  }

  strongestEdges(limit: number): DirectedEdge[] {
    return [...this.edges.values()].sort((a, b) => b.count - a.count).slice(0, limit);
  }

  neighbours(address: string): Set<string> {
    const found = new Set<string>();
    for (const { a, b } of this.links.values()) {
      if (a === address) found.add(b);
      else if (b === address) found.add(a);
    }
    return found;
  }

  private talker(address: string): Talker {
    let talker = this.talkers.get(address);
    if (talker === undefined) {
      talker = { address, sent: 0, received: 0 };
      this.talkers.set(address, talker);
    }
    return talker;
  }

  private addMessages(from: string, to: string, count: number): void {
    this.talker(from);
    this.talker(to);
    const direction = `${from} ${to}`;
    const edge = this.edges.get(direction);
    if (edge === undefined) this.edges.set(direction, { from, to, count });
    else edge.count += count;
    const [a, b] = from < to ? [from, to] : [to, from];
    const key = linkKey(from, to);
    const link = this.links.get(key);
    if (link === undefined) this.links.set(key, { key, a, b, count });
    else link.count += count;
  }
}

export function linkKey(from: string, to: string): string {
  return from < to ? `${from} ${to}` : `${to} ${from}`;
}
