/** Where a replay is acted: the agents of the moment in a ring, messages as arcs between them, writes as rings around them. */
import type { JSX } from 'preact';
import type { ObservedEvent } from '../api.js';
import { actor, field, kindOf } from '../event-kinds.js';
import { shortAddress } from '../format.js';
import { visibleParts } from '../visible-text.js';

const HEIGHT = 400;
const WIDTH = 500;
const MIDDLE_X = WIDTH / 2;
const MIDDLE_Y = HEIGHT / 2;
const RADIUS = 150;
const MAX_ACTORS = 18;
const MAX_ARCS = 24;

/** Who stands on the stage, and what they did last; the longest idle makes room. */
export class Cast {
  private readonly lastSeq = new Map<string, number>();
  arcs: ObservedEvent[] = [];
  readonly lastDone = new Map<string, ObservedEvent>();

  take(events: readonly ObservedEvent[]): void {
    for (const event of events) {
      const who = actor(event);
      if (who !== '') this.enter(who, event);
      if (event.type !== 'message_sent') continue;
      this.lastSeq.set(field(event, 'to'), event.seq);
      this.arcs.push(event);
    }
    this.arcs = this.arcs.slice(-MAX_ARCS);
    if (this.lastSeq.size > MAX_ACTORS) {
      const idle = [...this.lastSeq].sort((a, b) => a[1] - b[1]).slice(0, this.lastSeq.size - MAX_ACTORS);
      for (const [who] of idle) {
        this.lastSeq.delete(who);
        this.lastDone.delete(who);
      }
    }
  }

  /** In the order of their addresses: who stays keeps about the same place. */
  actors(): string[] {
    return [...this.lastSeq.keys()].sort();
  }

  private enter(who: string, event: ObservedEvent): void {
    this.lastSeq.set(who, event.seq);
    this.lastDone.set(who, event);
  }
}

interface Place {
  readonly x: number;
  readonly y: number;
  readonly turn: number;
}

export function ReplayStage({ cast, newest }: { readonly cast: Cast; readonly newest: number }): JSX.Element {
  const actors = cast.actors();
  const places = new Map<string, Place>();
  actors.forEach((who, index) => {
    const turn = (index / Math.max(1, actors.length)) * 2 * Math.PI - Math.PI / 2;
    places.set(who, { x: MIDDLE_X + RADIUS * Math.cos(turn), y: MIDDLE_Y + RADIUS * Math.sin(turn), turn });
  });
  return (
    <svg
      class="stage-svg"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      role="img"
      aria-label="Agents and messages of this moment of the replay"
    >
      {actors.length === 0 && (
        <text class="stage-hint" x={MIDDLE_X} y={MIDDLE_Y} text-anchor="middle">
          Agents come on as they act
        </text>
      )}
      {cast.arcs.map((event, index) => {
        const from = places.get(field(event, 'from'));
        const to = places.get(field(event, 'to'));
        if (from === undefined || to === undefined) return null;
        const age = 1 - (index + 1) / cast.arcs.length;
        return <path key={event.seq} class="arc" d={arc(from, to)} style={{ opacity: String(0.85 - 0.75 * age) }} />;
      })}
      {actors.map((who) => {
        const place = places.get(who);
        return place && <Actor key={who} who={who} place={place} done={cast.lastDone.get(who)} newest={newest} />;
      })}
    </svg>
  );
}

interface ActorProps {
  readonly who: string;
  readonly place: Place;
  readonly done: ObservedEvent | undefined;
  readonly newest: number;
}

function Actor({ who, place, done, newest }: ActorProps): JSX.Element {
  const right = Math.cos(place.turn) >= 0;
  const recent = done !== undefined && newest - done.seq < 6;
  return (
    <g class={`actor kind-${done === undefined ? 'read' : kindOf(done.type).family}${recent ? ' actor-recent' : ''}`}>
      <circle cx={place.x} cy={place.y} r={recent ? 8 : 5} />
      <text
        x={place.x + (right ? 13 : -13) * Math.max(0.25, Math.abs(Math.cos(place.turn)))}
        y={place.y + 4 + 15 * Math.sin(place.turn)}
        text-anchor={Math.abs(Math.cos(place.turn)) < 0.2 ? 'middle' : right ? 'start' : 'end'}
      >
        {plain(shortAddress(who))}
      </text>
    </g>
  );
}

/** Addresses are the kernel's own, but this page takes nobody's word for it. */
function plain(text: string): string {
  return visibleParts(text)
    .map(({ text: shown, odd }) => odd?.code ?? shown)
    .join('');
}

/** A curve through the inside of the ring; a message to oneself is a small loop outwards. */
function arc(from: Place, to: Place): string {
  if (from === to) {
    const x = from.x + 26 * Math.cos(from.turn);
    const y = from.y + 26 * Math.sin(from.turn);
    return `M${from.x} ${from.y}Q${x + 12} ${y} ${from.x} ${from.y}`;
  }
  return `M${from.x} ${from.y}Q${MIDDLE_X} ${MIDDLE_Y} ${to.x} ${to.y}`;
}
