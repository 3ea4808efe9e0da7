// Strict JSON: what every implementation of the signed formats reads the same way, and nothing
// else. One object from the first byte to the last; no duplicate member, float, exponent, negative
// or large integer; no character that hides or reorders what people read.

import { text } from './bytes.ts';

export type Json = null | boolean | number | string | Json[] | { [member: string]: Json };

const DEPTH = 8;
const MEMBERS = 4096;
const UNSAFE = /[\u0000-\u001f\u007f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]|\p{Surrogate}/u;

export const isPlain = (value: string): boolean => !UNSAFE.test(value);

/** A text with what cannot be seen shown as an escape. */
export const visible = (value: string): string =>
  isPlain(value)
    ? value
    : Array.from(value, (c) => (isPlain(c) ? c : `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`)).join('');

/** A view with every text in it made visible: what machines say of themselves is signed by nobody. */
export function visibleIn<T>(value: T): T {
  if (typeof value === 'string') return visible(value) as T;
  if (Array.isArray(value)) return value.map(visibleIn) as T;
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, visibleIn(v)])) as T;
}

const ESCAPES: Record<string, string> = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };

export function strict(bytes: Uint8Array, maxBytes: number, nullable: boolean): { [member: string]: Json } {
  if (bytes.length > maxBytes) throw new Error(`text of ${bytes.length} bytes is over its bound of ${maxBytes}`);
  const source = text(bytes);
  if (!source.startsWith('{') || !source.endsWith('}')) throw new Error('text is not one JSON object');
  let at = 0;
  let budget = MEMBERS;

  const fail = (what: string): never => {
    throw new Error(`json is refused at ${at}: ${what}`);
  };
  const space = (): void => {
    while (' \t\n\r'.includes(source[at] ?? 'x')) at++;
  };
  const take = (token: string): void => {
    if (!source.startsWith(token, at)) fail(`${token} expected`);
    at += token.length;
  };
  const spend = (): void => {
    if (--budget < 0) fail('too many members');
  };

  function string(): string {
    take('"');
    let out = '';
    for (;;) {
      const c = source[at++];
      if (c === undefined) return fail('string without end');
      if (c === '"') break;
      if (c !== '\\') {
        if (c < ' ') fail('raw control character');
        out += c;
        continue;
      }
      const escape = source[at++] ?? '';
      if (escape === 'u') {
        const code = source.slice(at, at + 4);
        if (!/^[0-9a-fA-F]{4}$/.test(code)) fail('bad escape');
        out += String.fromCharCode(parseInt(code, 16));
        at += 4;
      } else out += ESCAPES[escape] ?? fail('bad escape');
    }
    if (!isPlain(out)) fail('a string holds a control character or a bidirectional control');
    return out;
  }

  function value(depth: number): Json {
    const c = source[at];
    if (c === '"') return string();
    if (c === '{' || c === '[') {
      if (depth > DEPTH) fail('nesting is too deep');
      return c === '{' ? object(depth) : list(depth);
    }
    if (c === 't') return take('true'), true;
    if (c === 'f') return take('false'), false;
    if (c === 'n') {
      take('null');
      return nullable ? null : fail('null');
    }
    const digits = /^(0|[1-9][0-9]*)(?![0-9.eE])/.exec(source.slice(at, at + 20));
    if (!digits) return fail('a value expected');
    at += digits[0].length;
    const number = Number(digits[0]);
    return Number.isSafeInteger(number) ? number : fail('an integer is above 2^53-1');
  }

  function object(depth: number): { [member: string]: Json } {
    const out = Object.create(null) as { [member: string]: Json };
    take('{');
    space();
    if (source[at] === '}') return at++, out;
    for (;;) {
      space();
      const name = string();
      spend();
      if (name in out) fail('a member stands twice');
      space();
      take(':');
      space();
      out[name] = value(depth + 1);
      space();
      if (source[at] === '}') return at++, out;
      take(',');
    }
  }

  function list(depth: number): Json[] {
    const out: Json[] = [];
    take('[');
    space();
    if (source[at] === ']') return at++, out;
    for (;;) {
      space();
      spend();
      out.push(value(depth + 1));
      space();
      if (source[at] === ']') return at++, out;
      take(',');
    }
  }

  const out = object(1);
  if (at !== source.length) fail('bytes after the object');
  return out;
}
