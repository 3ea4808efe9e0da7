// Audit: who ordered what, can I prove it? The chain is checked here, record by record.

import { signal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { asProblem, get } from '../api/client.ts';
import type { AuditExport, AuditView, Head, Problem } from '../api/views.ts';
import { narrow, route, say, setQuery } from '../state/app.ts';
import { data, useLive, type SiteData } from '../state/data.ts';
import { save } from '../state/export.ts';
import { duration, hashGroups, plural, rfc3339, thousands } from '../state/format.ts';
import { base64url, hex, unbase64, unbase64url } from '../signed/bytes.ts';
import { Chain, payloadText, type Entry } from '../signed/chain.ts';
import { sentence } from '../signed/sentence.ts';
import { fingerprint } from '../signed/names.ts';
import { visible } from '../signed/strict.ts';
import { Icon } from '../ui/icons.tsx';
import { Cmd, Copy, Empty, Ident, PageHead, ProblemCard, Status, Time } from '../ui/parts.tsx';
import { Bytes } from '../ui/bytes.tsx';

const PART = 500;

class Verifier {
  readonly views = signal<AuditView[]>([]);
  readonly entries = signal<readonly Entry[]>([]);
  readonly broken = signal<{ at: number; why: string } | null>(null);
  readonly problem = signal<Problem | null>(null);
  readonly took = signal(0);
  readonly running = signal(false);
  readonly head = signal<string | null>(null);
  chain: Chain | null = null;
  charter = '';

  constructor(readonly d: SiteData) {}

  /** Asks for the records that are new, and checks them. */
  async go(): Promise<void> {
    if (this.running.value || this.broken.value) return;
    this.running.value = true;
    this.problem.value = null;
    const began = performance.now();
    try {
      for (;;) {
        const from = this.views.value.length + 1;
        const part = await get<AuditExport>(`${this.d.base}/audit?from=${from}&limit=${PART}`);
        this.head.value = part.head;
        this.charter = part.charter;
        const site = this.d.site.value.value?.id;
        if (site !== undefined && site !== part.site) throw new Error(`this audit is that of site ${part.site}`);
        this.chain ??= await Chain.begin(part.site, part.charter);
        for (const view of part.records) {
          try {
            await this.chain.step(unbase64(view.record));
          } catch (e) {
            this.broken.value = { at: this.chain.index + 1, why: e instanceof Error ? e.message : String(e) };
            break;
          }
        }
        this.views.value = [...this.views.value, ...part.records];
        this.entries.value = [...this.chain.entries];
        if (part.records.length < PART || this.broken.value) break;
      }
      if (!this.broken.value) {
        // The head is of the moment of the answer: what is proved must reach it.
        const head = await get<Head>(`${this.d.base}/head`);
        if (head.index === this.chain?.index && head.hash !== base64url(this.chain.head))
          this.broken.value = { at: head.index, why: 'the head that this door shows is not the end of the chain' };
      }
    } catch (e) {
      this.problem.value = asProblem(e);
    }
    this.took.value += performance.now() - began;
    this.running.value = false;
  }
}

let verifier: Verifier | null = null;

const eight = (hash: string): string => hashGroups(hex(unbase64url(hash, 32)));
const sixteen = (bytes: Uint8Array): string => hashGroups(hex(bytes), 16);

const OUTCOMES = ['', 'accepted', 'pending', 'refused'];

function Detail({ entry, view }: { entry: Entry; view: AuditView }) {
  const [print, setPrint] = useState('');
  const key = entry.signers[0]?.key;
  useEffect(() => {
    if (key) void fingerprint(unbase64url(key, 32)).then(setPrint);
  }, [key]);
  const intent = entry.intent;
  return (
    <div class="detail">
      <dl class="kv">
        {intent ? (
          <>
            <dt>Signed</dt>
            <dd>{rfc3339(intent.issued_ms)}, valid {duration(intent.expires_ms - intent.issued_ms)}</dd>
            <dt>Key</dt>
            <dd class="mono">{print}</dd>
          </>
        ) : null}
        {entry.record.kind !== 'tick' ? (
          <>
            <dt>Signature</dt>
            <dd><Status tone="ok">valid, checked in this browser</Status></dd>
          </>
        ) : null}
        <dt>Site time</dt>
        <dd>{rfc3339(entry.record.logTime)}</dd>
        {entry.record.outcome === 3 ? <><dt>Refused</dt><dd>{visible(view.outcome)}</dd></> : null}
        <dt>Digest</dt>
        <dd class="row"><span class="mono">{sixteen(entry.record.digest)}</span><Copy text={base64url(entry.record.digest)} label="Copy the digest" /></dd>
        <dt>Previous</dt>
        <dd class="mono">{sixteen(entry.previous)}</dd>
        <dt>This entry</dt>
        <dd class="row"><span class="mono">{sixteen(entry.record.head)}</span><Copy text={base64url(entry.record.head)} label="Copy the head" /></dd>
        {intent?.note ? <><dt>Note</dt><dd>{visible(intent.note)}</dd></> : null}
      </dl>
      {entry.envelope ? <Bytes text={payloadText(entry)} /> : null}
    </div>
  );
}

export function AuditPage() {
  const d = data.value;
  const site = useLive(d?.site);
  const nodes = useLive(d?.nodes) ?? [];
  const admins = useLive(d?.admins) ?? [];
  if (d && verifier?.d !== d) verifier = new Verifier(d);
  const v = verifier;
  const index = site?.head.index;
  useEffect(() => {
    void v?.go().then(() => {
      if (v.broken.value) say(`Entry ${v.broken.value.at} does not follow`);
    });
  }, [v, index]);
  if (!d || !v) return null;
  const show = route.value.query.get('show') ?? 'orders';
  const filter = (route.value.query.get('where') ?? '').toLowerCase();
  const open = Number(route.value.query.get('open') ?? 0);
  const entries = v.entries.value;
  const views = v.views.value;
  const names = { host: (id: string) => nodes.find((n) => n.id === id)?.name ?? null };
  const person = (id: string): string => admins.find((a) => a.admin === id)?.name ?? v.chain?.names.get(id) ?? id;
  const rows = entries
    .map((entry, i) => {
      const what = entry.intent ? sentence(entry.intent.action, names) : entry.record.kind === 'entry' ? `${names.host(entry.node ?? '') ?? 'a node'} came in by a join token` : entry.node ? `${names.host(entry.node) ?? 'a node'} reported a result` : 'time went on';
      const by = entry.intent ? person(entry.intent.by) : entry.node ? (names.host(entry.node) ?? 'a node') : 'voters';
      return { entry, view: views[i] as AuditView, what: entry.intent ? what : (views[i]?.sentence ?? what), by };
    })
    .filter(({ entry }) => show === 'all' || (entry.intent !== null && (show !== 'refused' || entry.record.outcome === 3)))
    .filter((r) => filter.split(/\s+/).every((word) => {
      const term = /^(by|action|object|outcome):(.+)$/.exec(word);
      if (!term) return r.what.toLowerCase().includes(word) || r.by.toLowerCase().includes(word);
      const value = term[2] as string;
      if (term[1] === 'by') return r.by.toLowerCase().includes(value) || (r.entry.intent?.by ?? '').includes(value);
      if (term[1] === 'action') return Object.keys(r.entry.intent?.action ?? {}).some((a) => a.includes(value));
      if (term[1] === 'outcome') return (OUTCOMES[r.entry.record.outcome] ?? '').startsWith(value);
      return r.what.toLowerCase().includes(value);
    }))
    .reverse();
  const signed = entries.filter((e) => e.record.kind !== 'tick').length;
  const exported = (): void => {
    const body = JSON.stringify({ v: 1, site: v.chain?.site ?? '', charter: v.charter, records: views, head: v.head.value });
    save(`${d.name}.audit`, 'application/json', body);
  };
  return (
    <>
      <PageHead title="Audit" sub={`Who ordered what, signed and chained. Times are ${Intl.DateTimeFormat().resolvedOptions().timeZone}`}>
        <button type="button" class="btn" data-key="e" disabled={views.length === 0} onClick={exported}><Icon name="copy" />Export</button>
        <button type="button" class="btn" data-key="r" disabled={v.running.value} onClick={() => { verifier = new Verifier(d); void verifier.go(); setQuery('again', String(Date.now() % 1000)); }}>Verify again</button>
      </PageHead>
      {v.problem.value ? <ProblemCard problem={v.problem.value} retry={() => void v.go()} /> : null}
      <section class="card proof">
        {v.broken.value ? (
          <span class="row" role="alert">
            <span class="t-bad"><Icon name="octagon-x" /></span>
            <span><b>Entry {v.broken.value.at} does not follow.</b> Everything after it is unproven: {visible(v.broken.value.why)}.</span>
          </span>
        ) : (
          <span class="row">
            <span class={v.running.value ? 't-busy' : 't-ok'}><Icon name={v.running.value ? 'arc' : 'shield-check'} /></span>
            <span>
              <b>{v.running.value ? 'Checking the chain' : 'Chain verified in this browser'}</b>
              <span class="block muted">{plural(entries.length, 'entry', 'entries')}, {signed === entries.length ? 'every' : thousands(signed)} signature{signed === entries.length ? '' : 's'} and every link, {duration(v.took.value)}</span>
            </span>
          </span>
        )}
        <span>
          <span class="block faint">Head, proved here</span>
          <code>{v.chain ? sixteen(v.chain.head) : ''}</code>
        </span>
        <span>
          <span class="block faint">Head of this door</span>
          <code>{site ? hashGroups(hex(unbase64url(site.head.hash, 32)), 16) : ''}</code>
        </span>
        <Cmd>{`qb audit verify`}</Cmd>
      </section>
      <p class="faint">It proves who signed what, in which order, without a gap, up to this head. Compare the head with one that you know from elsewhere; how many owners had to sign is judged by <code>qb audit verify</code>.</p>
      <div class="row wrap filters">
        <label class="inp">
          <Icon name="filter" small />
          <span class="vh">Filter</span>
          <input type="search" placeholder="by:mira action:attach object:clus100" value={filter} spellcheck={false} onInput={(e) => setQuery('where', e.currentTarget.value)} />
        </label>
        <span class="seg" role="group" aria-label="Entries shown">
          {[['orders', 'Orders'], ['refused', 'Refused'], ['all', 'All entries']].map(([id, word]) => <button key={id} type="button" class={show === id ? 'on' : ''} aria-pressed={show === id} onClick={() => setQuery('show', id === 'orders' ? null : (id as string))}>{word}</button>)}
        </span>
      </div>
      {rows.length === 0 ? (
        <Empty title={entries.length === 0 ? 'Nothing was ordered yet' : 'No entry matches'}>
          {entries.length > 0 ? <button type="button" class="btn" onClick={() => { setQuery('where', null); setQuery('show', null); }}>Clear filter</button> : null}
        </Empty>
      ) : (
        <section class="card">
          <ul class="aud">
            {narrow.value ? null : <li class="head" aria-hidden="true"><span class="num">Entry</span><span>Time</span><span>Action</span><span>Signed by</span><span>Outcome</span><span>Hash</span></li>}
            {rows.slice(0, 400).map(({ entry, view, what, by }) => {
              const n = entry.record.index;
              const key = entry.signers[0]?.key ?? entry.node ?? '';
              const isOpen = open === n;
              const outcome = entry.record.outcome;
              return (
                <li key={n} class={isOpen ? 'open' : ''} data-row>
                  <button type="button" class="line" aria-expanded={isOpen} onClick={() => setQuery('open', isOpen ? null : String(n))}>
                    <span class="num faint">{n}</span>
                    <span class="nowrap"><Time at={entry.record.logTime} /></span>
                    <span class={entry.intent ? 'nm wrapped' : 'muted'}>{visible(what)}</span>
                    <span class="row">{key ? <Ident of={key} /> : null}<span class="clip">{by}</span></span>
                    <span>{outcome === 0 ? <span class="faint">{entry.record.kind}</span> : <Status tone={outcome === 1 ? 'ok' : outcome === 2 ? 'act' : 'bad'}>{OUTCOMES[outcome]}</Status>}{entry.record.generation > 0 ? <span class="sub2 block">generation {entry.record.generation}</span> : null}</span>
                    <code>{eight(base64url(entry.record.head))}</code>
                  </button>
                  {isOpen ? <Detail entry={entry} view={view} /> : null}
                </li>
              );
            })}
          </ul>
          {rows.length > 400 ? <p class="pad faint">and {rows.length - 400} older: narrow the filter, or export</p> : null}
        </section>
      )}
    </>
  );
}
