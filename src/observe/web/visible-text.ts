/**
 * Makes hostile text visible: characters that hide, reorder or imitate are cut out of the text and named by their code.
 * Owns:  which characters those are. What is left is shown as it is, in an isolated run.
 * Never: changes what is stored or searched; makes markup of text.
 */
export interface TextPart {
  readonly text: string;
  /** `U+202E` when the part is one such character, with its name; null for plain text. */
  readonly odd: { readonly code: string; readonly name: string } | null;
}

// C0 and C1 controls but tab and newline; soft hyphen; Arabic letter mark; Hangul and Khmer fillers; Mongolian separator;
// zero-width and bidi controls; line separators; invisible operators; byte order mark; interlinear marks; tags; surrogates.
const ODD_RANGES =
  '\\0-\\x08 \\x0b-\\x1f \\x7f-\\x9f \\xad \\u034f \\u061c \\u115f-\\u1160 \\u17b4-\\u17b5 \\u180b-\\u180f \\u200b-\\u200f ' +
  '\\u2028-\\u202e \\u2060-\\u206f \\u3164 \\ufeff \\uffa0 \\ufff0-\\ufffb \\u{e0000}-\\u{e0fff} \\p{Surrogate}';
const ODD = new RegExp(`[${ODD_RANGES.replaceAll(' ', '')}]`, 'gu');

const NAMES: Readonly<Record<number, string>> = {
  0: 'null',
  7: 'bell',
  8: 'backspace',
  13: 'carriage return',
  27: 'escape',
  127: 'delete',
  173: 'soft hyphen',
  1564: 'Arabic letter mark',
  8203: 'zero-width space',
  8204: 'zero-width non-joiner',
  8205: 'zero-width joiner',
  8206: 'left-to-right mark',
  8207: 'right-to-left mark',
  8232: 'line separator',
  8233: 'paragraph separator',
  8234: 'left-to-right embedding',
  8235: 'right-to-left embedding',
  8236: 'pop directional formatting',
  8237: 'left-to-right override',
  8238: 'right-to-left override',
  8288: 'word joiner',
  8294: 'left-to-right isolate',
  8295: 'right-to-left isolate',
  8296: 'first strong isolate',
  8297: 'pop directional isolate',
  65279: 'byte order mark',
};

const EMOJI_BEFORE = /(?:\p{Extended_Pictographic}|\p{Emoji_Modifier}|\ufe0f)$/u;
const EMOJI_AFTER = /^\p{Extended_Pictographic}/u;

/** Splits text into plain runs and odd characters. A zero-width joiner inside an emoji is part of it, not odd. */
export function visibleParts(text: string): TextPart[] {
  const parts: TextPart[] = [];
  let from = 0;
  for (const match of text.matchAll(ODD)) {
    const at = match.index;
    const [character] = match;
    if (character === '\u200d' && joinsEmoji(text, at)) continue;
    if (at > from) parts.push({ text: text.slice(from, at), odd: null });
    const codePoint = character.codePointAt(0) ?? 0;
    parts.push({ text: character, odd: { code: codeOf(codePoint), name: nameOf(codePoint) } });
    from = at + character.length;
  }
  if (from < text.length) parts.push({ text: text.slice(from), odd: null });
  return parts;
}

function joinsEmoji(text: string, at: number): boolean {
  return EMOJI_BEFORE.test(text.slice(Math.max(0, at - 2), at)) && EMOJI_AFTER.test(text.slice(at + 1, at + 3));
}

function codeOf(codePoint: number): string {
  return `U+${codePoint.toString(16).toUpperCase().padStart(4, '0')}`;
}

function nameOf(codePoint: number): string {
  const name = NAMES[codePoint];
  if (name !== undefined) return name;
  if (codePoint >= 0xe0000) return 'invisible tag character';
  return codePoint >= 0xd800 && codePoint <= 0xdfff ? 'half a surrogate pair' : 'control character';
}

/** At most `maxLength` UTF-16 units, never half a pair. */
export function cutText(text: string, maxLength: number): string {
  if (text.length <= maxLength) return text;
  const last = text.charCodeAt(maxLength - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? maxLength - 1 : maxLength);
}

/** The beginning of a text on one line, for lists: runs of white space become one space. */
export function oneLine(text: string, maxLength: number): string {
  const start = cutText(text, maxLength * 2).replace(/[\t\n\r ]+/g, ' ');
  return start.length > maxLength || text.length > maxLength * 2 ? `${cutText(start, maxLength)}\u2026` : start;
}
