/**
 * Reads the configuration file: YAML 1.2, every mistake with its line.
 * Owns:  the walk over the document; unknown and repeated keys.
 * Never: hands out a value that its setting does not accept, or reads any other file.
 */
import { readFileSync } from 'node:fs';
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  type YAMLError,
} from 'yaml';
import { type GivenValues, shown } from './given-values.js';
import { nearest } from './nearest.js';
import { ADMIN_KEY_ENV_NAME, isSettingPath, SETTING_PATHS, type SettingPath, settingOf } from './settings.js';

/** Every mapping that holds settings: `observe`, `observe.websocket`, ... */
const SECTIONS: readonly string[] = [
  ...new Set(
    SETTING_PATHS.flatMap((path) => {
      const parts = path.split('.');
      return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('.'));
    }),
  ),
];

interface YamlFile {
  readonly name: string;
  readonly document: Document.Parsed;
  readonly lines: LineCounter;
  readonly given: GivenValues;
}

/** Adds the settings of `file`, or what is wrong with it. Reads synchronously: called once, before anything is served. */
export function addYamlFile(file: string, given: GivenValues): void {
  const text = readText(file, given);
  if (text === undefined) return;
  const lines = new LineCounter();
  // Repeated keys are found in the walk, which can say which key it is and where it stood first.
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: false,
    logLevel: 'error', // at 'silent' it would pass over a second document
  });
  const mistakes = [...document.errors, ...document.warnings];
  if (mistakes.length > 0) {
    for (const mistake of mistakes) {
      const { line, col } = lines.linePos(mistake.pos[0]);
      given.errors.push(`${file}:${line}: not valid YAML at column ${col}: ${plain(mistake)}`);
    }
    return;
  }
  const yamlFile: YamlFile = { name: file, document, lines, given };
  const root = resolved(yamlFile, document.contents);
  if (root === null || isNull(root)) return;
  if (!isMap(root)) {
    given.errors.push(`${origin(yamlFile, root)}: the top level is ${written(root)}; expected a mapping of settings`);
    return;
  }
  addMapping(yamlFile, root.items, '');
}

function plain(mistake: YAMLError): string {
  return mistake.code === 'MULTIPLE_DOCS' ? 'the file may hold one document only' : mistake.message;
}

function readText(file: string, given: GivenValues): string | undefined {
  let content: Buffer;
  try {
    content = readFileSync(file);
  } catch (error) {
    given.errors.push(`${file}: cannot be read: ${reason(error)}`);
    return undefined;
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(content);
  } catch {
    given.errors.push(`${file}: is not UTF-8 text`);
    return undefined;
  }
}

function reason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') return 'there is no such file';
  if (code === 'EISDIR') return 'it is a directory';
  if (code === 'EACCES') return 'permission denied';
  return error instanceof Error ? error.message : String(error);
}

function addMapping(file: YamlFile, pairs: readonly Pair[], section: string): void {
  const firstLines = new Map<string, number>();
  for (const pair of pairs) {
    const key = resolved(file, pair.key);
    const where = origin(file, key);
    if (!isScalar(key)) {
      file.given.errors.push(`${where}: a key is ${written(key)}; expected the name of a setting`);
      continue;
    }
    const path = section === '' ? scalarText(key) : `${section}.${scalarText(key)}`;
    const firstLine = firstLines.get(path);
    if (firstLine !== undefined) {
      file.given.errors.push(`${where}: ${path} is given twice, first on line ${firstLine}`);
      continue;
    }
    firstLines.set(path, lineOf(file, key));
    addPair(file, path, where, resolved(file, pair.value));
  }
}

function addPair(file: YamlFile, path: string, where: string, value: Node | null): void {
  if (isSettingPath(path)) {
    addSetting(file, path, where, value);
  } else if (!SECTIONS.includes(path)) {
    file.given.errors.push(`${where}: ${path} is not a known key${hint(path)}`);
  } else if (isMap(value)) {
    addMapping(file, value.items as Pair[], path);
  } else if (value !== null && !isNull(value)) {
    // A section whose lines are all commented out is null, and fine.
    file.given.errors.push(`${where}: ${path} is ${written(value)}; expected a mapping of settings`);
  }
}

function hint(path: string): string {
  if (path === 'admin.key') return `; the admin key comes from the environment, as ${ADMIN_KEY_ENV_NAME}`;
  const meant = nearest(path, [...SETTING_PATHS, ...SECTIONS]);
  return meant === undefined ? '' : `; did you mean ${meant}?`;
}

function addSetting(file: YamlFile, path: SettingPath, where: string, value: Node | null): void {
  if (value === null || isNull(value)) return; // a key without a value keeps its default
  if (isScalar(value)) {
    const text = scalarText(value);
    file.given.add(path, [text], where, shown(text));
  } else if (isSeq(value) && settingOf(path).parser.isList) {
    addList(file, path, where, value.items);
  } else {
    file.given.refuse(path, where, `is ${written(value)}`);
  }
}

/** Each bad item is reported with its own line and place. */
function addList(file: YamlFile, path: SettingPath, where: string, items: readonly unknown[]): void {
  const texts: string[] = [];
  let allFit = true;
  items.forEach((item, index) => {
    const node = resolved(file, item);
    const text = isScalar(node) && !isNull(node) ? scalarText(node) : undefined;
    if (text !== undefined && settingOf(path).parser.parse([text]) !== undefined) {
      texts.push(text);
    } else {
      allFit = false;
      file.given.refuse(path, origin(file, node), `item ${index + 1} is ${written(node)}`);
    }
  });
  if (allFit) file.given.add(path, texts, where, `[${texts.join(', ')}]`);
}

function resolved(file: YamlFile, value: unknown): Node | null {
  const node = value as Node | null | undefined;
  // An alias without anchor stays what it is, and fits nowhere: as null it would pass for a key without value.
  if (isAlias(node)) return node.resolve(file.document) ?? node;
  return node ?? null;
}

/** Numbers and booleans as they were written: `1e3` or `0x10` must not slip through as a number. */
function scalarText(node: { value: unknown; source?: string }): string {
  return typeof node.value === 'string' ? node.value : (node.source ?? String(node.value));
}

function isNull(node: Node): boolean {
  return isScalar(node) && node.value === null;
}

function written(node: Node | null): string {
  if (node === null || isNull(node)) return 'empty';
  if (isMap(node)) return 'a mapping';
  if (isSeq(node)) return 'a list';
  if (isAlias(node)) return `${shown(`*${node.source}`)}, an alias without an anchor`;
  return isScalar(node) ? shown(scalarText(node)) : 'unreadable';
}

function lineOf(file: YamlFile, node: Node | null): number {
  return file.lines.linePos(node?.range?.[0] ?? 0).line;
}

function origin(file: YamlFile, node: Node | null): string {
  return `${file.name}:${lineOf(file, node)}`;
}
