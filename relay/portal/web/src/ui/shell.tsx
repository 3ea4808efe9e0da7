// The frame: bars, menu, banners, keys of the keyboard.

import { effect } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { loginWanted, token } from '../api/client.ts';
import { dialog, go, isDark, now, route, said, shortcuts, sitePath, toggleTheme } from '../state/app.ts';
import { data, SiteData, sites, useLive } from '../state/data.ts';
import { able, browserKey } from '../state/keys.ts';
import { heard, lostAt, nextTry, Stream } from '../state/live.ts';
import { author, door, enter } from '../state/session.ts';
import { age, hashGroups, thousands } from '../state/format.ts';
import { hex, unbase64url } from '../signed/bytes.ts';
import { Icon, type IconName } from './icons.tsx';
import { Ident, Link, Time } from './parts.tsx';
import { Dialogs } from '../dialogs/dialogs.tsx';
import { SitesPage } from '../pages/sites.tsx';
import { SitePage } from '../pages/site.tsx';
import { NodesPage } from '../pages/nodes.tsx';
import { NodePage } from '../pages/node.tsx';
import { ClustersPage } from '../pages/clusters.tsx';
import { ClusterPage } from '../pages/cluster.tsx';
import { PreflightPage } from '../pages/preflight.tsx';
import { AlertsPage, EventsPage, IntentsPage } from '../pages/lists.tsx';
import { AuditPage } from '../pages/audit.tsx';
import { AddPage, BundlesPage, KeysPage, MorePage, PolicyPage } from '../pages/setup.tsx';
import { LoginPage } from '../pages/login.tsx';

let stream: Stream | null = null;

// One site at a time: its lists and its stream begin and end with it.
effect(() => {
  const name = door.value === 'local' || door.value === 'in' ? route.value.site : null;
  if (data.peek()?.name === name) return;
  stream?.close();
  stream = null;
  data.value = name === null ? null : new SiteData(name);
  if (data.value) stream = new Stream(data.value);
});

interface Item {
  page: string;
  word: string;
  icon: IconName;
  key?: string;
}

const MENU: Item[] = [
  { page: 'site', word: 'Site', icon: 'network', key: 's' },
  { page: 'nodes', word: 'Nodes', icon: 'server', key: 'n' },
  { page: 'clusters', word: 'Clusters', icon: 'boxes', key: 'c' },
  { page: 'preflight', word: 'Preflight', icon: 'list-checks', key: 'p' },
  { page: 'alerts', word: 'Alerts', icon: 'bell', key: 'a' },
  { page: 'intents', word: 'Intents', icon: 'file-signature', key: 'i' },
  { page: 'audit', word: 'Audit', icon: 'scroll-text', key: 'u' },
  { page: 'events', word: 'Events', icon: 'activity', key: 'e' },
];
const SETUP: Item[] = [
  { page: 'add', word: 'Add machines', icon: 'package-plus' },
  { page: 'bundles', word: 'Bundles', icon: 'layers' },
  { page: 'keys', word: 'Admins and keys', icon: 'key-round', key: 'k' },
  { page: 'policy', word: 'Policy', icon: 'sliders-horizontal' },
];

export const pageItems = (): readonly Item[] => [...MENU, ...SETUP];
export const pageHref = (page: string): string => (page === 'site' ? sitePath() : sitePath(page));
const currentPage = (): string => route.value.page;

function Count({ page }: { page: string }) {
  const site = data.value?.site.value.value;
  if (!site) return null;
  const alerts = data.value?.alerts.value.value;
  const n =
    page === 'nodes' ? site.counts.waiting : page === 'clusters' ? site.clusters : page === 'alerts' ? (alerts ?? []).filter((a) => a.resolved === null).length : 0;
  if (n === 0) return null;
  const act = page === 'nodes' || page === 'alerts';
  return (
    <span class={act ? 'n act' : 'n'}>
      {n}
      {act ? <span class="vh"> need you</span> : null}
    </span>
  );
}

const MenuLink = ({ item }: { item: Item }) => {
  const on = currentPage() === item.page;
  return (
    <Link to={pageHref(item.page)} class={on ? 'on' : ''} current={on}>
      <Icon name={item.icon} />
      {item.word}
      <Count page={item.page} />
    </Link>
  );
};

export const shortHash = (hash: string): string => hashGroups(hex(unbase64url(hash, 32)));

function Side() {
  const site = data.value?.site.value.value;
  return (
    <nav class="side" aria-label={`Site ${route.value.site ?? ''}`}>
      {MENU.map((item) => (
        <MenuLink key={item.page} item={item} />
      ))}
      <h2>Set up</h2>
      {SETUP.map((item) => (
        <MenuLink key={item.page} item={item} />
      ))}
      {site ? (
        <div class="foot">
          Audit entry {thousands(site.head.index)} · term {site.term}
          <br />
          Audit head <span class="mono">{shortHash(site.head.hash)}</span>
          <br />
          qb {site.door.agent}
        </div>
      ) : null}
    </nav>
  );
}

const Logo = () => (
  <svg width="24" height="24" viewBox="0 0 24 24" aria-hidden="true">
    <path class="lg" d="M12 1.5 21 6.7v10.6L12 22.5 3 17.3V6.7Z" />
    <path class="lh" d="M12 7.2 16.2 9.6v4.8L12 16.8 7.8 14.4V9.6Z" />
    <path class="ll" d="m14.2 14.6 4.6 4.3" />
  </svg>
);

function Live() {
  const lost = lostAt.value !== 0;
  return (
    <span class={lost ? 'live lost' : 'live'} title={`Last heard ${age(now.value - heard.value)} ago`}>
      <i class="d" />
      <span>{lost ? `stopped ${age(now.value - lostAt.value)}` : 'live'}</span>
    </span>
  );
}

function KeyChip() {
  const who = author.value;
  const held = browserKey.value;
  const to = route.value.site ? sitePath('keys') : '/';
  return (
    <Link to={to} class="keychip">
      <b class="vh">Keys:</b>
      {held ? <Ident of={held.public} /> : <span class="noid"><Icon name="key-round" /></span>}
      <span class="ks">{who ? who.admin.name : held ? 'key not added' : 'no key here'}</span>
      {who ? <span class="faint ks">{who.admin.role}</span> : null}
    </Link>
  );
}

function Top() {
  const { site, object } = route.value;
  const view = data.value?.site.value.value;
  return (
    <header class="top">
      <Link to="/" class="logo" label="qb, all sites">
        <Logo />
        <span>qb</span>
      </Link>
      {site ? (
        <nav class="crumb" aria-label="Where you are">
          <Link to={sitePath()} class="a0">
            {site}
          </Link>
          {object ? (
            <>
              <span class="sep hide-s">/</span>
              <span class="hide-s">{object}</span>
            </>
          ) : null}
        </nav>
      ) : null}
      {view ? (
        <span class="chip o door" title={`This page is answered by node ${view.door.host} of the site`}>
          <Icon name="door-open" />
          on site: {view.door.host}
        </span>
      ) : null}
      {site ? (
        <button type="button" class="find" aria-label="Search or type a command" onClick={() => (dialog.value = { kind: 'search' })}>
          <Icon name="search" small />
          <span>Search or type a command</span>
          <kbd>/</kbd>
        </button>
      ) : (
        <span class="fill" />
      )}
      {data.value ? <Live /> : null}
      <button type="button" class="btn q icon" aria-label={isDark.value ? 'Light theme' : 'Dark theme'} onClick={toggleTheme}>
        <Icon name={isDark.value ? 'sun' : 'moon'} />
      </button>
      {door.value === 'out' || door.value === 'unknown' ? null : <KeyChip />}
    </header>
  );
}

function Bar() {
  return (
    <nav class="bar" aria-label="Pages">
      {['site', 'nodes', 'clusters', 'alerts'].map((page) => {
        const item = MENU.find((i) => i.page === page) as Item;
        const on = currentPage() === page;
        return (
          <Link key={page} to={pageHref(page)} class={on ? 'on' : ''} current={on}>
            <Icon name={item.icon} />
            {item.word}
            {page === 'clusters' ? null : <Count page={page} />}
          </Link>
        );
      })}
      <Link to={sitePath('more')} class={currentPage() === 'more' ? 'on' : ''} current={currentPage() === 'more'}>
        <Icon name="ellipsis" />
        More
      </Link>
    </nav>
  );
}

/** At most one banner, the highest first. */
function Banner() {
  const d = data.value;
  const site = d?.site.value.value;
  const clusters = d?.clusters.value.value;
  if (!d) return null;
  const all: preact.JSX.Element[] = [];
  if (site?.founded && site.leader === null && site.voters.length > 0) {
    const alive = site.voters.filter((v) => v.connected).length;
    const silent = site.voters.filter((v) => !v.connected).map((v) => v.host);
    all.push(
      <div class="banner bad" role="alert" key="leader">
        <Icon name="octagon-x" />
        <span class="grow">
          <b>
            The site has no leader: {alive} of {site.voters.length} voters answer{alive === 1 ? 's' : ''}.
          </b>{' '}
          Clusters keep running. Nothing can be changed until {Math.floor(site.voters.length / 2) + 1} answer.
          {silent.length > 0 ? ` Not connected to this door: ${silent.join(', ')}.` : ''}
        </span>
      </div>,
    );
  }
  if (lostAt.value !== 0 && now.value - lostAt.value > 2_500)
    all.push(
      <div class="banner" role="status" key="lost">
        <Icon name="timer" />
        <span class="grow">
          <b>This page stopped updating {age(now.value - lostAt.value)} ago.</b> What you see is from <Time at={lostAt.value} />. Reconnecting
          {nextTry.value > now.value ? `, next try in ${age(nextTry.value - now.value)}` : ''}.
        </span>
        <button type="button" class="btn sm" onClick={() => stream?.retry()}>
          Try now
        </button>
      </div>,
    );
  if (able.value === 'insecure')
    all.push(
      <div class="banner act" key="http">
        <Icon name="key-round" />
        <span class="grow">
          <b>This page can read but not sign:</b> it was opened over http. Open it over https.
        </span>
      </div>,
    );
  else if (able.value === 'old')
    all.push(
      <div class="banner act" key="old">
        <Icon name="key-round" />
        <span class="grow">
          <b>This browser cannot sign:</b> it has no Ed25519. You can read. Firefox from 129, Safari from 17 and Chrome from 137 can.
        </span>
      </div>,
    );
  else if (d.admins.value.value && !author.value && route.value.page !== 'keys')
    all.push(
      <div class="banner act" key="nokey">
        <Icon name="key-round" />
        <span class="grow">
          <b>You have no key at this door.</b> You can read. To change things, add a key for this browser with one you have elsewhere.
        </span>
        <Link to={sitePath('keys')} class="btn sm">
          Add key
        </Link>
      </div>,
    );
  const stand = (clusters ?? []).filter((c) => c.rehearsal).map((c) => c.name);
  if (stand.length > 0)
    all.push(
      <div class="banner reh" key="reh">
        <Icon name="flask-conical" />
        <span class="grow">
          <b>Rehearsal.</b> {stand.slice(0, 3).join(', ')}
          {stand.length > 3 ? ` and ${stand.length - 3} more` : ''} {stand.length === 1 ? 'runs' : 'run'} stand-in processes in a folder. It is not Kubernetes and holds no workload.
        </span>
      </div>,
    );
  if (all.length === 0) return null;
  return (
    <>
      {all[0]}
      {all.length > 1 ? <p class="more">and {all.length - 1} more {all.length === 2 ? 'notice' : 'notices'}: {all.slice(1).map((b) => NOTICE[String(b.key)]).join(', ')}</p> : null}
    </>
  );
}

const NOTICE: Record<string, string> = { lost: 'this page stopped updating', http: 'this page cannot sign', old: 'this browser cannot sign', nokey: 'no key at this door', reh: 'a rehearsal runs' };

function Page() {
  const { page, object } = route.value;
  switch (page) {
    case 'site': return <SitePage />;
    case 'nodes': return object ? <NodePage name={object} /> : <NodesPage />;
    case 'clusters': return object ? <ClusterPage name={object} /> : <ClustersPage />;
    case 'preflight': return <PreflightPage />;
    case 'alerts': return <AlertsPage />;
    case 'intents': return <IntentsPage />;
    case 'audit': return <AuditPage />;
    case 'events': return <EventsPage />;
    case 'add': return <AddPage />;
    case 'bundles': return <BundlesPage />;
    case 'keys': return <KeysPage />;
    case 'policy': return <PolicyPage />;
    case 'more': return <MorePage />;
    default:
      return (
        <section class="card">
          <div class="empty">
            <h2>There is no page {page}</h2>
            <Link to={sitePath()} class="btn">Go to the site</Link>
          </div>
        </section>
      );
  }
}

function Site() {
  const d = data.value;
  useLive(d?.site);
  useLive(d?.admins);
  useLive(d?.clusters);
  useLive(d?.alerts);
  const { site, page, object } = route.value;
  useEffect(() => {
    const word = pageItems().find((i) => i.page === page)?.word ?? page;
    document.title = `${object ?? word} · ${site} · qb`;
  }, [site, page, object]);
  return (
    <>
      <Side />
      <main class="main" id="main" tabIndex={-1}>
        <Banner />
        <Page />
      </main>
      <Bar />
    </>
  );
}

let pendingG = 0;

function onKey(e: KeyboardEvent): void {
  if (e.metaKey || e.ctrlKey || e.altKey || dialog.value || !shortcuts.value) return;
  const target = e.target as HTMLElement;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) && (target as HTMLInputElement).type !== 'checkbox') return;
  if (!route.value.site) return;
  if (Date.now() - pendingG < 1_200) {
    pendingG = 0;
    const item = pageItems().find((i) => i.key === e.key);
    if (item) {
      e.preventDefault();
      go(pageHref(item.page));
    }
    return;
  }
  if (e.key === 'g') pendingG = Date.now();
  else if (e.key === '/') dialog.value = { kind: 'search' };
  else if (e.key === '?') dialog.value = { kind: 'help' };
  else if (e.key === 'j' || e.key === 'k') moveRow(e.key === 'j' ? 1 : -1);
  else if (e.key === 'x') (document.activeElement?.closest('tr,li') as HTMLElement | null)?.querySelector<HTMLInputElement>('input.ck')?.click();
  else return;
  e.preventDefault();
}

/** j and k: from row to row. */
function moveRow(by: number): void {
  const rows = Array.from(document.querySelectorAll<HTMLElement>('[data-row]')).filter((r) => r.offsetParent !== null);
  const at = rows.indexOf(document.activeElement?.closest('[data-row]') as HTMLElement);
  const next = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
  (next?.querySelector<HTMLElement>('a,button') ?? next)?.focus();
}

export function App() {
  useEffect(() => {
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
  // A session that ended asks for the next one.
  useEffect(() => effect(() => {
    if (token.value === null && loginWanted.value !== null && door.peek() === 'in') void enter();
  }), []);
  const inside = door.value === 'local' || door.value === 'in';
  useEffect(() => {
    if (inside && !route.value.site) void sites.load();
  }, [inside]);
  return (
    <div class={inside && route.value.site ? 'app' : 'app bare'}>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById('main')?.focus(); }}>Skip to the page</a>
      <Top />
      {!inside ? <LoginPage /> : route.value.site ? <Site /> : <SitesPage />}
      <Dialogs />
      <div class="vh" role="status" aria-live="polite">{said.value}</div>
    </div>
  );
}
