// The frame: top bar, menu, the page, dialogs.

import { effect } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { loginWanted, token } from '../api/client.ts';
import { dialog, isDark, now, route, said, sitePath, toggleTheme } from '../state/app.ts';
import { data, SiteData, sites, useLive } from '../state/data.ts';
import { browserKey } from '../state/keys.ts';
import { follow, heard, lostAt } from '../state/live.ts';
import { terminal } from '../state/terminal.ts';
import { author, door, enter, through } from '../state/session.ts';
import { proofWords } from '../state/proof.ts';
import { age } from '../state/format.ts';
import { Banner } from './banner.tsx';
import { Icon } from './icons.tsx';
import { UndoBar } from './undo.tsx';
import { onKey } from './keyboard.ts';
import { Bar, pageItems, Side } from './menu.tsx';
import { Ident, Link } from './parts.tsx';
import { Dialogs } from '../dialogs/dialogs.tsx';
import { SitesPage } from '../pages/sites.tsx';
import { SitePage } from '../pages/site.tsx';
import { NodesPage } from '../pages/nodes.tsx';
import { NodePage } from '../pages/node.tsx';
import { ClustersPage } from '../pages/clusters.tsx';
import { ClusterPage } from '../pages/cluster.tsx';
import { PreflightPage } from '../pages/preflight.tsx';
import { AlertsPage } from '../pages/alerts.tsx';
import { EventsPage, IntentsPage } from '../pages/lists.tsx';
import { AuditPage } from '../pages/audit.tsx';
import { AddPage } from '../pages/add.tsx';
import { BundlesPage, KeysPage, MorePage, PolicyPage } from '../pages/setup.tsx';
import { LoginPage } from '../pages/login.tsx';

// One site at a time: its lists and its stream begin and end with it.
effect(() => {
  const name = door.value === 'local' || door.value === 'in' ? route.value.site : null;
  if (data.peek()?.name === name) return;
  data.value = name === null ? null : new SiteData(name);
  follow(data.value);
});

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
  const held = terminal.value ? { public: terminal.value.signer.key } : browserKey.value;
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

/** Which door shows this page: whose word it is. */
function DoorChip({ host }: { host: string }) {
  const [icon, word, title] = {
    relay: ['cloud', 'through the relay', `The relay shows this page and passes on what node ${host} says`] as const,
    portal: ['terminal', 'qb portal', 'The terminal on this computer shows this page, and signs'] as const,
    site: ['door-open', `on site: ${host}`, `This page is answered by node ${host} of the site`] as const,
  }[through.value];
  return (
    <span class="chip o door" title={title}>
      <Icon name={icon} />
      {word}
    </span>
  );
}

/** Whether voters stand for what is shown. */
function ProofChip({ d }: { d: SiteData }) {
  const [tone, words] = proofWords(d.proof.verdict.value, now.value, through.value === 'relay');
  return (
    <span class={`chip door vouch ${tone === 'idle' ? 'o' : tone}`} title={words}>
      <span class="clip">{words}</span>
    </span>
  );
}

function Top() {
  const { site, object } = route.value;
  const several = (sites.value.value?.length ?? 0) > 1;
  const view = data.value?.site.value.value;
  return (
    <header class="top">
      <Link to="/" class="logo" label="qb, all sites">
        <Logo />
        <span>qb</span>
      </Link>
      {site ? (
        <nav class="crumb" aria-label="Where you are">
          {several ? (
            <>
              <Link to="/" class="a0 hide-s">All sites</Link>
              <span class="sep hide-s">/</span>
            </>
          ) : null}
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
      {view ? <DoorChip host={view.door.host} /> : null}
      {data.value && view?.founded ? <ProofChip d={data.value} /> : null}
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
  const id = d?.site.value.value?.id;
  useEffect(() => (d && id ? d.proof.run(id) : undefined), [d, id]);
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
    if (inside) void sites.load();
  }, [inside]);
  return (
    <div class={inside && route.value.site ? 'app' : 'app bare'}>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById('main')?.focus(); }}>Skip to the page</a>
      <Top />
      {!inside ? <LoginPage /> : route.value.site ? <Site /> : <SitesPage />}
      <Dialogs />
      <UndoBar />
      <div class="vh" role="status" aria-live="polite">{said.value}</div>
    </div>
  );
}
