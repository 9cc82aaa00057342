/** Finds what someone probably meant to write. */

/**
 * Edits (insert, delete, replace, swap neighbours) that turn `from` into `to`: the optimal string alignment distance,
 * the restricted form of Damerau-Levenshtein. Costs the product of the lengths.
 */
export function editDistance(from: string, to: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const same = from[row - 1] === to[column - 1];
      let best = Math.min(
        (previous[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (previous[column - 1] ?? 0) + (same ? 0 : 1),
      );
      if (row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]) {
        best = Math.min(best, (beforePrevious[column - 2] ?? 0) + 1);
      }
      current.push(best);
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[to.length] ?? 0;
}

/** Longer than any known name by far: not worth comparing. */
const MAX_COMPARED_LENGTH = 200;

/**
 * The candidate nearest to `name`, or undefined when none is near: at most a quarter of the letters (and at least two)
 * may differ. A name that only lacks its section (`max_retries`) is near to the one candidate that ends in it.
 */
export function nearest(name: string, candidates: readonly string[]): string | undefined {
  if (name.length > MAX_COMPARED_LENGTH) return undefined;
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(name.length / 4)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(name, candidate);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  if (best !== undefined) return best;
  const lastPart = name.slice(name.lastIndexOf('.') + 1);
  const sameLastPart = candidates.filter((candidate) => candidate.endsWith(`.${lastPart}`));
  return sameLastPart.length === 1 ? sameLastPart[0] : undefined;
}
