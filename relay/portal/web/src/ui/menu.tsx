// The menu: pages, their keys, and what needs somebody.

import { route, sitePath } from '../state/app.ts';
import { data } from '../state/data.ts';
import { hashGroups, thousands } from '../state/format.ts';
import { hex, unbase64url } from '../signed/bytes.ts';
import { Icon, type IconName } from './icons.tsx';
import { Link } from './parts.tsx';

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

/** Keys that no page has for itself: what they do, for the list of keys. */
export const KEYS: readonly [string, string][] = [
  ['/', 'search and commands'],
  ['j k', 'next and previous row'],
  ['x', 'select the row'],
  ['Enter', 'open what has the focus'],
  ['.', 'first action of the row'],
  ['a', 'nodes: authorize'],
  ['t', 'nodes, cluster: attach'],
  ['v', 'mesh: drawing or table'],
  ['r', 'preflight: run, audit: verify again'],
  ['e', 'export'],
  ['Esc', 'close'],
  ['?', 'this list'],
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

export function Side() {
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

export function Bar() {
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
