// Bundles, admins and keys, policy; and the page of links for narrow windows.

import { signal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { setShortcuts, shortcuts, theme, toggleTheme } from '../state/app.ts';
import { asProblem } from '../api/client.ts';
import type { Problem } from '../api/views.ts';
import { data, useLive } from '../state/data.ts';
import { plural, size } from '../state/format.ts';
import { able, browserKey, forgetKey, makeKey } from '../state/keys.ts';
import { terminal } from '../state/terminal.ts';
import { author, door, enter, logout } from '../state/session.ts';
import { unbase64url } from '../signed/bytes.ts';
import { fingerprint, words } from '../signed/names.ts';
import { PORTAL_SET } from '../signed/intent.ts';
import { Icon } from '../ui/icons.tsx';
import { Chip, Cmd, Copy, Empty, Ident, Link, Loading, PageHead, ProblemCard, Stale, Status, Time } from '../ui/parts.tsx';
import { pageHref, pageItems } from '../ui/menu.tsx';

export function BundlesPage() {
  const d = data.value;
  const list = useLive(d?.bundles);
  if (!d) return null;
  if (!list) return <Loading resource={d.bundles} what="its bundles" />;
  return (
    <>
      <PageHead title="Bundles" sub="What clusters are installed from, as the node that answers here holds it" />
      <Stale resource={d.bundles} />
      {list.length === 0 ? (
        <Empty title="No bundle yet"><p class="muted">One node gets it, the rest take it from each other.</p><Cmd>qb bundle push FILE</Cmd></Empty>
      ) : (
        <section class="card">
          <ul class="rows">
            {list.map((b) => (
              <li key={b.digest} data-row>
                <Icon name="layers" />
                <span class="grow"><span class="nm">{b.name} {b.version}</span><span class="sub2 block">signed by {b.publisher ?? 'nobody that this site accepts'}</span></span>
                <span class="num">{size(b.size)}</span>
                <span class="row"><code>{b.digest.slice(0, 8)}</code><Copy text={b.digest} label={`Copy the digest of ${b.name}`} /></span>
              </li>
            ))}
          </ul>
        </section>
      )}
      <p class="gap"><Cmd>qb bundle push FILE</Cmd></p>
    </>
  );
}

const failed = signal<Problem | null>(null);

/** The key of this browser: made here, added by somebody who has one. */
export function BrowserKeyCard() {
  const held = browserKey.value;
  const who = author.value;
  const [sure, setSure] = useState(false);
  const [name, setName] = useState('');
  const admins = data.value?.admins.value.value ?? [];
  const act = (what: () => Promise<void>) => () => {
    failed.value = null;
    what().catch((e: unknown) => (failed.value = asProblem(e)));
  };
  if (terminal.value)
    return (
      <section class="card">
        <div class="ch"><h2>Key of the terminal</h2>{who ? <Status tone="ok">in use</Status> : null}</div>
        <div class="cb">
          <div class="row wrap"><Ident of={terminal.value.signer.key} big /><div class="grow"><code>{terminal.value.signer.fingerprint}</code><div class="sub2">{terminal.value.signer.name}, {terminal.value.signer.role} · {terminal.value.signer.class}</div></div></div>
          <p class="muted gap">This page holds no key: whoever has this port later would own it. Where <code>qb portal</code> runs, the terminal shows what is ordered and asks before it signs.</p>
        </div>
      </section>
    );
  if (able.value === 'insecure') return <section class="card"><p class="pad"><b>This page can read but not sign:</b> it was opened over http. Open it over https.</p></section>;
  if (able.value === 'old') return <section class="card"><p class="pad"><b>This browser cannot sign:</b> it has no Ed25519. Firefox from 129, Safari from 17 and Chrome from 137 can.</p></section>;
  return (
    <section class="card">
      <div class="ch"><h2>Key of this browser</h2>{who ? <Status tone="ok">in use</Status> : held ? <Status tone="act">not added yet</Status> : null}</div>
      <div class="cb">
        {failed.value ? <ProblemCard problem={failed.value} /> : null}
        {!held ? (
          <>
            <p>qb has no passwords. This browser makes a key that never leaves it. Every change that you order here is signed with it and checked on every machine.</p>
            <p class="muted">It signs authorize, label, and create, attach and detach of clusters; nothing that makes anybody root or admin.</p>
            <p class="gap"><button type="button" class="btn p" onClick={act(makeKey)}><Icon name="key-round" />Make a key for this browser</button></p>
          </>
        ) : (
          <>
            <div class="row wrap">
              <Ident of={held.public} big />
              <div class="grow">
                <code>{held.fingerprint}</code>
                <div class="sub2">{who ? `${who.admin.name}, ${who.admin.role}` : 'no admin of this site has it'} · made <Time at={held.made} />{held.kept ? '' : ' · the browser may drop it when space is short'}</div>
              </div>
            </div>
            {who ? (
              <p class="muted gap">It signs {PORTAL_SET.join(', ')}. Everything else is signed in a terminal.{who.expires !== null ? <> It ends <Time at={who.expires} />.</> : null}</p>
            ) : (
              <>
                <p class="gap">Add it with a key that you have elsewhere. Type this where <code>qb</code> has your key:</p>
                {admins.length === 0 ? <label class="fld"><span class="lbl">Your admin id</span><span class="inp"><input value={name} placeholder="mira" onInput={(e) => setName(e.currentTarget.value)} /></span></label> : null}
                {(admins.length > 0 ? admins.map((a) => a.admin) : [name || 'ADMIN']).slice(0, 4).map((a) => <Cmd key={a}>{`qb admin add-key ${a} --class browser ${held.public.startsWith('-') ? '-- ' : ''}${held.public}`}</Cmd>)}
                <p class="muted">Before you sign there, compare the fingerprint that it shows with this one:</p>
                <p class="words6"><code>{held.fingerprint}</code></p>
                <p class="faint">Afterwards the site lists the key with these words: {held.words.join(' ')}</p>
              </>
            )}
            <p class="row gap">
              {door.value === 'out' ? <button type="button" class="btn p" onClick={() => void enter()}>Log in</button> : null}
              {!sure ? <button type="button" class="btn sm q" onClick={() => setSure(true)}>Forget this key</button> : (
                <>
                  <span>It is gone for good. Revoke it on the site too.</span>
                  <button type="button" class="btn sm dz" onClick={act(async () => { await forgetKey(); setSure(false); })}>Forget the key of this browser</button>
                  <button type="button" class="btn sm" onClick={() => setSure(false)}>Keep it</button>
                </>
              )}
            </p>
          </>
        )}
      </div>
    </section>
  );
}

function Words({ of }: { of: string }) {
  const [text, setText] = useState('');
  useEffect(() => void Promise.all([words(unbase64url(of, 32)), fingerprint(unbase64url(of, 32))]).then(([w]) => setText(w.join(' '))), [of]);
  return <span class="sub2 block">{text}</span>;
}

export function KeysPage() {
  const d = data.value;
  const admins = useLive(d?.admins);
  if (!d) return null;
  const owners = (admins ?? []).filter((a) => a.role === 'owner');
  const lasting = owners.flatMap((a) => a.keys).filter((k) => k.class !== 'browser' && k.expires === null);
  return (
    <>
      <PageHead title="Admins and keys" sub="Who may do what, from which devices">
        {door.value === 'in' ? <button type="button" class="btn" onClick={() => void logout()}>Log out</button> : null}
      </PageHead>
      <div class="two">
        <div>
          {!admins ? <Loading resource={d.admins} what="its admins" /> : (
            <>
              <Stale resource={d.admins} />
              {lasting.length < 2 ? (
                <div class="why act"><span class="t-act"><Icon name="dia" /></span><div class="grow"><b>One lasting owner key governs this site.</b> <span class="muted">If it is lost, nobody can change who may sign.</span><Cmd>qb admin add NAME --role owner --public-key KEY</Cmd></div></div>
              ) : null}
              {admins.map((a) => (
                <section class="card gap" key={a.admin}>
                  <div class="ch"><h2>{a.name}</h2><Chip>{a.role}</Chip><span class="faint end">{a.admin} · generation {a.generation}</span></div>
                  <ul class="rows">
                    {a.keys.map((k) => (
                      <li key={k.key} data-row>
                        <Ident of={k.key} />
                        <span class="grow"><code>{k.fingerprint}</code>{k.key === browserKey.value?.public ? <Chip tone="ok">this browser</Chip> : null}<Words of={k.key} /></span>
                        <Chip tone="o">{k.class}</Chip>
                        <span class="faint">{k.expires !== null ? <>ends <Time at={k.expires} /></> : 'no end'}</span>
                      </li>
                    ))}
                  </ul>
                  <div class="cb"><Cmd>{`qb admin revoke-key ${a.admin} FINGERPRINT`}</Cmd></div>
                </section>
              ))}
              <p class="faint gap">{plural(owners.length, 'owner')}, {plural(lasting.length, 'lasting owner key')}. Who may sign is changed in a terminal: code that a door serves never makes anybody admin.</p>
            </>
          )}
        </div>
        <BrowserKeyCard />
      </div>
    </>
  );
}

export function PolicyPage() {
  return (
    <>
      <PageHead title="Policy" sub="What owners tune: how many must sign, who may vote, what browsers may sign" />
      <section class="card">
        <div class="cb">
          <p>The policy is owner class: it is shown and changed in a terminal, with the plan and the diff before you sign.</p>
          <Cmd>qb policy show</Cmd>
          <p class="muted gap">What a key in a browser may sign, unless owners changed it:</p>
          <p class="row wrap">{PORTAL_SET.map((a) => <Chip key={a} tone="o">{a}</Chip>)}</p>
          <Cmd>qb policy set --browser-actions none</Cmd>
        </div>
      </section>
    </>
  );
}

export function MorePage() {
  return (
    <>
      <PageHead title="More" />
      <section class="card">
        <ul class="rows">
          {pageItems().map((i) => <li key={i.page}><Link to={pageHref(i.page)} class="nm grow row"><Icon name={i.icon} />{i.word}</Link></li>)}
        </ul>
      </section>
      <section class="card gap">
        <div class="cb row wrap">
          <button type="button" class="btn" onClick={toggleTheme}>Theme: {theme.value}</button>
          <label class="row"><input type="checkbox" class="ck" checked={shortcuts.value} onChange={(e) => setShortcuts(e.currentTarget.checked)} />Single keys of the keyboard</label>
        </div>
      </section>
    </>
  );
}
