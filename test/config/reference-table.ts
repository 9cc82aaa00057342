import { SETTING_PATHS, settingOf } from '../../src/config/settings.js';

/** The reference table of docs/configuration.md, as it must stand there. */
export function referenceTable(): string {
  const rows = SETTING_PATHS.map((path) => {
    const { shownDefault, parser, description } = settingOf(path);
    // A default in words is not something to paste.
    const shownCell =
      parser.parse([shownDefault]) !== undefined || shownDefault === '[]' ? `\`${shownDefault}\`` : shownDefault;
    return `| \`${path}\` | ${shownCell} | ${parser.expected} | ${description} |`;
  });
  return ['| key | default | value | meaning |', '|---|---|---|---|', ...rows].join('\n');
}
