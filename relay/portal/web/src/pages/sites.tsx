// All sites behind this door: is anything wrong anywhere?

import { useEffect } from 'preact/hooks';
import type { SiteView } from '../api/views.ts';
import { go, now, route, setQuery } from '../state/app.ts';
import { sites, useLive } from '../state/data.ts';
import { age, plural } from '../state/format.ts';
import { Icon } from '../ui/icons.tsx';
import { Cmd, Empty, Link, Loading, PageHead, Stale, Status, type Tone } from '../ui/parts.tsx';

export const needs = (site: SiteView): number => site.waiting_on.filter((w) => w.clears === 'person').length;

export function siteTone(site: SiteView): [Tone, string] {
  const dark = site.waiting_on.find((w) => w.code === 'relay.stale');
  if (dark) return ['bad', `dark, last seen ${age(now.value - dark.since)} ago`];
  if (!site.founded) return ['act', 'waits to be founded'];
  if (site.leader === null) return ['bad', 'no leader'];
  const n = needs(site);
  return n > 0 ? ['act', `${plural(n, 'thing')} ${n === 1 ? 'needs' : 'need'} you`] : ['ok', 'healthy'];
}

const RANK: Record<Tone, number> = { bad: 0, act: 1, busy: 2, reh: 2, idle: 3, ok: 4 };

export function SitesPage() {
  const list = useLive(sites);
  useEffect(() => {
    document.title = 'Sites · qb';
  }, []);
  // A door of a site shows one site: it is the page.
  useEffect(() => {
    if (list?.length === 1 && history.state !== 'stay') go(`/${(list[0] as SiteView).name}`, true);
  }, [list]);
  const line = (route.value.query.get('where') ?? '').toLowerCase();
  const rows = (list ?? []).filter((s) => s.name.includes(line)).sort((a, b) => RANK[siteTone(a)[0]] - RANK[siteTone(b)[0]] || (a.name < b.name ? -1 : 1));
  return (
    <main class="main wide" id="main" tabIndex={-1}>
      <PageHead title="Sites" sub="Worst first, then by name" />
      <Stale resource={sites} />
      {(list?.length ?? 0) > 8 ? (
        <label class="inp filters">
          <Icon name="filter" small />
          <span class="vh">Filter by name</span>
          <input type="search" autofocus={(list?.length ?? 0) > 40} placeholder="a name" value={line} spellcheck={false} onInput={(e) => setQuery('where', e.currentTarget.value)} />
        </label>
      ) : null}
      {list === undefined ? (
        <Loading resource={sites} what="its sites" />
      ) : rows.length === 0 && line ? (
        <Empty title="No site matches" />
      ) : rows.length === 0 ? (
        <Empty title="No site yet">
          <p class="muted">A site is one room of machines that govern themselves. It is founded in a terminal, so that no page ever holds its keys.</p>
          <Cmd>qb site create NAME --admin YOU --name "Your Name"</Cmd>
        </Empty>
      ) : (
        <section class="card">
          <ul class="rows">
            {rows.map((s) => {
              const [tone, word] = siteTone(s);
              return (
                <li key={s.id} data-row>
                  <Link to={`/${s.name}`} class="nm grow">
                    {s.name}
                  </Link>
                  <Status tone={tone}>{word}</Status>
                  <span class="muted hide-s">{plural(s.counts.pool + s.counts.attached + s.counts.detaching, 'node')}</span>
                  <span class="muted hide-s">{plural(s.clusters, 'cluster')}</span>
                </li>
              );
            })}
          </ul>
        </section>
      )}
    </main>
  );
}
