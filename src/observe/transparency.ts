/**
 * What was removed by law, and why: `transparency.ndjson` in the data directory, as observers read it.
 * Never:     writes it. Cost of a look: one `stat` when nothing is new. Memory: one entry for each removal.
 */
import { Buffer } from 'node:buffer';
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { TransparencyEntry } from '../contract/redaction.js';

const NEWLINE = 0x0a;

export class TransparencyLog {
  readonly removals: TransparencyEntry[] = [];
  private readonly byMessage = new Map<string, TransparencyEntry>();
  private readonly byKey = new Map<string, TransparencyEntry>();
  private readonly path: string;
  private readBytes = 0;

  constructor(dataDir: string) {
    this.path = join(dataDir, 'transparency.ndjson');
    this.refresh();
  }

  /** Takes in what was added since the last look, and returns it. */
  refresh(): readonly TransparencyEntry[] {
    const sizeBytes = statSync(this.path, { throwIfNoEntry: false })?.size ?? 0;
    if (sizeBytes === this.readBytes) return [];
    if (sizeBytes < this.readBytes) this.startAnew();
    const bytes = this.readTo(sizeBytes);
    const wholeBytes = bytes.lastIndexOf(NEWLINE) + 1;
    this.readBytes += wholeBytes;
    const added: TransparencyEntry[] = [];
    for (const line of bytes.toString('utf8', 0, wholeBytes).split('\n')) {
      if (line !== '') added.push(this.add(JSON.parse(line) as TransparencyEntry));
    }
    return added;
  }

  /** Why the content of a message was removed. */
  ofMessage(messageId: string): TransparencyEntry | undefined {
    return this.byMessage.get(messageId);
  }

  /** Why the value of a state key was removed, the last time it was. */
  ofKey(key: string): TransparencyEntry | undefined {
    return this.byKey.get(key);
  }

  private add(removal: TransparencyEntry): TransparencyEntry {
    this.removals.push(removal);
    if (removal.message_id !== undefined) this.byMessage.set(removal.message_id, removal);
    if (removal.key !== undefined) this.byKey.set(removal.key, removal);
    return removal;
  }

  /** It was replaced, as by a restore. */
  private startAnew(): void {
    this.removals.length = 0;
    this.byMessage.clear();
    this.byKey.clear();
    this.readBytes = 0;
  }

  private readTo(sizeBytes: number): Buffer {
    const bytes = Buffer.alloc(sizeBytes - this.readBytes);
    const fd = openSync(this.path, 'r');
    try {
      return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, this.readBytes));
    } finally {
      closeSync(fd);
    }
  }
}
