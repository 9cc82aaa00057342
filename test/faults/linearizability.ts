/**
 * Checks whether one order of a history's operations, each at some moment between its call and its return, explains all
 * that was answered. The search is Wing & Gong's ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of
 * configurations seen ("Testing for linearizability", 2017), as in Porcupine.
 *
 * An operation whose answer was lost has `output` null: it took effect within its time or never. Its time ends when the
 * process that could have done it is dead, so that lost answers of one life do not burden the search in all later ones.
 */

export interface Operation<Input, Output> {
  /** Any clock that all operations share. */
  readonly calledAt: number;
  readonly returnedAt: number;
  readonly input: Input;
  /** null: nobody knows. */
  readonly output: Output | null;
}

export interface Model<State, Input, Output> {
  readonly initial: State;
  /** States that may follow; none when the output is impossible. Must not change `state`. */
  step(state: State, input: Input, output: Output | null): readonly State[];
  /** Equal for equal states. */
  keyOf(state: State): string;
}

/** Past so many configurations the history is too wild to decide. */
const MAX_CONFIGURATIONS = 2_000_000;

/** Why the history is not linearizable: the longest order found, and the operations that could not follow. Null if it is. */
export interface Violation {
  readonly explained: number;
  readonly stuckOn: readonly string[];
}

/** A set of operations, named briefly: all below some place, and those of a short stretch behind it. */
class DoneOperations {
  private readonly done: Uint8Array;
  private firstMissing = 0;
  private end = 0;

  constructor(operations: number) {
    this.done = new Uint8Array(operations);
  }

  add(operation: number): void {
    this.done[operation] = 1;
    this.end = Math.max(this.end, operation + 1);
    while (this.done[this.firstMissing] === 1) this.firstMissing++;
  }

  remove(operation: number): void {
    this.done[operation] = 0;
    this.firstMissing = Math.min(this.firstMissing, operation);
    while (this.end > 0 && this.done[this.end - 1] === 0) this.end--;
  }

  get key(): string {
    return `${this.firstMissing}:${this.done.subarray(this.firstMissing, this.end).join('')}`;
  }
}

interface Entry {
  readonly operation: number;
  readonly isCall: boolean;
  previous: Entry | null;
  next: Entry | null;
  /** Of a call: its return. */
  partner: Entry | null;
}

export function checkLinearizable<State, Input, Output>(
  model: Model<State, Input, Output>,
  operations: readonly Operation<Input, Output>[],
): Violation | null {
  const history = operations.toSorted((a, b) => a.calledAt - b.calledAt);
  const head = entriesOf(history);
  const seen = new Set<string>();
  const done = new DoneOperations(history.length);
  const stack: { readonly entry: Entry; readonly before: State; readonly others: State[] }[] = [];
  let state = model.initial;
  let explained = 0;
  let stuckOn: string[] = [];
  let entry: Entry | null = head.next;

  const take = (call: Entry, next: State, others: State[]): void => {
    stack.push({ entry: call, before: state, others });
    state = next;
    done.add(call.operation);
    lift(call);
    entry = head.next;
  };

  while (head.next !== null) {
    if (entry?.isCall) {
      const { input, output } = history[entry.operation] as Operation<Input, Output>;
      done.add(entry.operation);
      const fresh = model.step(state, input, output).filter((next) => {
        const configuration = `${done.key}|${model.keyOf(next)}`;
        if (seen.has(configuration)) return false;
        seen.add(configuration);
        return true;
      });
      done.remove(entry.operation);
      if (seen.size > MAX_CONFIGURATIONS) throw new Error(`undecided after ${seen.size} configurations`);
      const [next, ...others] = fresh;
      if (next !== undefined) take(entry, next, others);
      else entry = entry.next;
      continue;
    }
    // A return whose operation has not been placed: something before it must be placed otherwise.
    if (stack.length >= explained) {
      explained = stack.length;
      stuckOn = openCalls(head).map((operation) => JSON.stringify(history[operation]));
    }
    const last = stack.pop();
    if (last === undefined) return { explained, stuckOn };
    done.remove(last.entry.operation);
    putBack(last.entry);
    state = last.before;
    const other = last.others.pop();
    if (other !== undefined) take(last.entry, other, last.others);
    else entry = last.entry.next;
  }
  return null;
}

/** Calls and returns in the order of time; a call before a return at the same moment, for both were under way then. */
function entriesOf(history: readonly Operation<unknown, unknown>[]): Entry {
  const timed: { readonly at: number; readonly entry: Entry }[] = [];
  history.forEach(({ calledAt, returnedAt }, operation) => {
    const back: Entry = { operation, isCall: false, previous: null, next: null, partner: null };
    const call: Entry = { operation, isCall: true, previous: null, next: null, partner: back };
    timed.push({ at: calledAt, entry: call }, { at: returnedAt, entry: back });
  });
  timed.sort((a, b) => a.at - b.at || Number(b.entry.isCall) - Number(a.entry.isCall));
  const head: Entry = { operation: -1, isCall: false, previous: null, next: null, partner: null };
  let last = head;
  for (const { entry } of timed) {
    last.next = entry;
    entry.previous = last;
    last = entry;
  }
  return head;
}

function lift(call: Entry): void {
  for (const entry of [call, call.partner]) {
    if (entry === null) continue;
    if (entry.previous !== null) entry.previous.next = entry.next;
    if (entry.next !== null) entry.next.previous = entry.previous;
  }
}

/** In the reverse order of `lift`. */
function putBack(call: Entry): void {
  for (const entry of [call.partner, call]) {
    if (entry === null) continue;
    if (entry.previous !== null) entry.previous.next = entry;
    if (entry.next !== null) entry.next.previous = entry;
  }
}

/** Operations that are under way at the first return that is left. */
function openCalls(head: Entry): number[] {
  const open: number[] = [];
  for (let entry = head.next; entry?.isCall; entry = entry.next) open.push(entry.operation);
  return open;
}

export type KeyInput =
  | { readonly do: 'put'; readonly value: string }
  | { readonly do: 'delete' }
  | { readonly do: 'get' };
/** `value` of a get, and whether a delete found something; null when there was nothing. */
export interface KeyOutput {
  readonly value: string | null;
}

/** One state key; the state is its value. */
export const keyModel: Model<string | null, KeyInput, KeyOutput> = {
  initial: null,
  step(state, input, output) {
    const next = input.do === 'put' ? input.value : input.do === 'delete' ? null : state;
    if (output === null) return next === state ? [state] : [next, state];
    if (input.do === 'get') return output.value === state ? [state] : [];
    if (input.do === 'delete') return (output.value === null) === (state === null) ? [null] : [];
    return [next];
  },
  keyOf: (state) => (state === null ? '-' : `=${state}`),
};

export type QueueInput =
  | { readonly do: 'send'; readonly content: string }
  | { readonly do: 'receive'; readonly limit: number };
export interface QueueOutput {
  readonly contents: readonly string[];
  readonly remaining: number;
}

/** One agent's queue of distinct contents; the state is what waits in it, oldest first. */
export const queueModel: Model<readonly string[], QueueInput, QueueOutput> = {
  initial: [],
  step(state, input, output) {
    if (input.do === 'send') {
      const next = [...state, input.content];
      return output === null ? [next, state] : [next];
    }
    const taken = state.slice(0, input.limit);
    const rest = state.slice(input.limit);
    if (output === null) return taken.length === 0 ? [state] : [rest, state];
    const isRight =
      output.remaining === rest.length &&
      output.contents.length === taken.length &&
      taken.every((content, index) => content === output.contents[index]);
    return isRight ? [rest] : [];
  },
  keyOf: (state) => state.join(' '),
};
