/** What the loads of one run share: whether requests may fail, and a clock that counts what happens. */
export class CrashClock {
  private ticks = 0;
  /** From the moment the server may die until it is started again: only then may a request get no answer. */
  isCrashing = false;
  crashes = 0;

  /** Rises with every call. */
  tick(): number {
    this.ticks += 1;
    return this.ticks;
  }

  crash(): void {
    this.isCrashing = true;
    this.crashes += 1;
  }

  restarted(): void {
    this.isCrashing = false;
  }
}

/** Repeats `step` until a crash; only then may it fail. Resolves when it has ended. */
export async function lane(clock: CrashClock, step: (turn: number) => Promise<void>): Promise<void> {
  for (let turn = 0; !clock.isCrashing; turn++) {
    try {
      await step(turn);
    } catch (error) {
      if (clock.isCrashing) return;
      throw error;
    }
  }
}
