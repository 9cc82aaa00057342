/** One protecting line, and the test that must fail without it. */
export interface Mutation {
  readonly guarantee: string;
  /** What is taken away, in words. */
  readonly without: string;
  /** Below build/src. */
  readonly file: string;
  /** Must match once, or `times`. */
  readonly line: RegExp;
  readonly times?: number;
  readonly instead: string;
  /** Below build/test, and the test in it that must fail. */
  readonly test: string;
  readonly named?: string;
  readonly env?: Readonly<Record<string, string>>;
}
