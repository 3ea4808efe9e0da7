// Alerts: what is firing, what does it mean, what to type?

import type { AlertView } from '../api/views.ts';
import { route, setQuery, sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { plural } from '../state/format.ts';
import { visible } from '../signed/strict.ts';
import { Empty, Link, Loading, PageHead, Remedy, Since, Stale, Status, Time, type Tone } from '../ui/parts.tsx';

/** What an alert means, and the command that shows more where the alert names none. */
const RULES: Record<string, [string, string]> = {
  'node-silent': ['No voter heard a report of this node. The machine is off, its agent has ended, or the network between is cut.', 'systemctl status qb-agent'],
  'step-failed': ['A step on this node failed and is tried again. Nothing was undone.', 'qb node show NAME'],
  'agent-upgrade-halted': ['The upgrade of all agents ended at a node that failed. The others run the version that they ran; an owner begins it again.', 'qb agent list'],
  'certificates-expire': ['The certificates of this control plane node end soon. The node renews them by itself when 90 days are left, and could not. When they end, Kubernetes on it stops working.', 'qb cluster show NAME'],
  'unit-unwell': ['A unit that the cluster needs does not run on this node.', 'qb node show NAME'],
  'site-leader': ['Too few voters answer to elect a leader. Clusters keep running; nothing can be changed.', 'qb site status'],
  'site-dark': ['No node of the site has a link to the relay. The site runs on without it; this page shows what was seen last.', 'qb site status'],
  'split-view': ['Nodes signed contradicting statements. Compare the doors before anything is signed.', 'qb audit verify'],
  'trust-fork': ['A gateway brought a trust log that does not extend the verified one.', 'qb audit verify'],
};
const LAYERS: Record<string, string> = { host: 'Host', kubernetes: 'Kubernetes', 'add-on': 'Add-on', qb: 'qb' };

const alertTone = (a: AlertView): Tone => (a.resolved !== null ? 'ok' : a.severity === 'critical' ? 'bad' : 'act');
/** Worst, then oldest. */
const byRank = (a: AlertView, b: AlertView): number => Number(b.severity === 'critical') - Number(a.severity === 'critical') || a.since - b.since;
const layerOf = (a: AlertView): string => a.layer ?? 'qb';

function AlertRow({ a, isNode }: { a: AlertView; isNode: boolean }) {
  const [means, look] = RULES[a.rule] ?? ['', ''];
  const remedy = a.remedy ?? look.replace('NAME', a.subject);
  return (
    <li class="fd" data-row tabIndex={-1}>
      <h3>
        <Status tone={alertTone(a)}>{a.resolved !== null ? 'resolved' : a.severity}</Status>
        <span class="grow">
          {isNode ? <Link to={sitePath('nodes', a.subject)}>{a.subject}</Link> : visible(a.subject)} {visible(a.text)}
        </span>
        <span class="chip o">{LAYERS[layerOf(a)] ?? visible(layerOf(a))}</span>
        <code class="chip o hide-s">{visible(a.rule)}</code>
      </h3>
      <p>
        Since <Since at={a.since} />{a.resolved !== null ? <>, over <Time at={a.resolved} /></> : null}. {means}
      </p>
      {remedy && a.resolved === null ? (
        <div class="ind">
          <Remedy on={a.rule === 'node-silent' && !a.remedy ? a.subject : null}>{remedy}</Remedy>
        </div>
      ) : null}
    </li>
  );
}

export function AlertsPage() {
  const d = data.value;
  const all = useLive(d?.alerts);
  const nodes = useLive(d?.nodes) ?? [];
  const clusters = d?.clusters.value.value ?? [];
  if (!d) return null;
  if (!all) return <Loading resource={d.alerts} what="its alerts" />;
  const layer = route.value.query.get('layer') ?? '';
  const layers = [...new Set(all.map(layerOf))].sort();
  const list = all.filter((a) => !layer || layerOf(a) === layer);
  const firing = list.filter((a) => a.resolved === null).sort(byRank);
  const over = list.filter((a) => a.resolved !== null);
  const members = nodes.filter((n) => n.state !== 'waiting' && n.state !== 'revoked').length;
  const row = (a: AlertView) => <AlertRow key={`${a.rule} ${a.subject} ${a.since}`} a={a} isNode={nodes.some((n) => n.name === a.subject)} />;
  return (
    <>
      <PageHead
        title="Alerts"
        status={firing.length > 0 ? <Status tone={firing.some((a) => a.severity === 'critical') ? 'bad' : 'act'}>{firing.length} firing</Status> : null}
        sub="Worst, then oldest. The site raises them itself, also while the relay is out of reach."
      />
      <Stale resource={d.alerts} />
      {layers.length > 1 ? (
        <div class="row wrap filters">
          <span class="seg" role="group" aria-label="Layer">
            {['', ...layers].map((l) => (
              <button key={l} type="button" class={l === layer ? 'on' : ''} aria-pressed={l === layer} onClick={() => setQuery('layer', l)}>
                {l ? (LAYERS[l] ?? visible(l)) : 'All'} {all.filter((a) => a.resolved === null && (!l || layerOf(a) === l)).length}
              </button>
            ))}
          </span>
        </div>
      ) : null}
      {firing.length === 0 ? (
        <Empty title="Nothing is firing">
          <p class="muted">{plural(members, 'node')} and {plural(clusters.length, 'cluster')} are watched.{over[0] ? <> The last alert was over <Time at={Math.max(...over.map((a) => a.resolved ?? 0))} />.</> : ''}</p>
        </Empty>
      ) : (
        <>
          <div class="sec"><h2>Firing</h2><span class="c">{firing.length}</span></div>
          <section class="card"><ul>{firing.map(row)}</ul></section>
        </>
      )}
      {over.length > 0 ? (
        <>
          <div class="sec"><h2>Resolved</h2><span class="c">in 24 h</span></div>
          <section class="card"><ul>{over.map(row)}</ul></section>
        </>
      ) : null}
    </>
  );
}
