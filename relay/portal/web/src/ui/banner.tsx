// At most one banner under the top bar, the highest first. Each says what still works.

import type { ComponentChildren } from 'preact';
import { now, route, sitePath } from '../state/app.ts';
import { data, type SiteData } from '../state/data.ts';
import { able } from '../state/keys.ts';
import { lostAt, nextTry, retryStream } from '../state/live.ts';
import { author, through } from '../state/session.ts';
import { proofWords } from '../state/proof.ts';
import { age, hashGroups } from '../state/format.ts';
import { hex, unbase64url } from '../signed/bytes.ts';
import { visible } from '../signed/strict.ts';
import { Icon, type IconName } from './icons.tsx';
import { Cmd, Link, Since, Time } from './parts.tsx';

/** Where an agent's door listens. */
const DOOR_PORT = 8443;

interface Notice {
  /** What "and 1 more" names it by. */
  word: string;
  tone: 'bad' | 'idle' | 'act' | 'reh';
  icon: IconName;
  body: ComponentChildren;
}

/** All that hold now, by rank. */
function notices(d: SiteData): Notice[] {
  const all: (Notice | null)[] = [leaderless(d), split(d), otherPast(d), lost(d), offline(d), unproved(d), cannot(d), rehearsal(d)];
  return all.filter((n) => n !== null);
}

function leaderless(d: SiteData): Notice | null {
  const site = d.site.value.value;
  if (!site?.founded || site.leader !== null || site.voters.length === 0) return null;
  const alive = site.voters.filter((v) => v.connected).length;
  const silent = site.voters.filter((v) => !v.connected).map((v) => v.host);
  return {
    word: 'no leader',
    tone: 'bad',
    icon: 'octagon-x',
    body: (
      <>
        <b>
          The site has no leader: {alive} of {site.voters.length} voters answer{alive === 1 ? 's' : ''}.
        </b>{' '}
        Clusters keep running. Nothing can be changed until {Math.floor(site.voters.length / 2) + 1} answer.
        {silent.length > 0 ? ` Not connected to this door: ${silent.join(', ')}.` : ''}
      </>
    ),
  };
}

/** Two heads for one entry: told by the site or the relay, or seen by this browser itself. */
function split(d: SiteData): Notice | null {
  const told = d.alerts.value.value?.find((a) => a.resolved === null && /split|fork/.test(a.rule));
  const seen = d.memory.forked.value;
  if (!told && !seen) return null;
  return {
    word: 'two heads',
    tone: 'bad',
    icon: 'octagon-x',
    body: (
      <>
        <b>{seen ? `Split view: entry ${seen.index} has two heads.` : `Split view: ${visible(told?.text ?? '')}.`}</b>{' '}
        {seen ? `This browser saw ${seen.before} before, this door shows ${seen.now} now. ` : ''}Trust the site, not the relay. Nothing is signed from this page until it is settled.
        <Cmd>qb audit verify</Cmd>
      </>
    ),
  };
}

const eight = (digest: string): string => hashGroups(hex(unbase64url(digest, 32)));

/** Voters signed two pasts, or this door went back: nothing is signed here. */
function otherPast(d: SiteData): Notice | null {
  const p = d.proof.verdict.value;
  if (p.kind !== 'split' && p.kind !== 'back') return null;
  const [, words] = proofWords(p, now.value, false);
  return {
    word: p.kind === 'split' ? 'split view' : 'rolled back',
    tone: 'bad',
    icon: 'octagon-x',
    body: (
      <>
        <b>{words}.</b>{' '}
        {p.kind === 'split' ? <>This browser saw <code>{eight(p.ours)}</code>, this door shows <code>{eight(p.theirs)}</code>. Both are signed by voters and cannot both be. Nothing is signed from this page until it is settled.</> : 'This door shows an older state than it did before. Nothing is signed from this page until it has caught up.'}
        <Cmd>qb site verify</Cmd>
      </>
    ),
  };
}

/** Voters do not stand for what is shown, or signed nothing for a while. */
function unproved(d: SiteData): Notice | null {
  const p = d.proof.verdict.value;
  // Before the founding there is nobody who could sign.
  if ((p.kind !== 'unverified' && p.kind !== 'stale') || !d.site.value.value?.founded) return null;
  const [, words] = proofWords(p, now.value, false);
  return {
    word: words,
    tone: p.kind === 'stale' ? 'idle' : 'act',
    icon: p.kind === 'stale' ? 'timer' : 'dia',
    body: (
      <>
        <b>What this page shows is {words}.</b>{' '}
        {p.kind === 'stale' ? 'By the clock of this computer this door has shown nothing since that voters signed. The site may go on without it.' : 'You can read and sign: each machine checks what you sign.'}
        <Cmd>qb site verify</Cmd>
      </>
    ),
  };
}

/** Addresses of the site's own doors, as its nodes told: for when the relay is of no use. */
function Doors({ d }: { d: SiteData }) {
  if (through.value !== 'relay') return null;
  const nodes = (d.nodes.value.value ?? []).filter((n) => n.state !== 'waiting' && n.state !== 'revoked' && n.facts?.addresses[0]);
  if (nodes.length === 0) return <Cmd>qb portal</Cmd>;
  const url = (address: string): string => `https://${address.includes(':') ? `[${address}]` : address}:${DOOR_PORT}${route.value.path}`;
  return (
    <>
      {' '}
      Open the site's own door: <span class="doors">{nodes.slice(0, 3).map((n) => <a key={n.id} class="btn sm" href={url(n.facts?.addresses[0] ?? '')} rel="noreferrer">{n.name}</a>)}</span>
    </>
  );
}

function lost(d: SiteData): Notice | null {
  if (lostAt.value === 0 || now.value - lostAt.value <= 2_500) return null;
  return {
    word: 'this page stopped updating',
    tone: 'idle',
    icon: 'timer',
    body: (
      <>
        <span class="grow">
          <b>This page stopped updating {age(now.value - lostAt.value)} ago.</b> What you see is from <Time at={lostAt.value} />. Reconnecting
          {nextTry.value > now.value ? `, next try in ${age(nextTry.value - now.value)}` : ''}.
          <Doors d={d} />
        </span>{' '}
        <button type="button" class="btn sm" onClick={retryStream}>
          Try now
        </button>
      </>
    ),
  };
}

function offline(d: SiteData): Notice | null {
  const stale = d.site.value.value?.waiting_on.find((w) => w.code === 'relay.stale');
  if (!stale) return null;
  return {
    word: `${d.name} is offline at this relay`,
    tone: 'idle',
    icon: 'cloud',
    body: (
      <>
        <b>
          {d.name} is offline at this relay since <Time at={stale.since} /> (<Since at={stale.since} />).
        </b>{' '}
        The site runs on without it. What you sign waits here until it expires. <Doors d={d} />
      </>
    ),
  };
}

function cannot(d: SiteData): Notice | null {
  const notice = (word: string, body: ComponentChildren): Notice => ({ word, tone: 'act', icon: 'key-round', body });
  // The terminal that serves this page signs.
  if (through.value === 'portal') return null;
  if (able.value === 'insecure') return notice('this page cannot sign', <><b>This page can read but not sign:</b> it was opened over http. Open it over https.</>);
  if (able.value === 'old') return notice('this browser cannot sign', <><b>This browser cannot sign:</b> it has no Ed25519. You can read. Firefox from 129, Safari from 17 and Chrome from 137 can.</>);
  if (!d.admins.value.value || author.value || route.value.page === 'keys') return null;
  return notice(
    'no key at this door',
    <>
      <b>You have no key at this door.</b> You can read. To change things, add a key for this browser with one you have elsewhere.{' '}
      <Link to={sitePath('keys')} class="btn sm">
        Add key
      </Link>
    </>,
  );
}

function rehearsal(d: SiteData): Notice | null {
  const stand = (d.clusters.value.value ?? []).filter((c) => c.rehearsal).map((c) => c.name);
  if (stand.length === 0) return null;
  return {
    word: 'a rehearsal runs',
    tone: 'reh',
    icon: 'flask-conical',
    body: (
      <>
        <b>Rehearsal.</b> {stand.slice(0, 3).join(', ')}
        {stand.length > 3 ? ` and ${stand.length - 3} more` : ''} {stand.length === 1 ? 'runs' : 'run'} stand-in processes in a folder. It is not Kubernetes and holds no workload.
      </>
    ),
  };
}

export function Banner() {
  const d = data.value;
  const all = d ? notices(d) : [];
  const first = all[0];
  if (!first) return null;
  const rest = all.slice(1);
  return (
    <>
      <div class={`banner ${first.tone === 'idle' ? '' : first.tone}`} key={first.word} role={first.tone === 'bad' ? 'alert' : 'status'}>
        <Icon name={first.icon} />
        <span class="grow">{first.body}</span>
      </div>
      {rest.length > 0 ? <p class="more">and {rest.length} more {rest.length === 1 ? 'notice' : 'notices'}: {rest.map((n) => n.word).join(', ')}</p> : null}
    </>
  );
}
