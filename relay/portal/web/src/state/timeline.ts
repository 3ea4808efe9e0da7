// The tracks of a change: what each node did when, from stages, events and what this page saw.

import type { ClusterView, Event, NodeView } from '../api/views.ts';

export interface Bar {
  /** `ok` ran, `busy` runs, `hold` waited, `bad` failed. */
  kind: 'ok' | 'busy' | 'hold' | 'bad';
  from: number;
  to: number;
  word: string;
}

export interface Track {
  node: string;
  host: string;
  note: string;
  bars: Bar[];
}

const seen = new Map<string, number>();

/** When each member was first seen joining, as far as this page looked. */
export function joinStarts(c: ClusterView, nodes: readonly NodeView[], now: number): ReadonlyMap<string, number> {
  const out = new Map<string, number>();
  const began = c.stages[0]?.began ?? 0;
  for (const m of c.members) {
    const key = `${c.name} ${began} ${m.node}`;
    const work = m.work ?? nodes.find((n) => n.id === m.node)?.work;
    if (work?.stage === 'join' && !seen.has(key)) seen.set(key, work.step === 1 ? work.since : now);
    const at = seen.get(key);
    if (at !== undefined) out.set(m.node, at);
  }
  return out;
}

export function tracks(c: ClusterView, events: readonly Event[], now: number, joins: ReadonlyMap<string, number>): Track[] {
  const stage = (word: string) => c.stages.find((s) => s.word === word);
  const start = c.stages.reduce((min, s) => Math.min(min, s.began ?? Infinity), Infinity);
  if (!Number.isFinite(start)) return [];
  const prepareBegan = stage('prepare')?.began ?? null;
  // An event's time is log time, which may lie a little before the stage's own.
  const through = (host: string, word: string): number | null => {
    const found = events.find((e) => e.kind === 'node' && e.at >= start - 2_000 && e.text === `${host} is through ${word} of ${c.name}`);
    return found ? found.at : null;
  };
  const initializeEnd = stage('initialize')?.ended ?? null;
  const out: Track[] = [];
  for (const m of c.members) {
    const bars: Bar[] = [];
    const work = m.work;
    const failed = work?.state === 'failed';
    const running = (word: string): boolean => work?.stage === word && work.state !== 'done';
    const prepared = through(m.host, 'prepare');
    const initialized = through(m.host, 'initialize');
    const joined = through(m.host, 'join');
    const settled = prepared === null && initialized === null && joined === null && m.done !== 'none' && !work;
    if (settled || prepareBegan === null) continue;
    const live = (word: string, from: number): void => {
      bars.push({ kind: failed ? 'bad' : 'busy', from, to: now, word });
    };
    if (prepared !== null) bars.push({ kind: 'ok', from: prepareBegan, to: Math.max(prepared, prepareBegan), word: 'prepare' });
    else if (running('prepare')) live('prepare', prepareBegan);
    else if (m.done === 'none') bars.push({ kind: 'hold', from: prepareBegan, to: now, word: 'waits' });
    const after = prepared ?? prepareBegan;
    if (initialized !== null) bars.push({ kind: 'ok', from: Math.max(after, stage('initialize')?.began ?? after), to: initialized, word: 'initialize' });
    else if (running('initialize')) live('initialize', Math.max(after, stage('initialize')?.began ?? after));
    else if (prepared !== null) {
      const ready = Math.max(after, initializeEnd ?? after);
      const seenAt = joins.get(m.node);
      const from = seenAt !== undefined && (joined === null || seenAt < joined) ? seenAt : joined !== null || running('join') ? ready : null;
      const began = from ?? now;
      if (began - after > 20) bars.push({ kind: 'hold', from: after, to: Math.min(began, joined ?? began), word: from === null ? 'waits its turn' : 'waited' });
      if (joined !== null) bars.push({ kind: 'ok', from: Math.min(began, joined), to: joined, word: 'join' });
      else if (from !== null && running('join')) live('join', from);
    }
    out.push({ node: m.node, host: m.host, note: m.role.replace('-', ' '), bars });
  }
  return out;
}
