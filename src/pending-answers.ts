/**
 * Questions put to another thread, by number, each with a time limit.
 * Owns: who waits for which answer.
 */
export class PendingAnswers<T> {
  private readonly waiting = new Map<number, (answer: T) => void>();
  private nextId = 0;

  /** @param post sends the question under this number. Resolves to undefined when no answer comes within `timeoutMs`. */
  ask(timeoutMs: number, post: (id: number) => void): Promise<T | undefined> {
    return new Promise((resolve) => {
      const id = this.nextId++;
      const settle = (answer: T | undefined): void => {
        clearTimeout(timer);
        this.waiting.delete(id);
        resolve(answer);
      };
      const timer = setTimeout(() => settle(undefined), timeoutMs);
      this.waiting.set(id, settle);
      post(id);
    });
  }

  /** Ignores an answer that nobody waits for any more. */
  settle(id: number, answer: T): void {
    this.waiting.get(id)?.(answer);
  }

  /** Answers all that is still waited for. */
  settleAll(answer: T): void {
    for (const settle of [...this.waiting.values()]) settle(answer);
  }
}
