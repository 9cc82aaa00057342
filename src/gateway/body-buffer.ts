import { Buffer } from 'node:buffer';
/**
 * Gathering a request body that comes in pieces, within one byte budget for all requests of a listener.
 * Owns:      copies of the chunks; uWebSockets.js empties its own when the callback returns.
 * Never:     takes more of the budget than it allocates, or keeps any after `release`.
 */
export class BodyBudget {
  usedBytes = 0;

  constructor(readonly maxBytes: number) {}

  take(bytes: number): boolean {
    if (this.usedBytes + bytes > this.maxBytes) return false;
    this.usedBytes += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.usedBytes -= bytes;
  }
}

const SMALLEST_BYTES = 4096;

/** One growing block rather than a list of chunks: a client that sends single bytes must not cost an object for each. */
export class BodyBuffer {
  private block: Buffer = EMPTY;
  private usedBytes = 0;

  constructor(private readonly budget: BodyBudget) {}

  get sizeBytes(): number {
    return this.usedBytes;
  }

  /** False when the budget is used up; the body is then incomplete and must be refused. */
  append(chunk: Uint8Array): boolean {
    const neededBytes = this.usedBytes + chunk.length;
    if (neededBytes > this.block.length && !this.grow(neededBytes)) return false;
    this.block.set(chunk, this.usedBytes);
    this.usedBytes = neededBytes;
    return true;
  }

  /** What has been appended; valid until `release`. */
  view(): Buffer {
    return this.block.subarray(0, this.usedBytes);
  }

  release(): void {
    this.budget.giveBack(this.block.length);
    this.block = EMPTY;
    this.usedBytes = 0;
  }

  private grow(neededBytes: number): boolean {
    const blockBytes = Math.max(SMALLEST_BYTES, neededBytes, Math.min(this.block.length * 2, neededBytes + (1 << 20)));
    if (!this.budget.take(blockBytes)) return false;
    const larger = Buffer.allocUnsafeSlow(blockBytes);
    larger.set(this.view());
    this.budget.giveBack(this.block.length);
    this.block = larger;
    return true;
  }
}

const EMPTY = Buffer.alloc(0);
