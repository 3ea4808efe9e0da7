// Forms of signed JSON. One description reads a value (every member once, with its own kind of
// value) and writes it (compact, members in the order of the description).

import { compare, unbase64url, utf8 } from './bytes.ts';
import { isPlain, type Json } from './strict.ts';

export interface Form {
  /** Checks a value; `where` names it in a refusal. */
  check(value: Json | undefined, where: string): void;
  /** Writes a value that was checked. */
  write(value: Json): string;
}

const refuse = (where: string, rule: string): never => {
  throw new Error(`${where} ${rule}`);
};

export function str(test: (value: string) => boolean, rule: string): Form {
  return {
    check: (v, where) => {
      if (typeof v !== 'string' || !isPlain(v) || !test(v)) refuse(where, `must be ${rule}`);
    },
    write: (v) => JSON.stringify(v),
  };
}

export function int(min: number, max: number = Number.MAX_SAFE_INTEGER): Form {
  return {
    check: (v, where) => {
      if (!Number.isSafeInteger(v) || (v as number) < min || (v as number) > max) refuse(where, `must be ${min} to ${max}`);
    },
    write: (v) => String(v),
  };
}

export const word = (...words: string[]): Form => str((v) => words.includes(v), `one of ${words.join(', ')}`);

export const count = (...numbers: number[]): Form => {
  const form = int(0);
  return { ...form, check: (v, w) => (numbers.includes(v as number) ? form.check(v, w) : refuse(w, `must be one of ${numbers.join(', ')}`)) };
};

export function nullable(of: Form): Form {
  return {
    check: (v, where) => {
      if (v !== null) of.check(v, where);
    },
    write: (v) => (v === null ? 'null' : of.write(v)),
  };
}

/** Members in their order; a name that ends in `?` may be missing. */
export function obj(members: Record<string, Form>): Form {
  const rows = Object.entries(members).map(([name, form]) => ({
    name: name.replace('?', ''),
    optional: name.endsWith('?'),
    form,
  }));
  return {
    check: (v, where) => {
      if (v === null || typeof v !== 'object' || Array.isArray(v)) return refuse(where, 'must be an object');
      for (const name of Object.keys(v)) if (!rows.some((row) => row.name === name)) refuse(`${where}.${name}`, 'is not known');
      for (const { name, optional, form } of rows) {
        if (!(name in v)) {
          if (!optional) refuse(`${where}.${name}`, 'is missing');
        } else form.check(v[name], `${where}.${name}`);
      }
    },
    write: (v) => {
      const o = v as { [member: string]: Json };
      const parts = rows
        .filter((row) => o[row.name] !== undefined)
        .map((row) => `${JSON.stringify(row.name)}:${row.form.write(o[row.name] as Json)}`);
      return `{${parts.join(',')}}`;
    },
  };
}

/** A value that is one of several, its name the only member; or one of the plain words. */
export function oneOf(cases: Record<string, Form>, ...words: string[]): Form {
  const only = (v: Json | undefined): [string, Json] | null => {
    if (v === null || typeof v !== 'object' || Array.isArray(v)) return null;
    const entries = Object.entries(v);
    return entries.length === 1 ? (entries[0] as [string, Json]) : null;
  };
  return {
    check: (v, where) => {
      if (typeof v === 'string' && words.includes(v)) return;
      const found = only(v);
      const form = found && Object.hasOwn(cases, found[0]) ? cases[found[0]] : undefined;
      if (!found || !form) return refuse(where, `must be one of ${[...words, ...Object.keys(cases)].join(', ')}`);
      form.check(found[1], `${where}.${found[0]}`);
    },
    write: (v) => {
      if (typeof v === 'string') return JSON.stringify(v);
      const [name, value] = only(v) as [string, Json];
      return `{${JSON.stringify(name)}:${(cases[name] as Form).write(value)}}`;
    },
  };
}

/** How the elements of a set are ordered: by bytes of keys, or by text. */
export type Order = (element: Json) => Uint8Array;

export const byKey = (member?: string): Order => (e) =>
  unbase64url(String(member ? (e as { [m: string]: Json })[member] : e), 32);
export const byText = (member?: string): Order => (e) =>
  utf8(String(member ? (e as { [m: string]: Json })[member] : e));

/** A set: sorted, each element once. */
export function set(of: Form, min: number, max: number, order: Order): Form {
  return {
    check: (v, where) => {
      if (!Array.isArray(v)) return refuse(where, 'must be a list');
      if (v.length < min || v.length > max) refuse(where, `has ${v.length} elements, allowed are ${min} to ${max}`);
      v.forEach((e, i) => of.check(e, `${where}[${i}]`));
      const keys = v.map(order);
      for (let i = 1; i < keys.length; i++)
        if (compare(keys[i - 1] as Uint8Array, keys[i] as Uint8Array) >= 0) refuse(where, 'is not sorted, or an element stands twice');
    },
    write: (v) => `[${(v as Json[]).map((e) => of.write(e)).join(',')}]`,
  };
}

export const sorted = <T extends Json>(list: readonly T[], order: Order): T[] =>
  [...list].sort((a, b) => compare(order(a), order(b)));
