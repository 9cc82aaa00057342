/** How a tool tells how far it is. Whoever shows it decides when and where; see src/admin/commands/progress.ts. */
export interface Progress {
  /** A stage of known size begins; the one before it is over. */
  stage(name: string, totalBytes: number): void;
  /** So much more of the stage is done. Cheap: may be called for every line. */
  advance(bytes: number): void;
}

export const NO_PROGRESS: Progress = { stage() {}, advance() {} };
