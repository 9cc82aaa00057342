/** What changed between two texts, line by line or word by word, as text nodes. */
import { type Change, diffLines, diffWordsWithSpace } from 'diff';
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { SafeText } from '../text.js';
import { cutText } from '../visible-text.js';

/** Comparing stops after this long; texts so different are shown one after the other. */
const TIME_LIMIT_MS = 300;
const MAX_PART = 4_000;
/** Unchanged text longer than this is folded to its two ends. */
const FOLD_OVER = 400;
const FOLD_KEEP = 120;

export function Diff({ before, after }: { readonly before: string; readonly after: string }): JSX.Element {
  const [unfolded, setUnfolded] = useState(false);
  const changes = useMemo(() => compare(before, after), [before, after]);
  if (before === after) return <p class="faint">The same value was written again.</p>;
  const parts = unfolded ? changes : changes.map(fold);
  const folded = parts.some((part, index) => part.value !== changes[index]?.value);
  return (
    <>
      <div class="content diff" tabIndex={0} role="region" aria-label="Change">
        {parts.map((part, index) => {
          const body = <SafeText text={part.value} />;
          if (part.added) return <ins key={index}>{body}</ins>;
          if (part.removed) return <del key={index}>{body}</del>;
          return <span key={index}>{body}</span>;
        })}
      </div>
      {folded && (
        <button type="button" class="button small" onClick={() => setUnfolded(true)}>
          Show all of both
        </button>
      )}
    </>
  );
}

function compare(before: string, after: string): Change[] {
  const byLines = before.includes('\n') || after.includes('\n');
  const options = { timeout: TIME_LIMIT_MS };
  const changes = byLines ? diffLines(before, after, options) : diffWordsWithSpace(before, after, options);
  if (changes !== undefined) return changes;
  return [
    { value: before, added: false, removed: true, count: 1 },
    { value: after, added: true, removed: false, count: 1 },
  ];
}

function fold(change: Change): Change {
  const { value } = change;
  if (change.added || change.removed) {
    return value.length <= MAX_PART ? change : { ...change, value: `${cutText(value, MAX_PART)}…` };
  }
  if (value.length <= FOLD_OVER) return change;
  return { ...change, value: `${cutText(value, FOLD_KEEP)} … ${value.slice(-FOLD_KEEP).toWellFormed()}` };
}
