/**
 * Percent-decoding of paths and query strings: once, strictly. Pure.
 *
 * uWebSockets.js hands over the target as a string in which bytes that are not valid UTF-8 have become U+FFFD. A raw
 * U+FFFD can thus stand for anything, so it is refused; who means that character writes `%EF%BF%BD`. Other raw UTF-8 is
 * taken as it is. (Raw NUL, tab and other control bytes never get here: the native parser refuses them.)
 */
import { ApiError } from '../contract/errors.js';

const REPLACEMENT = '\uFFFD';

/**
 * Decodes once: `%2541` is `%41`. `+` stays a plus. Costs one scan when there is no `%`.
 * @throws ApiError `bad_request` for a malformed escape, and for bytes that are not well-formed UTF-8.
 */
export function percentDecode(raw: string): string {
  if (raw.includes(REPLACEMENT)) throw malformed();
  if (!raw.includes('%')) return raw;
  try {
    return decodeURIComponent(raw); // strict: rejects short escapes, overlong forms, surrogates
  } catch {
    throw malformed();
  }
}

/** As `percentDecode`, and `+` is a space, as forms write it. */
export function queryDecode(raw: string): string {
  return percentDecode(raw.includes('+') ? raw.replaceAll('+', ' ') : raw);
}

function malformed(): ApiError {
  return new ApiError('bad_request', 'The path or query is malformed: percent-encode it once, as UTF-8.');
}
