/** One event in a short list: its number, which leads to it in the feed, when, what, and `children` for the rest. */
import type { ComponentChildren, JSX } from 'preact';
import type { ObservedEvent } from './api.js';
import { Kind } from './event-kinds.js';
import { whole } from './format.js';
import { href } from './router.js';
import { Time } from './text.js';

export function LatestLine(props: {
  readonly event: ObservedEvent;
  readonly children: ComponentChildren;
}): JSX.Element {
  const { seq, ts, type } = props.event;
  return (
    <li>
      <a class="seq mono" href={href('events', '', { seq: String(seq) })}>
        {whole(seq)}
      </a>
      <Time ts={ts} />
      <Kind type={type} />
      {props.children}
    </li>
  );
}
