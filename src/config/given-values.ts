/**
 * Collects what one start of the server was given: checked values with their origin, and every mistake found on the way.
 * Owns:  the wording of "x is y; expected z", and which source beats which (what is added later wins).
 * Never: stops at the first mistake; a bad value is reported even where a better source overrides it.
 */
import type { SettingPath } from './settings.js';
import { settingOf } from './settings.js';

export interface GivenValue {
  readonly value: unknown;
  /** `tabulum.yaml:7`, an environment name, or a flag. */
  readonly origin: string;
}

const MAX_SHOWN_LENGTH = 60;

/** As it was written, in quotes, and no longer than a line can bear. */
export function shown(text: string): string {
  return JSON.stringify(text.length > MAX_SHOWN_LENGTH ? `${text.slice(0, MAX_SHOWN_LENGTH)}...` : text);
}

export class GivenValues {
  readonly errors: string[] = [];
  readonly #values = new Map<SettingPath, GivenValue>();
  readonly #mistaken = new Set<SettingPath>();

  /** Checks and takes a value; `written` is how it stood in its source. */
  add(path: SettingPath, texts: readonly string[], origin: string, written: string): void {
    const value = settingOf(path).parser.parse(texts);
    if (value === undefined) this.refuse(path, origin, `is ${written}`);
    else this.#values.set(path, { value, origin });
  }

  /** `mistake` reads on from the setting's name: `is "10"`. */
  refuse(path: SettingPath, origin: string, mistake: string): void {
    this.#mistaken.add(path);
    this.errors.push(`${origin}: ${path} ${mistake}; expected ${settingOf(path).parser.expected}`);
  }

  get(path: SettingPath): GivenValue | undefined {
    return this.#values.get(path);
  }

  /** False once any source gave a bad value: rules between settings would then be judged on a guess. */
  isSound(path: SettingPath): boolean {
    return !this.#mistaken.has(path);
  }
}
