// The event stream: one for all tabs of a browser. One tab listens and tells the others, since a
// browser gives an origin few connections. Read by fetch, so that the token travels in a header.

import { signal } from '@preact/signals';
import { headers, problemOf, setToken, loginWanted } from '../api/client.ts';
import type { Event } from '../api/views.ts';
import type { SiteData } from './data.ts';
import { visibleIn } from '../signed/strict.ts';
import { EventLines } from './lines.ts';

const KEPT = 500;
/** The door beats every 15 s; longer silence means that the stream is gone. */
const SILENCE_MS = 40_000;

/** When the stream was last heard, and since when it is lost (0: it is not). */
export const heard = signal(0);
export const lostAt = signal(0);
export const nextTry = signal(0);

/** What is listened to now. */
let current: Stream | null = null;

/** Listens to a site, and to no other any more. */
export function follow(site: SiteData | null): void {
  current?.close();
  current = site === null ? null : new Stream(site);
}

export const retryStream = (): void => current?.retry();

type Told =
  | { kind: 'event'; event: Event }
  | { kind: 'beat' }
  | { kind: 'lost'; at: number; next: number }
  /** A tab that opened asks for what the leading one has. */
  | { kind: 'hello' }
  | { kind: 'past'; events: Event[] };

class Stream {
  private readonly stop = new AbortController();
  private readonly channel: BroadcastChannel;
  private last = 0;
  private leads = false;
  private wake: (() => void) | null = null;

  constructor(private readonly data: SiteData) {
    this.channel = new BroadcastChannel(`qb.events.${data.name}`);
    this.channel.onmessage = (m: MessageEvent<Told>) => this.take(m.data);
    heard.value = Date.now();
    lostAt.value = 0;
    const lead = (): Promise<void> => this.lead();
    const locks = navigator.locks as LockManager | undefined;
    this.channel.postMessage({ kind: 'hello' } satisfies Told);
    if (locks) locks.request(`qb.stream.${data.name}`, { signal: this.stop.signal }, lead).catch(() => undefined);
    else void lead();
  }

  close(): void {
    this.stop.abort();
    this.channel.close();
  }

  /** Tries again at once. */
  retry(): void {
    this.wake?.();
  }

  private take(told: Told): void {
    if (told.kind === 'hello') {
      if (this.leads) this.channel.postMessage({ kind: 'past', events: this.data.events.value } satisfies Told);
      return;
    }
    if (told.kind === 'lost') {
      if (lostAt.value === 0) lostAt.value = told.at;
      nextTry.value = told.next;
      return;
    }
    heard.value = Date.now();
    if (lostAt.value !== 0) {
      lostAt.value = 0;
      for (const r of this.data.all()) if (r.users > 0) void r.load();
    }
    if (told.kind === 'beat') return;
    if (told.kind === 'past') {
      const older = told.events.filter((e) => !this.data.events.value.some((known) => known.seq === e.seq));
      this.data.events.value = [...this.data.events.value, ...older].sort((a, b) => b.seq - a.seq).slice(0, KEPT);
      this.last = Math.max(this.last, told.events[0]?.seq ?? 0);
      return;
    }
    const { event } = told;
    if (event.seq <= this.last) return;
    this.last = event.seq;
    const events = this.data.events;
    events.value = [event, ...events.value].slice(0, KEPT);
    this.data.touched(event.kind);
  }

  private tell(told: Told): void {
    this.take(told);
    if (!this.stop.signal.aborted) this.channel.postMessage(told);
  }

  private async lead(): Promise<void> {
    this.leads = true;
    for (let pause = 1_000; !this.stop.signal.aborted; pause = Math.min(pause * 2, 15_000)) {
      const before = heard.value;
      await this.listen().catch(() => undefined);
      if (this.stop.signal.aborted) return;
      if (heard.value !== before) pause = 1_000;
      this.tell({ kind: 'lost', at: Date.now(), next: Date.now() + pause });
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pause);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  private async listen(): Promise<void> {
    const call = new AbortController();
    const end = (): void => call.abort();
    this.stop.signal.addEventListener('abort', end);
    let silence = setTimeout(end, SILENCE_MS);
    try {
      const response = await fetch(`${this.data.base}/events?after=${this.last}`, { headers: headers(), signal: call.signal, cache: 'no-store' });
      if (!response.ok || !response.body) {
        const problem = await problemOf(response);
        if (problem.status === 401) {
          setToken(null);
          loginWanted.value = problem.detail;
        }
        return;
      }
      const lines = new EventLines((data) => this.tell({ kind: 'event', event: visibleIn(JSON.parse(data) as Event) }));
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(silence);
        silence = setTimeout(end, SILENCE_MS);
        this.tell({ kind: 'beat' });
        lines.push(value);
      }
    } finally {
      clearTimeout(silence);
      this.stop.signal.removeEventListener('abort', end);
    }
  }
}
