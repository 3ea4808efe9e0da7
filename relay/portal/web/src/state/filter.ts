// The filter line: words and terms, the same grammar as `qb node list --where`.

import type { NodeView } from '../api/views.ts';
import { cents } from './format.ts';

const UNITS: Record<string, number> = { s: 1_000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 };

function time(text: string): number | null {
  const found = /^(\d+(?:\.\d+)?)(s|m|min|h|d)?$/.exec(text);
  return found ? Number(found[1]) * (UNITS[found[2] ?? 's'] as number) : null;
}

const compare = (have: number | null, op: string, want: number): boolean => have !== null && (op === '>' ? have > want : op === '<' ? have < want : have === want);

/** Size and free bytes of the disk: of the last report, else of the knock. */
export function diskOf(n: NodeView): { whole: number; free: number } | null {
  if (n.disk_bytes != null && n.disk_free_bytes != null) return { whole: n.disk_bytes, free: n.disk_free_bytes };
  return n.facts ? { whole: n.facts.disk_bytes, free: n.facts.disk_free_bytes } : null;
}
export function diskCents(n: NodeView): number | null {
  const disk = diskOf(n);
  return disk ? cents(disk.whole - disk.free, disk.whole) : null;
}
export const memoryCents = (n: NodeView): number | null => (n.facts && n.memory_used_bytes !== null ? cents(n.memory_used_bytes, n.facts.memory_bytes) : null);
export const loadCents = (n: NodeView): number | null => (n.facts && n.load_milli !== null ? Math.min(100, Math.round(n.load_milli / 10 / Math.max(1, n.facts.cores))) : null);

export type Order = 'name' | 'state' | 'zone' | 'load' | 'memory' | 'disk' | 'report';
const ORDERS: Record<Order, (n: NodeView) => string | number | null> = {
  name: (n) => n.name,
  state: (n) => n.waiting_on?.text ?? n.state,
  zone: (n) => n.facts?.zone ?? '',
  load: loadCents,
  memory: memoryCents,
  disk: diskCents,
  report: (n) => n.report_age_ms,
};

/** The order that an address asks for: `sort=disk`, `sort=-disk` for the other way round. */
export function orderOf(query: URLSearchParams): [Order, boolean] {
  const text = query.get('sort') ?? 'name';
  const order = text.replace(/^-/, '');
  return Object.hasOwn(ORDERS, order) ? [order as Order, text.startsWith('-')] : ['name', false];
}

/** Sorted; what is not known comes last, equals by name. */
export function sortNodes(list: readonly NodeView[], [order, down]: [Order, boolean]): NodeView[] {
  const of = ORDERS[order];
  const rows = list.map((n) => [of(n), n] as const);
  rows.sort(([a, m], [b, n]) => {
    if (a === null || b === null) return Number(a === null) - Number(b === null) || (m.name < n.name ? -1 : 1);
    if (a === b) return m.name < n.name ? -1 : 1;
    return (a < b ? -1 : 1) * (down ? -1 : 1);
  });
  return rows.map(([, n]) => n);
}

/** A machine that only the relay heard: its knock is marked, and its words are asked for. */
export const cameByRelay = (n: NodeView): boolean => n.state === 'waiting' && n.roles.includes('came through the relay');

/** A test for the words and terms of a filter; null for a term that is none. */
export function nodeFilter(line: string): ((node: NodeView) => boolean) | null {
  const tests: ((n: NodeView) => boolean)[] = [];
  for (const word of line.toLowerCase().split(/\s+/).filter(Boolean)) {
    const term = /^([a-z]+)([:><])(.+)$/.exec(word);
    if (!term) {
      tests.push((n) => [n.name, n.fingerprint, n.id.toLowerCase(), ...(n.facts?.addresses ?? []), ...n.labels].some((t) => t.toLowerCase().includes(word)));
      continue;
    }
    const [, name, op, value] = term as unknown as [string, string, string, string];
    const number = Number(value.replace(/%$/, ''));
    if (name === 'state' && op === ':') tests.push((n) => n.state.startsWith(value));
    else if (name === 'zone' && op === ':') tests.push((n) => (n.facts?.zone ?? '') === value);
    else if (name === 'cluster' && op === ':') tests.push((n) => n.cluster === value);
    else if (name === 'os' && op === ':') tests.push((n) => (n.facts?.os ?? '').toLowerCase().includes(value));
    else if (name === 'role' && op === ':') tests.push((n) => n.roles.includes(value) || (n.role ?? '').startsWith(value));
    else if (name === 'label' && op === ':') tests.push((n) => n.labels.some((l) => l.toLowerCase().startsWith(value)));
    else if (name === 'disk' && Number.isFinite(number)) tests.push((n) => compare(diskCents(n), op, number));
    else if (name === 'mem' && Number.isFinite(number)) tests.push((n) => compare(memoryCents(n), op, number));
    else if (name === 'cpu' && Number.isFinite(number)) tests.push((n) => compare(loadCents(n), op, number));
    else if (name === 'silent' && time(value) !== null) tests.push((n) => compare(n.report_age_ms, op === ':' ? '>' : op, time(value) as number));
    else return null;
  }
  return (n) => tests.every((t) => t(n));
}
