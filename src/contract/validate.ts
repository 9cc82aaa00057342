/**
 * Turns a parsed JSON body into a typed one, or says in plain words which field breaks which rule.
 * Owns:  the wording of validation errors.
 * Never: changes or copies the value; unknown fields stay where they are and are ignored.
 */
import { Kind, type Static, type TSchema } from '@sinclair/typebox';
import { TypeCompiler } from '@sinclair/typebox/compiler';
import { ApiError } from './errors.js';
import { JSON_VALUE_KIND, UTF8_STRING_KIND } from './schemas.js';

/**
 * Compiles `schema` once (about a millisecond: do it at start-up) into a check for the hot path.
 * The check takes what `JSON.parse` returned and hands back that same value, typed. A success costs well under
 * 0.3 microseconds for short strings, plus one scan of longer non-Latin ones.
 * Throws `ApiError('bad_request')` with a message such as `contact_hash: must be a string of 1 to 256 bytes`.
 */
export function compileBody<Schema extends TSchema>(schema: Schema): (value: unknown) => Static<Schema> {
  const compiled = TypeCompiler.Compile(schema);
  return (value) => {
    if (compiled.Check(value)) return value;
    const error = compiled.Errors(value).First();
    // Check and Errors are two walks over the same schema; should they ever differ, the value is refused all the same.
    if (error === undefined) throw new ApiError('bad_request');
    throw new ApiError('bad_request', `${fieldName(error.path)}: ${brokenRule(error.schema, error.value, error.path)}`);
  };
}

/** `/verification_response/challenge_id` as people write it; the body itself when the path is empty. */
function fieldName(jsonPointer: string): string {
  return jsonPointer === '' ? 'body' : jsonPointer.slice(1).replaceAll('/', '.');
}

function brokenRule(schema: TSchema, value: unknown, jsonPointer: string): string {
  if (value === undefined && jsonPointer !== '') return 'is required';
  const kind = schema[Kind];
  if ((kind === UTF8_STRING_KIND || kind === JSON_VALUE_KIND) && typeof value === 'string' && !value.isWellFormed()) {
    return 'must be well-formed Unicode, without lone surrogates';
  }
  if (kind === UTF8_STRING_KIND) return `must be ${utf8StringRule(schema)}`;
  if (kind === 'Object') return 'must be a JSON object';
  if (kind === 'Array') return `must be a list of ${schema.minItems} to ${schema.maxItems} items`;
  return 'has a wrong type';
}

function utf8StringRule(schema: TSchema): string {
  const minBytes: unknown = schema.minBytes;
  const maxBytes: unknown = schema.maxBytes;
  if (typeof maxBytes === 'number')
    return `a string of ${typeof minBytes === 'number' ? minBytes : 0} to ${maxBytes} bytes`;
  if (minBytes === 1) return 'a non-empty string';
  return typeof minBytes === 'number' && minBytes > 0 ? `a string of at least ${minBytes} bytes` : 'a string';
}
