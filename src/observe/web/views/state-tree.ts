/**
 * A flat key space as a tree. A key is cut behind each `/`, `:` and `.`; a branch with one child only is drawn together with
 * it. Pure: the same keys and open branches give the same rows.
 */

/** What the tree needs to know of a key. */
export interface TreeKey {
  readonly key: string;
  readonly value_length: number;
}

export interface TreeRow {
  /** What this row adds to its parent's path. */
  readonly label: string;
  /** The key, or the common beginning of the keys below. */
  readonly path: string;
  readonly depth: number;
  readonly kind: 'branch' | 'key';
  /** Keys below that are loaded; 1 for a key. */
  readonly count: number;
  readonly entry: TreeKey | null;
}

interface Branch {
  readonly path: string;
  readonly branches: Map<string, Branch>;
  readonly keys: TreeKey[];
  count: number;
}

const PART = /[^/:.]*[/:.]+|[^/:.]+$/g;
/** A key of a thousand separators is cut no further than this. */
const MAX_DEPTH = 24;

/** The parts of a key: each ends with its separators but the last. Never empty for a key that is not. */
export function keyParts(key: string): string[] {
  const parts = key.match(PART) ?? [key];
  if (parts.length <= MAX_DEPTH) return parts;
  return [...parts.slice(0, MAX_DEPTH - 1), parts.slice(MAX_DEPTH - 1).join('')];
}

function newBranch(path: string): Branch {
  return { path, branches: new Map(), keys: [], count: 0 };
}

function grow(keys: readonly TreeKey[]): Branch {
  const root = newBranch('');
  for (const row of keys) {
    let branch = root;
    branch.count++;
    const parts = keyParts(row.key);
    for (let index = 0; index < parts.length - 1; index++) {
      const part = parts[index] ?? '';
      let next = branch.branches.get(part);
      if (next === undefined) {
        next = newBranch(branch.path + part);
        branch.branches.set(part, next);
      }
      next.count++;
      branch = next;
    }
    branch.keys.push(row);
  }
  return root;
}

/** The rows to draw, top to bottom; a branch's children only when its path is in `open`. */
export function treeRows(keys: readonly TreeKey[], open: ReadonlySet<string>): TreeRow[] {
  const rows: TreeRow[] = [];
  const walk = (branch: Branch, depth: number): void => {
    for (const child of branch.branches.values()) {
      let end = child;
      while (end.branches.size === 1 && end.keys.length === 0) end = end.branches.values().next().value ?? end;
      if (end.count === 1 && end.keys.length === 1) {
        const [entry] = end.keys;
        if (entry !== undefined) rows.push(keyRow(entry, branch.path, depth));
        continue;
      }
      const label = end.path.slice(branch.path.length);
      rows.push({ label, path: end.path, depth, kind: 'branch', count: end.count, entry: null });
      if (open.has(end.path)) walk(end, depth + 1);
    }
    for (const entry of branch.keys) rows.push(keyRow(entry, branch.path, depth));
  };
  walk(grow(keys), 0);
  return rows;
}

function keyRow(entry: TreeKey, parentPath: string, depth: number): TreeRow {
  return { label: entry.key.slice(parentPath.length), path: entry.key, depth, kind: 'key', count: 1, entry };
}

/** Paths of all branches above a key: what must be open for it to be seen. */
export function pathsTo(key: string): string[] {
  const paths: string[] = [];
  let path = '';
  for (const part of keyParts(key).slice(0, -1)) {
    path += part;
    paths.push(path);
  }
  return paths;
}
