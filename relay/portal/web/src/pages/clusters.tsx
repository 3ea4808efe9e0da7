// Clusters: what runs where?

import type { ClusterView } from '../api/views.ts';
import { dialog, narrow, now, sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { age, plural } from '../state/format.ts';
import { Icon } from '../ui/icons.tsx';
import { clusterTone, Cmd, Empty, Link, Loading, PageHead, Rehearsal, Stale, Status } from '../ui/parts.tsx';

export const controlPlanes = (c: ClusterView): [number, number] => {
  const all = c.members.filter((m) => m.role === 'control-plane');
  return [all.filter((m) => m.done === 'initialize' || m.done === 'join').length, all.length];
};

const whyOf = (c: ClusterView): string => (c.waiting_on ? `${c.waiting_on.text} · ${age(now.value - c.waiting_on.since)}` : `since ${age(now.value - c.since)}`);

export function ClustersPage() {
  const d = data.value;
  const list = useLive(d?.clusters);
  const site = useLive(d?.site);
  if (!d) return null;
  if (!list) return <Loading resource={d.clusters} what="its clusters" />;
  const create = (
    <button type="button" class="btn p" disabled={!site?.founded} onClick={() => (dialog.value = { kind: 'create' })}>
      <Icon name="plus" />
      Create a cluster
    </button>
  );
  return (
    <>
      <PageHead title="Clusters" sub={plural(list.length, 'cluster')}>
        {list.length > 0 ? create : null}
      </PageHead>
      <Stale resource={d.clusters} />
      {list.length === 0 ? (
        <Empty title="No cluster yet">
          <p class="muted">Clusters start empty and take nodes from the pool.</p>
          {create}
          <Cmd>qb cluster create NAME</Cmd>
        </Empty>
      ) : narrow.value ? (
        <section class="card">
          <ul class="cards">
            {list.map((c) => (
              <li key={c.name} data-row>
                <div class="row between">
                  <Link to={sitePath('clusters', c.name)} class="nm">{c.name}</Link>
                  <Status tone={clusterTone(c.state, c.waiting_on)}>{c.state}</Status>
                </div>
                <div class="sub2">{c.driver} {c.version} · {plural(c.members.length, 'node')}</div>
                <div class="sub2">{whyOf(c)}</div>
                {c.rehearsal ? <Rehearsal /> : null}
              </li>
            ))}
          </ul>
        </section>
      ) : (
        <section class="card">
          <div class="tblx">
            <table>
              <thead>
                <tr>
                  <th scope="col">Name</th>
                  <th scope="col" class="c36">State</th>
                  <th scope="col">Driver</th>
                  <th scope="col">Version</th>
                  <th scope="col" class="num">Control plane</th>
                  <th scope="col" class="num">Workers</th>
                  <th scope="col">API server</th>
                </tr>
              </thead>
              <tbody>
                {list.map((c) => {
                  const [up, of] = controlPlanes(c);
                  return (
                    <tr key={c.name} data-row>
                      <td>
                        <Link to={sitePath('clusters', c.name)} class="nm">{c.name}</Link>
                      </td>
                      <td>
                        <Status tone={clusterTone(c.state, c.waiting_on)}>{c.state}</Status>
                        <div class="sub2 clip" title={whyOf(c)}>{whyOf(c)}</div>
                      </td>
                      <td>{c.rehearsal ? <Rehearsal /> : c.driver}</td>
                      <td>{c.version}</td>
                      <td class="num">{of > 0 ? `${up} of ${of}` : ''}</td>
                      <td class="num">{c.members.length - of || ''}</td>
                      <td class="mono">{c.endpoint ?? <span class="faint">not yet</span>}</td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </div>
        </section>
      )}
    </>
  );
}
