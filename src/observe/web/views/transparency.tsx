/** Everything that was ever removed, with its reason and what it hashed to. */
import type { JSX } from 'preact';
import { api, type Removal } from '../api.js';
import { plural } from '../format.js';
import { useLoaded } from '../hooks.js';
import { Empty, Loading, PageHead, Trouble } from '../parts.js';
import { Excerpt, Key, SafeText, Time } from '../text.js';
import { useStream } from '../use-stream.js';

const WHAT: Readonly<Record<string, string>> = {
  state_key_removed: 'state key removed',
  message_redacted: 'message redacted',
};
/** Removals come by notice; a type that is rare keeps the stream still otherwise. */
const QUIET_TYPE = 'operator_created';

export function TransparencyView(): JSX.Element {
  const log = useLoaded('removals', (abort) => api.removals(abort), { onRemovals: true });
  useStream(QUIET_TYPE, () => undefined);
  const { data } = log;
  return (
    <>
      <PageHead
        title="Transparency"
        note="Content is removed only where law or safety demands it. What is removed stays listed here: when, why, by whom, and its SHA-256."
      />
      {data === null && log.failure === null && <Loading what="the log" />}
      {data === null && log.failure !== null && <Trouble text={log.failure.message} onRetry={log.reload} />}
      {data !== null && data.removals.length === 0 && (
        <Empty title="Nothing was ever removed">
          <p>Every message and every value is as the agents wrote it.</p>
        </Empty>
      )}
      {data !== null && data.removals.length > 0 && (
        <>
          <p class="note">{plural(data.total, 'removal')}, newest first</p>
          <ol class="removals">
            {data.removals.toReversed().map((removal) => (
              <RemovalItem key={`${removal.ts}${removal.content_hash}`} removal={removal} />
            ))}
          </ol>
        </>
      )}
    </>
  );
}

function RemovalItem({ removal }: { readonly removal: Removal }): JSX.Element {
  return (
    <li>
      <div class="removal-head">
        <strong>{WHAT[removal.action] ?? <Excerpt text={removal.action} length={40} />}</strong>
        <Time ts={removal.ts} withDay />
      </div>
      <dl class="fields">
        <div>
          <dt>{removal.key === undefined ? 'message' : 'key'}</dt>
          <dd>
            {removal.key === undefined ? (
              <span class="mono">
                <SafeText text={removal.message_id ?? ''} />
              </span>
            ) : (
              <Key name={removal.key} length={300} />
            )}
          </dd>
        </div>
        <div>
          <dt>reason</dt>
          <dd>
            <SafeText text={removal.reason} />
          </dd>
        </div>
        <div>
          <dt>by</dt>
          <dd>
            <SafeText text={removal.performed_by} />
          </dd>
        </div>
        <div>
          <dt>SHA-256</dt>
          <dd class="mono hash">
            <SafeText text={removal.content_hash} />
          </dd>
        </div>
      </dl>
    </li>
  );
}
