// Nodes: which machines do I have, which knock?

import { useMemo } from 'preact/hooks';
import type { NodeView } from '../api/views.ts';
import { dialog, route, setQuery, sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { nodesCsv, save } from '../state/export.ts';
import { cameByRelay, nodeFilter, orderOf, sortNodes } from '../state/filter.ts';
import { plural, size } from '../state/format.ts';
import { Icon } from '../ui/icons.tsx';
import { Cmd, Empty, isOld, Link, Loading, nodeTone, PageHead, Stale, Status } from '../ui/parts.tsx';
import { NodeTable, selected } from './nodetable.tsx';

const STATES = [['', 'All'], ['waiting', 'Waiting'], ['pool', 'Pool'], ['attached', 'Attached']] as const;

function Section({ title, status, note, list, children, waiting }: { title: string; status?: preact.ComponentChildren; note?: string; list: NodeView[]; children?: preact.ComponentChildren; waiting?: boolean }) {
  const folded = list.length > 50 && !route.value.query.has('open');
  return (
    <>
      <div class="sec">
        <h2>{title}</h2>
        {status}
        <span class="c">{note}</span>
        <span class="end row">{children}</span>
      </div>
      <section class="card">
        {folded ? (
          <p class="pad row">
            <span class="grow muted">{plural(list.length, 'node')}, {list.filter((n) => nodeTone(n) === 'ok').length} well</span>
            <button type="button" class="btn sm" onClick={() => setQuery('open', '1', false)}>Show all {list.length}</button>
          </p>
        ) : (
          <NodeTable list={list} {...(waiting ? { waiting } : {})} />
        )}
      </section>
    </>
  );
}

export function NodesPage() {
  const d = data.value;
  const all = useLive(d?.nodes);
  const site = useLive(d?.site);
  const line = route.value.query.get('where') ?? '';
  const test = useMemo(() => nodeFilter(line), [line]);
  if (!d) return null;
  if (!all) return <Loading resource={d.nodes} what="its nodes" />;
  const state = route.value.query.get('state') ?? '';
  const ofState = (n: NodeView): boolean => state === '' || n.state === state || (state === 'attached' && n.state === 'detaching');
  const list = sortNodes((test ? all.filter(test) : all).filter(ofState), orderOf(route.value.query));
  const waiting = list.filter((n) => n.state === 'waiting');
  const pool = list.filter((n) => n.state === 'pool');
  const revoked = list.filter((n) => n.state === 'revoked');
  const inClusters = new Map<string, NodeView[]>();
  for (const n of list)
    if (n.state === 'attached' || n.state === 'detaching') {
      const name = n.cluster ?? 'leaving';
      inClusters.set(name, [...(inClusters.get(name) ?? []), n]);
    }
  const chosen = all.filter((n) => selected.value.has(n.id));
  const chosenWaiting = chosen.filter((n) => n.state === 'waiting');
  const chosenPool = chosen.filter((n) => n.state === 'pool');
  // What only the relay heard is let in one by one, with its words.
  const heard = waiting.filter((n) => !cameByRelay(n));
  const toAuthorize = chosenWaiting.length > 0 ? chosenWaiting : heard.length > 0 ? heard : waiting.slice(0, 1);
  const clusters = d.clusters.value.value ?? [];
  const target = clusters[0];
  const cores = pool.reduce((s, n) => s + (n.facts?.cores ?? 0), 0);
  const memory = pool.reduce((s, n) => s + (n.facts?.memory_bytes ?? 0), 0);
  const members = all.filter((n) => n.state !== 'waiting' && n.state !== 'revoked').length;
  const knocking = all.filter((n) => n.state === 'waiting').length;
  return (
    <div class={isOld(d.nodes as never) ? 'oldpage' : ''}>
      <PageHead
        title="Nodes"
        status={knocking > 0 ? <Status tone="act">{plural(knocking, 'machine waits', 'machines wait')}</Status> : null}
        sub={`${plural(members, 'node')}, ${knocking} knocking`}
      >
        <Link to={sitePath('add')} class="btn">
          <Icon name="package-plus" />
          Add machines
        </Link>
        {toAuthorize.length > 0 && site?.founded ? (
          <button type="button" class="btn p" data-key="a" onClick={() => (dialog.value = { kind: 'authorize', nodes: toAuthorize.map((n) => n.id) })}>
            <Icon name="pen-line" />
            Authorize {plural(toAuthorize.length, 'node')}
          </button>
        ) : null}
      </PageHead>
      <Stale resource={d.nodes} />
      <div class="row wrap filters">
        <span class="seg" role="group" aria-label="State">
          {STATES.map(([id, word]) => {
            const count = id === '' ? all.length : all.filter((n) => n.state === id || (id === 'attached' && n.state === 'detaching')).length;
            return (
              <button key={id} type="button" class={id === state ? 'on' : ''} aria-pressed={id === state} onClick={() => setQuery('state', id, false)}>
                {word} {count}
              </button>
            );
          })}
        </span>
        <label class="inp">
          <Icon name="filter" small />
          <span class="vh">Filter</span>
          <input
            type="search"
            placeholder="state:waiting zone:rack-1 disk>80"
            value={line}
            spellcheck={false}
            autocomplete="off"
            onInput={(e) => setQuery('where', e.currentTarget.value)}
          />
        </label>
        {test === null ? <span class="t-act">A term is not known. Terms: state zone cluster role label os disk mem cpu silent.</span> : null}
        {line && test ? <span class="faint">{list.length} of {all.length}</span> : null}
        {line ? (
          <button type="button" class="btn sm q" onClick={() => setQuery('where', null)}>
            Clear filter
          </button>
        ) : null}
        {list.length > 0 ? (
          <span class="row end">
            <button type="button" class="btn sm" data-key="e" onClick={() => save(`${d.name}-nodes.csv`, 'text/csv', nodesCsv(list))}>Export CSV</button>
            <button type="button" class="btn sm" onClick={() => save(`${d.name}-nodes.json`, 'application/json', JSON.stringify(list, null, 2))}>JSON</button>
          </span>
        ) : null}
      </div>
      {chosen.length > 0 ? (
        <div class="bulk" role="region" aria-label="Selected nodes">
          <b>{chosen.length} selected</b>
          {chosenPool.length > 0 && target ? (
            <button type="button" class="btn sm" data-key="t" onClick={() => (dialog.value = { kind: 'attach', cluster: target.name, nodes: chosenPool.map((n) => n.id) })}>
              <Icon name="plug" small />
              Attach {plural(chosenPool.length, 'node')}
            </button>
          ) : null}
          <button type="button" class="btn sm q" onClick={() => (selected.value = new Set())}>
            Select none
          </button>
        </div>
      ) : null}
      {all.length === 0 ? (
        <Empty title="No machine has knocked yet">
          <p class="muted">Install the package on a Linux machine. It finds the site by itself and shows up here within seconds.</p>
        </Empty>
      ) : list.length === 0 ? (
        <Empty title="No node matches">
          <p class="muted">{plural(all.length, 'node')} without the filter.</p>
          <button type="button" class="btn" onClick={() => { setQuery('where', null); setQuery('state', null); }}>Clear filter</button>
        </Empty>
      ) : null}
      {waiting.length > 0 ? (
        <Section title="Waiting" note="Compare each fingerprint with the machine: qb-agent id" list={waiting} waiting>
          {site && !site.founded ? <span class="faint">The first authorize founds the site, in a terminal</span> : null}
        </Section>
      ) : null}
      {waiting.length > 0 && site && !site.founded ? <Cmd>qb node authorize --waiting</Cmd> : null}
      {pool.length > 0 ? (
        <Section title="Pool" note={`${plural(pool.length, 'node')} · ${plural(cores, 'core')} · ${size(memory)}`} list={pool}>
          {target ? (
            <button type="button" class="btn sm" onClick={() => (dialog.value = { kind: 'attach', cluster: target.name, nodes: chosenPool.map((n) => n.id) })}>
              Attach to a cluster
            </button>
          ) : null}
        </Section>
      ) : null}
      {[...inClusters].sort().map(([name, nodes]) => (
        <Section key={name} title={name} note={plural(nodes.length, 'node')} list={nodes}>
          <Link to={sitePath('clusters', name)} class="btn sm">
            Open {name}
          </Link>
        </Section>
      ))}
      {revoked.length > 0 ? <Section title="Revoked" note="out for good" list={revoked} /> : null}
    </div>
  );
}
