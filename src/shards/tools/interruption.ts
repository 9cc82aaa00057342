/**
 * What is to be undone when a signal ends a tool: directories it made for itself.
 * Owns:  the list of it.
 * Never: calls process.exit: Node.js waits for its I/O threads then, and one that writes to LMDB may wait for this thread.
 */
const undoings = new Set<() => void>();

/** `undo` is synchronous. Call what is returned when it is no longer to be done. */
export function undoneBySignal(undo: () => void): () => void {
  undoings.add(undo);
  return () => undoings.delete(undo);
}

/** Undoes, and ends the process as the signal does by default: at once, whatever its threads are at. */
export function endBySignal(signal: NodeJS.Signals): void {
  for (const undo of undoings) undo();
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}
