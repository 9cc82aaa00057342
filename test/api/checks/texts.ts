/** Texts and bytes that break careless servers. */

/** Well-formed, and each of them once lost by some store, parser or log. */
export const AWKWARD_TEXTS: readonly string[] = [
  '\0',
  'a\0b',
  Array.from({ length: 32 }, (_, code) => String.fromCharCode(code)).join(''),
  '"quotes" and \'quotes\'',
  'back\\slash \\u0041 \\" \\\\',
  'line\nbreak\r\nand\ttab',
  '\u2028 line and paragraph separator \u2029',
  '\u007f\u0080\u009f',
  '\uFEFF byte order mark',
  '\uFFFD\uFFFE\uFFFF',
  'é è ü ß 漢字 العربية',
  'e\u0301 is not é',
  '😀 👩‍👩‍👧‍👦 🏳️‍🌈',
  '\u{10000}\u{10FFFF}',
  '</script><!-- <>&',
  '/ // /a/ a/b ../..',
  '%41 %2541 %25 % %%',
  '+ plus ? query # hash & and = equals ; :',
  '{"json":"in json"}',
  ' leading and trailing ',
  '__proto__',
  'constructor',
];

/** In JSON escapes: half of a pair, two in the wrong order, one before text. */
export const LONE_SURROGATE_ESCAPES: readonly string[] = [
  '\\ud800',
  '\\udfff',
  'a\\ud83d',
  '\\ude00\\ud83d',
  '\\ud83d\\ud83d\\ude00',
  '\\uD83Dx',
];

export const MALFORMED_UTF8: readonly Buffer[] = [
  [0xff],
  [0x80],
  [0xc3], // cut short
  [0xc0, 0x80], // overlong NUL
  [0xe0, 0x80, 0xaf], // overlong slash
  [0xed, 0xa0, 0x80], // surrogate
  [0xf4, 0x90, 0x80, 0x80], // above U+10FFFF
  [0xf0, 0x9f, 0x98], // cut short
].map((bytes) => Buffer.from(bytes));

/** Bodies that are no JSON object. */
export const NOT_OBJECTS: readonly string[] = [
  '',
  ' ',
  'null',
  'true',
  '1',
  '"text"',
  '[]',
  '[{"value":"x","to":"x","content":"x"}]',
  '{',
  '{}{}',
  "{'value':'x'}",
  '{"value":"x",}',
  '{"value":"x"} trailing',
  '{value:"x"}',
  '\uFEFF{"value":"x","to":"x","content":"x"}',
  '{"value":"tab\there"}',
];
