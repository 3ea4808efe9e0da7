// A site: is it healthy, and what needs me?

import { data, useLive } from '../state/data.ts';
import { dialog, now, sitePath } from '../state/app.ts';
import { age, clock, hashGroups, plural, spelled } from '../state/format.ts';
import type { Event, NodeView, SiteView, WaitingOn } from '../api/views.ts';
import { hex } from '../signed/bytes.ts';
import { siteBytes } from '../signed/names.ts';
import { visible } from '../signed/strict.ts';
import { Icon, type IconName } from '../ui/icons.tsx';
import { Chip, Link, Loading, PageHead, Remedy, Since, Stale, Status, Time } from '../ui/parts.tsx';
import { Mesh, MeshLegend } from '../ui/mesh.tsx';
import { SiteCharts } from '../ui/lasthour.tsx';
import { proofWords } from '../state/proof.ts';
import { through } from '../state/session.ts';
import { siteTone } from './sites.tsx';

const SILENT = 5_000;

function Figures({ site, nodes }: { site: SiteView; nodes: NodeView[] }) {
  const d = data.value;
  const clusters = d?.clusters.value.value ?? [];
  const members = nodes.filter((n) => n.state !== 'waiting' && n.state !== 'revoked');
  const reporting = members.filter((n) => n.report_age_ms !== null && n.report_age_ms < SILENT);
  const pool = members.filter((n) => n.state === 'pool');
  const cores = pool.reduce((sum, n) => sum + (n.facts?.cores ?? 0), 0);
  const byState = new Map<string, number>();
  for (const c of clusters) byState.set(c.state, (byState.get(c.state) ?? 0) + 1);
  const states = [...byState].sort((a, b) => (a[0] === 'ready' ? -1 : b[0] === 'ready' ? 1 : 0));
  const leader = site.voters.find((v) => v.leader);
  const connected = site.voters.filter((v) => v.connected).length;
  const stale = d ? now.value - d.site.at.value > 15_000 : false;
  const cell = (dt: string, big: string, small: string) => (
    <div>
      <dt>{dt}</dt>
      <dd>
        {big} <small>{small}</small>
      </dd>
    </div>
  );
  return (
    <dl class={stale ? 'stats old' : 'stats'}>
      {cell('Nodes reporting', String(reporting.length), `of ${members.length}`)}
      {cell('Voters', String(site.voters.length), site.voters.length === 0 ? 'not founded' : site.may_fail === 0 ? 'none may fail' : `${spelled(site.may_fail)} may fail`)}
      {cell('Leader', leader?.host ?? (site.founded ? 'none' : ''), leader ? `term ${site.term}` : site.founded ? 'nothing can be changed' : 'not founded')}
      {cell('Voters connected', `${connected}`, `of ${site.voters.length}, seen from ${site.door.host}`)}
      {cell('Clusters', states[0] ? `${states[0][1]} ${states[0][0]}` : '0', states.slice(1).map(([s, n]) => `${n} ${s}`).join(', '))}
      {site.agent_upgrade && site.agent_upgrade.state !== 'done'
        ? cell(`Agents ${site.agent_upgrade.state === 'halted' ? 'halted' : 'upgraded'}`, String(site.agent_upgrade.done), `of ${site.agent_upgrade.nodes} run ${visible(site.agent_upgrade.version)}`)
        : null}
      {cell('Free in pool', plural(pool.length, 'node'), cores > 0 ? plural(cores, 'core') : '')}
    </dl>
  );
}

function Needs({ site }: { site: SiteView }) {
  const d = data.value;
  const waits = site.waiting_on.filter((w) => w.clears !== 'itself');
  const knocks = waits.filter((w) => w.code === 'node.authorize');
  const others = waits.filter((w) => w.code !== 'node.authorize');
  const item = (w: WaitingOn) => (
    <li class="fd" key={`${w.code} ${w.subject}`}>
      <h3>
        <span class={w.code === 'step.failed' || w.code === 'node.silent' ? 't-bad' : 't-act'}>
          <Icon name={w.code === 'step.failed' || w.code === 'node.silent' ? 'octagon-x' : 'dia'} />
        </span>
        {w.subject} {visible(w.text)}
      </h3>
      <p>
        Since <Since at={w.since} />
      </p>
      {w.command ? <Remedy on={w.host}>{w.command}</Remedy> : null}
    </li>
  );
  return (
    <section class="card needs">
      <div class="ch">
        <h2>Needs you</h2>
        {waits.length > 0 ? <Chip tone="act">{others.length + (knocks.length > 0 ? 1 : 0)}</Chip> : null}
      </div>
      {waits.length === 0 ? (
        <p class="pad muted">Nothing needs you. Last checked {d ? age(now.value - d.site.at.value) : ''} ago.</p>
      ) : (
        <ul>
          {knocks.length > 0 ? (
            <li class="fd">
              <h3>
                <span class="t-act">
                  <Icon name="dia" />
                </span>
                {plural(knocks.length, 'machine waits', 'machines wait')} to be authorized
              </h3>
              <p>{knocks.slice(0, 3).map((w) => `${w.subject} since ${age(now.value - w.since)}`).join(', ')}{knocks.length > 3 ? ` and ${knocks.length - 3} more` : ''}</p>
              <Remedy>qb node authorize --waiting</Remedy>
              {site.founded ? (
                <div class="ind">
                  <Link to={sitePath('nodes')} class="a">Compare and authorize here</Link>
                </div>
              ) : null}
            </li>
          ) : null}
          {others.map(item)}
        </ul>
      )}
    </section>
  );
}

const KINDS: Record<string, IconName> = { intent: 'pen-line', node: 'server', cluster: 'boxes', raft: 'crown', mesh: 'network', alert: 'bell', step: 'timer', bundle: 'package-plus' };

export const EventRow = ({ event }: { event: Event }) => (
  <li class="ev" data-row tabIndex={-1}>
    <span class="faint nowrap">
      <Time at={event.at} />
    </span>
    <span class="faint" title={event.kind}>
      <Icon name={KINDS[event.kind] ?? 'ring'} small />
    </span>
    <span class="grow">
      {event.kind === 'intent' || event.text.startsWith(event.subject) ? null : <b>{event.subject} </b>}
      {visible(event.text)}
    </span>
    <span class="faint hide-s nowrap">{event.kind === 'intent' ? event.subject.slice(0, 8) : event.kind}</span>
  </li>
);

/** How far what is shown here can be believed. */
function Attest({ site }: { site: SiteView }) {
  const behind = data.value?.memory.behind.value ?? 0;
  const relay = through.value === 'relay';
  const proved = data.value?.proof.verdict.value;
  const words = site.founded && proved ? proofWords(proved, now.value, false)[1] : null;
  return (
    <p class="sub2 attest">
      {relay ? (
        <>
          <b>unverified: served by the relay's own page.</b> What you sign is checked on every machine; what you read here, only a terminal verifies: <code>qb site verify</code>
          {words ? <> · by this page's own code: {words}</> : null}
        </>
      ) : (
        <>answered by node {site.door.host} of the site{words ? <> · {words}</> : null}</>
      )}
      {behind > 0 ? <> · <b class="t-act">{plural(behind, 'entry', 'entries')} behind what this browser saw before</b></> : null}
    </p>
  );
}

export function SitePage() {
  const d = data.value;
  const site = useLive(d?.site);
  const nodes = useLive(d?.nodes);
  useLive(d?.clusters);
  if (!d) return null;
  if (!site) return <Loading resource={d.site} what="the site" />;
  const [tone, word] = siteTone(site);
  const id = siteBytes(site.id);
  const events = d.events.value.slice(0, 20);
  return (
    <>
      <PageHead
        title={site.name}
        status={<Status tone={tone}>{word}</Status>}
        sub={
          <>
            Site id <span class="mono" title={site.id}>{id ? hashGroups(hex(id)) : ''}</span> · {site.trust === 'provisional' ? 'provisional: one key governs it' : 'settled'} · Times are{' '}
            {Intl.DateTimeFormat().resolvedOptions().timeZone}
          </>
        }
      >
        <Link to={sitePath('add')} class="btn">
          <Icon name="package-plus" />
          Add machines
        </Link>
        <button type="button" class="btn p" onClick={() => (dialog.value = { kind: 'create' })} disabled={!site.founded}>
          <Icon name="plus" />
          Create a cluster
        </button>
      </PageHead>
      <Stale resource={d.site} />
      <Attest site={site} />
      <Figures site={site} nodes={nodes ?? []} />
      <div class="two flip">
        <section class="card">
          <div class="ch">
            <h2>Mesh</h2>
            <span class="muted hide-s">Only links with a role or a problem are drawn</span>
            <MeshLegend />
          </div>
          <div class="cb">{nodes ? <Mesh site={site} nodes={nodes} /> : <Loading resource={d.nodes} what="its nodes" />}</div>
        </section>
        <Needs site={site} />
      </div>
      {nodes ? <SiteCharts nodes={nodes} /> : null}
      {site.trust === 'provisional' && site.founded ? (
        <section class="card gap">
          <div class="cb row wrap">
            <span class="t-act">
              <Icon name="key-round" />
            </span>
            <span class="grow">
              <b>One key governs this site.</b> <span class="muted">Add a second owner key of another class, so that no single laptop matters.</span>
            </span>
            <Link to={sitePath('keys')} class="btn sm">
              Admins and keys
            </Link>
          </div>
        </section>
      ) : null}
      <section class="card gap">
        <div class="ch">
          <h2>What happened</h2>
          <Link to={sitePath('events')} class="a end">
            all events
          </Link>
        </div>
        {events.length === 0 ? <p class="pad muted">Nothing since this door was started.</p> : <ul>{events.map((e) => <EventRow key={e.seq} event={e} />)}</ul>}
      </section>
    </>
  );
}

export const atClock = (at: number): string => clock(at, now.value);
