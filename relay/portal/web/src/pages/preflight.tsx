// Preflight: would it work, and what do I fix first?

import { signal } from '@preact/signals';
import { asProblem, post } from '../api/client.ts';
import type { Finding, NodeView, PreflightView, Problem } from '../api/views.ts';
import { now, say } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { duration, plural, size } from '../state/format.ts';
import { Icon } from '../ui/icons.tsx';
import { Cmd, Empty, Findings, Loading, PageHead, ProblemCard, Status, Time, type Tone } from '../ui/parts.tsx';

interface Run {
  view: PreflightView;
  at: number;
  hosts: NodeView[];
  driver: string;
}

const running = signal(false);
const last = signal<Run | null>(null);
const failed = signal<Problem | null>(null);
const pair = signal<[string, string] | null>(null);
const driver = signal('rehearsal');

async function run(hosts: NodeView[]): Promise<void> {
  const d = data.value;
  if (!d || running.value) return;
  running.value = true;
  failed.value = null;
  try {
    const view = await post<PreflightView>(`${d.base}/preflight`, { nodes: [], driver: driver.value }, 60_000);
    last.value = { view, at: Date.now(), hosts, driver: driver.value };
    const errors = view.findings.filter((f) => f.severity === 'error').length;
    say(view.findings.length === 0 ? 'Preflight: no finding' : `Preflight: ${plural(errors, 'error')}`);
  } catch (e) {
    failed.value = asProblem(e);
  }
  running.value = false;
}

const WORDS: Record<string, [string, Tone]> = {
  'NET-DROPPED': ['drop', 'bad'],
  'NET-REFUSED': ['refuse', 'bad'],
  'NET-ONE-WAY': ['one way', 'bad'],
  'NET-WRONG-HOST': ['wrong host', 'bad'],
  'NET-UNTRIED': ['no answer', 'idle'],
  'HOST-SILENT': ['silent', 'idle'],
  'PORT-BUSY': ['busy', 'bad'],
};

const touches = (f: Finding, from: string, to: string): boolean => f.subject === `${from} > ${to}` || (f.subject === to && (f.code === 'PORT-BUSY' || f.code === 'HOST-SILENT')) || (f.subject === from && f.code === 'HOST-SILENT');

/** What all names have in common is left out, up to a dash. */
export function shortNames(names: readonly string[]): Map<string, string> {
  let shared = names[0] ?? '';
  for (const n of names) while (!n.startsWith(shared)) shared = shared.slice(0, -1);
  shared = shared.slice(0, shared.lastIndexOf('-') + 1);
  return new Map(names.map((n) => [n, n.slice(shared.length) || n]));
}

function Matrix({ r }: { r: Run }) {
  const names = r.hosts.map((h) => h.name);
  const troubled = names.filter((n) => r.view.findings.some((f) => f.subject.split(' > ').includes(n)));
  const show = names.length > 24 ? troubled : names;
  const short = shortNames(names);
  if (show.length < 2) return <p class="pad muted">{names.length > 24 ? 'All pairs pass.' : 'One host has nobody to reach.'}</p>;
  const key = (e: KeyboardEvent): void => {
    const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[e.key];
    const cell = (e.target as HTMLElement).closest('button');
    if (!by || !cell) return;
    e.preventDefault();
    const [row, column] = (cell.dataset['at'] ?? '0,0').split(',').map(Number) as [number, number];
    for (let i = 1; i < show.length; i++) {
      const next = document.querySelector<HTMLElement>(`.mx [data-at="${row + (by[0] as number) * i},${column + (by[1] as number) * i}"]`);
      if (next) return next.focus();
    }
  };
  const chosen = pair.value;
  const found = chosen ? r.view.findings.filter((f) => touches(f, chosen[0], chosen[1])) : [];
  return (
    <>
      <div class="cb tblx" onKeyDown={key}>
        <table class="mx">
          <thead>
            <tr>
              <th scope="col" class="faint">from, to</th>
              {show.map((n) => <th scope="col" class="v" key={n} title={n}>{short.get(n)}</th>)}
            </tr>
          </thead>
          <tbody>
            {show.map((from, i) => (
              <tr key={from}>
                <th scope="row" title={from}>{short.get(from)}</th>
                {show.map((to, j) => {
                  if (from === to) return <td key={to}><span class="c self" aria-hidden="true">·</span></td>;
                  const bad = r.view.findings.find((f) => touches(f, from, to));
                  const [word, tone] = bad ? (WORDS[bad.code] ?? [bad.severity, 'bad']) : ['pass', null];
                  const on = chosen?.[0] === from && chosen[1] === to;
                  return (
                    <td key={to}>
                      <button type="button" class={`c ${tone ? `f ${tone}` : ''} ${on ? 'on' : ''}`} data-at={`${i},${j}`} aria-label={`${from} to ${to}, ${word}`} onClick={() => (pair.value = [from, to])}>
                        {word}
                      </button>
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
        <p class="muted">Rows send, columns answer. Pass means that every port of the role was reached. Arrow keys move, Enter opens a pair.</p>
      </div>
      {chosen ? (
        <div class="pair">
          <b>{chosen[0]} to {chosen[1]}</b>{' '}
          {found.length === 0 ? <Status tone="ok">all ports pass</Status> : <Status tone="bad">{found.map((f) => f.text).join('; ')}</Status>}
        </div>
      ) : null}
    </>
  );
}

export function PreflightPage() {
  const d = data.value;
  const nodes = useLive(d?.nodes);
  const bundles = useLive(d?.bundles) ?? [];
  if (!d) return null;
  if (!nodes) return <Loading resource={d.nodes} what="its nodes" />;
  const pool = nodes.filter((n) => n.state === 'pool');
  const r = last.value;
  const errors = r?.view.findings.filter((f) => f.severity === 'error').length ?? 0;
  const warnings = (r?.view.findings.length ?? 0) - errors;
  const drivers = [...new Set(['rehearsal', ...bundles.map((b) => b.name)])].sort();
  const button = (
    <button type="button" class="btn p" disabled={running.value || pool.length === 0} onClick={() => void run(pool)}>
      {running.value ? `Checking ${plural(pool.length, 'host')}` : r ? 'Run again' : 'Run preflight'}
    </button>
  );
  return (
    <>
      <PageHead
        title="Preflight"
        status={r ? r.view.findings.length === 0 ? <Status tone="ok">no finding</Status> : <Status tone={errors > 0 ? 'bad' : 'act'}>{plural(errors, 'error')}, {plural(warnings, 'warning')}</Status> : null}
        sub={r ? <>The pool, as control plane of {r.driver} · run <Time at={r.at} /> in {duration(r.view.ms)} · {plural(r.view.hosts, 'host')}, {plural(r.view.pairs, 'pair')}, {plural(r.view.probes, 'probe')}</> : 'What stands between the pool and a cluster'}
      >
        {drivers.length > 1 ? (
          <label class="inp">
            <span>for</span>
            <select value={driver.value} onChange={(e) => (driver.value = e.currentTarget.value)}>
              {drivers.map((x) => <option key={x}>{x}</option>)}
            </select>
          </label>
        ) : null}
        {r ? button : null}
      </PageHead>
      {failed.value ? <ProblemCard problem={failed.value} retry={() => void run(pool)} /> : null}
      {!r ? (
        <Empty title="Not run yet">
          <p class="muted">It takes about a second and changes nothing. {pool.length === 0 ? 'The pool is empty: there is nothing to check.' : `The pool has ${plural(pool.length, 'node')}.`}</p>
          {button}
          <Cmd>qb preflight</Cmd>
        </Empty>
      ) : (
        <div class="two">
          <div>
            <section class="card">
              <div class="ch"><h2>Who reaches whom</h2></div>
              <Matrix r={r} />
            </section>
            <section class="card gap">
              <div class="ch"><h2>Hosts in the pool</h2></div>
              <div class="tblx">
                <table>
                  <thead><tr><th scope="col">Host</th><th scope="col">System</th><th scope="col">Kernel</th><th scope="col" class="num">Cores</th><th scope="col" class="num">Memory</th><th scope="col" class="num">Disk free</th><th scope="col">Findings</th></tr></thead>
                  <tbody>
                    {r.hosts.map((h) => {
                      const own = r.view.findings.filter((f) => f.subject === h.name);
                      return (
                        <tr key={h.id}>
                          <td class="nm">{h.name}</td>
                          <td>{h.facts?.os}</td>
                          <td>{h.facts?.kernel.split('-')[0]}</td>
                          <td class="num">{h.facts?.cores}</td>
                          <td class="num nowrap">{h.facts ? size(h.facts.memory_bytes) : ''}</td>
                          <td class="num nowrap">{h.facts ? size(h.facts.disk_free_bytes) : ''}</td>
                          <td>{own.length === 0 ? <Status tone="ok">none</Status> : <Status tone={own.some((f) => f.severity === 'error') ? 'bad' : 'act'}>{own.map((f) => f.code).join(', ')}</Status>}</td>
                        </tr>
                      );
                    })}
                  </tbody>
                </table>
              </div>
            </section>
          </div>
          <section class="card">
            <div class="ch"><h2>What to do</h2>{r.view.findings.length > 0 ? <span class="muted">in this order</span> : null}</div>
            {r.view.findings.length === 0 ? (
              <p class="pad row"><span class="t-ok"><Icon name="circle-check" /></span>No finding. {plural(r.view.hosts, 'host')}, {plural(r.view.pairs, 'pair')}, {plural(r.view.probes, 'probe')} in {duration(r.view.ms)}.</p>
            ) : <Findings findings={r.view.findings} />}
          </section>
        </div>
      )}
      {r && now.value - r.at > 600_000 ? <p class="faint gap">This run is old. What it saw may have changed.</p> : null}
    </>
  );
}
