/** `JSON.stringify` of a string, without its fixed cost for short plain ones: keys, mostly. */

/** Beyond this, looking at each character costs more than it saves. */
const MAX_PLAIN_LENGTH = 48;

export function jsonString(text: string): string {
  if (text.length > MAX_PLAIN_LENGTH) return JSON.stringify(text);
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    // Anything but printable ASCII, and what JSON escapes: quote and backslash.
    if (unit < 0x20 || unit > 0x7e || unit === 0x22 || unit === 0x5c) return JSON.stringify(text);
  }
  return `"${text}"`;
}
