// Whether voters of the site stand for what this door shows. Asked for now and then, verified here, and
// held against the furthest state that this browser saw of the site.

import { computed, signal } from '@preact/signals';
import { ApiError, get } from '../api/client.ts';
import { advance, fresh, judge, readSeen, Verifier, type Seen, type Verdict } from '../signed/attest.ts';
import { siteBytes } from '../signed/names.ts';
import { visible } from '../signed/strict.ts';
import { now, say } from './app.ts';
import { clock } from './format.ts';
import { terminal } from './terminal.ts';

/** Between two questions when nothing happens: voters sign every 30 s. */
const CALM_MS = 10_000;
/** Between two questions at least, whatever happens. */
const LEAST_MS = 5_000;
/** Sites that a browser remembers: more than one person has. The one that was seen longest ago goes. */
const SITES = 64;
const SEEN = 'qb.seen.';
const PIN = 'qb.pin.';

/** What the page knows: `asking` before the first answer. */
export type Proved = Verdict | { kind: 'asking' };

const keysOf = (prefix: string): string[] => Array.from({ length: localStorage.length }, (_, i) => localStorage.key(i) ?? '').filter((k) => k.startsWith(prefix));

/** Keeps what was seen, never less than before: another tab may have seen more meanwhile. */
function remember(site: string, next: (held: Seen | null) => Seen | null): void {
  const before = localStorage.getItem(SEEN + site);
  const held = readSeen(before);
  const after = next(held);
  if (after === null || after === held) return;
  if (before === null) {
    const time = (k: string): number => readSeen(localStorage.getItem(k))?.log_time ?? 0;
    const all = keysOf(SEEN).sort((a, b) => time(a) - time(b));
    for (const k of all.slice(0, Math.max(0, all.length - SITES + 1))) localStorage.removeItem(k);
  }
  localStorage.setItem(SEEN + site, JSON.stringify(after));
}

/** The site that a name means in this browser, since it first saw the name. A terminal knows it itself. */
function pinned(name: string, shown: string): string {
  if (terminal.peek()) return (terminal.peek() as { site: { id: string } }).site.id;
  const held = localStorage.getItem(PIN + name);
  if (held !== null && siteBytes(held) !== null) return held;
  const all = keysOf(PIN);
  if (all.length >= SITES) localStorage.removeItem(all[0] as string);
  localStorage.setItem(PIN + name, shown);
  return shown;
}

export class Proof {
  private readonly answer = signal<Proved>({ kind: 'asking' });
  /** By this browser's clock, whatever the door says: a view that stands still goes stale by itself. */
  readonly verdict = computed<Proved>(() => {
    const last = this.answer.value;
    return last.kind === 'verified' ? fresh(last.at, now.value) : last;
  });
  /** The door shows another past, or less than it must: nothing is signed over it. */
  readonly forbids = computed(() => this.answer.value.kind === 'split' || this.answer.value.kind === 'back');
  private verifier: Verifier | null = null;
  private voters: readonly string[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private last = 0;
  private runs = false;
  private asking = false;

  constructor(
    private readonly name: string,
    private readonly base: string,
  ) {}

  /** Whether a key is that of a voter, by the last proof that stood. */
  stands(node: string): boolean {
    return this.voters.includes(node);
  }

  /** Asks while somebody looks; answers with what ends it. */
  run(site: string): () => void {
    if (this.verifier === null) this.verifier = new Verifier(pinned(this.name, site));
    this.runs = true;
    const seen = (): void => {
      if (!document.hidden) this.soon();
    };
    document.addEventListener('visibilitychange', seen);
    this.soon();
    return () => {
      this.runs = false;
      clearTimeout(this.timer);
      document.removeEventListener('visibilitychange', seen);
    };
  }

  /** Something happened: asks again, but not more often than the least pause allows. */
  soon(): void {
    if (this.runs) this.plan(Math.max(0, this.last + LEAST_MS - Date.now()));
  }

  private plan(pause: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.look(), pause);
  }

  private async look(): Promise<void> {
    if (document.hidden || this.asking || !this.verifier) return;
    this.asking = true;
    this.last = Date.now();
    try {
      this.answer.value = await this.ask(this.verifier);
      if (this.answer.value.kind === 'split') say('Split view: this door shows another past. Nothing is signed from this page.');
    } finally {
      this.asking = false;
      if (this.runs) this.plan(CALM_MS);
    }
  }

  private async ask(verifier: Verifier): Promise<Proved> {
    let document: unknown;
    try {
      document = await get<unknown>(`${this.base}/attestation`);
    } catch (e) {
      // What was verified once ages by itself. That a door does not answer is said elsewhere.
      return e instanceof ApiError && e.problem.status === 404 ? { kind: 'unverified', why: 'this door has no attestation' } : this.answer.value;
    }
    if (crypto.subtle === undefined) return { kind: 'unverified', why: 'this page was opened over http, where a browser verifies nothing' };
    try {
      const shown = await verifier.verify(document);
      this.voters = shown.voters;
      let verdict: Verdict = fresh(shown.log_time, Date.now());
      remember(shown.site, (held) => {
        verdict = judge(held, shown, Date.now());
        return advance(held, shown, verdict);
      });
      return verdict;
    } catch (e) {
      return { kind: 'unverified', why: visible(e instanceof Error ? e.message : String(e)) };
    }
  }
}

/** The verdict in words. `relay`: the page that says so came from the relay itself. */
export function proofWords(proved: Proved, at: number, relay: boolean): [tone: 'ok' | 'act' | 'bad' | 'idle', words: string] {
  switch (proved.kind) {
    case 'asking': return ['idle', 'not verified yet'];
    case 'verified': return relay ? ['idle', "unverified: served by the relay's own page"] : ['ok', `verified, ${Math.max(0, Math.floor((at - proved.at) / 1000))} s old`];
    case 'stale': return ['act', `stale since ${clock(proved.since, at)}`];
    case 'unverified': return ['act', `unverified: ${proved.why}`];
    case 'back': return ['bad', `ROLLED BACK: index ${proved.theirs}, this browser saw ${proved.ours}`];
    case 'split': return ['bad', `SPLIT VIEW: index ${proved.index} has two ${proved.what}`];
  }
}
