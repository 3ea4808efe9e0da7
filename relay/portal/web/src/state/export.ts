// Lists as files.

import type { NodeView } from '../api/views.ts';
import { diskCents, loadCents, memoryCents } from './filter.ts';

/** A field of CSV. What a spreadsheet would take for a formula is marked as text. */
export function csvField(value: string | number | null | undefined): string {
  if (typeof value === 'number') return String(value);
  const text = value ?? '';
  const plain = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(plain) ? `"${plain.replace(/"/g, '""')}"` : plain;
}

const COLUMNS: [string, (n: NodeView) => string | number | null | undefined][] = [
  ['name', (n) => n.name],
  ['fingerprint', (n) => n.fingerprint],
  ['state', (n) => n.state],
  ['since', (n) => new Date(n.since).toISOString()],
  ['cluster', (n) => n.cluster],
  ['role', (n) => n.role],
  ['zone', (n) => n.facts?.zone],
  ['address', (n) => n.facts?.addresses[0]],
  ['cores', (n) => n.facts?.cores],
  ['memory_bytes', (n) => n.facts?.memory_bytes],
  ['load_percent', loadCents],
  ['memory_percent', memoryCents],
  ['disk_percent', diskCents],
  ['os', (n) => n.facts?.os],
  ['agent', (n) => n.facts?.agent],
  ['waits_for', (n) => n.waiting_on?.text],
];

export const nodesCsv = (nodes: readonly NodeView[]): string =>
  [COLUMNS.map(([name]) => name), ...nodes.map((n) => COLUMNS.map(([, of]) => of(n)))].map((row) => `${row.map(csvField).join(',')}\r\n`).join('');

/** Saves a text as a file of this computer. */
export function save(name: string, type: string, body: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([body], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
