// The dialog that is open, and the choices of each.

import { useEffect, useMemo, useState } from 'preact/hooks';
import type { BundleView, ClusterView, NodeView } from '../api/views.ts';
import { dialog, go, now, setShortcuts, shortcuts, sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { diskCents } from '../state/filter.ts';
import { age, plural, size } from '../state/format.ts';
import { unbase64url } from '../signed/bytes.ts';
import { labelFault, isName, words, fingerprint } from '../signed/names.ts';
import type { Expect, Label, NodeRole, Placement, PlacedNode } from '../signed/intent.ts';
import { byKey, byText, sorted } from '../signed/schema.ts';
import { Icon } from '../ui/icons.tsx';
import { Check, Cmd, Ident, Rehearsal, roleWord } from '../ui/parts.tsx';
import { pageHref, pageItems } from '../ui/shell.tsx';
import { close, Frame } from './frame.tsx';
import { SignDialog } from './sign.tsx';
import type { Change } from '../state/sign.ts';

/** Words and fingerprint, computed here from the key that is signed; what a door says is not asked. */
function useWords(id: string): { words: string[]; print: string } {
  const [out, set] = useState<{ words: string[]; print: string }>({ words: [], print: '' });
  useEffect(() => {
    const raw = unbase64url(id, 32);
    void Promise.all([words(raw), fingerprint(raw)]).then(([w, print]) => set({ words: w, print }));
  }, [id]);
  return out;
}

function Compare({ node, typed, set }: { node: NodeView; typed?: string; set?: (text: string, right: boolean) => void }) {
  const { words: w, print } = useWords(node.id);
  const single = set !== undefined;
  return (
    <li class="cmp">
      <div class="row">
        <Ident of={node.id} />
        <span class="nm grow">{node.name}</span>
        <span class="faint nowrap">{node.facts?.addresses[0]}</span>
      </div>
      <div class="sub2">{node.facts ? `${node.facts.cores} cores, ${size(node.facts.memory_bytes)}, ${node.facts.os} · ` : ''}knocked {age(now.value - node.since)} ago</div>
      <code class="block">{print}</code>
      <div class="words6">{single ? `${w.slice(0, 4).join(' ')} … …` : w.join(' ')}</div>
      {single ? (
        <label class="fld block">
          <span class="lbl">The last two words, as the machine shows them</span>
          <span class="inp">
            <input
              value={typed ?? ''}
              autocomplete="off"
              autocapitalize="off"
              spellcheck={false}
              aria-invalid={Boolean(typed) && (typed ?? '').trim().split(/\s+/).length >= 2 && (typed ?? '').trim().toLowerCase() !== w.slice(4).join(' ')}
              onInput={(e) => {
                const text = e.currentTarget.value;
                set(text, text.trim().toLowerCase().replace(/\s+/g, ' ') === w.slice(4).join(' ') && w.length === 6);
              }}
            />
          </span>
        </label>
      ) : null}
    </li>
  );
}

function Authorize({ ids }: { ids: string[] }) {
  const d = data.value;
  const nodes = useLive(d?.nodes) ?? [];
  const all = nodes.filter((n) => n.state === 'waiting');
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set(ids));
  const [typed, setTyped] = useState('');
  const [right, setRight] = useState(false);
  const these = all.filter((n) => chosen.has(n.id) && n.knock !== null);
  const one = these.length === 1 ? these[0] : undefined;
  const change: Change | null =
    these.length === 0
      ? null
      : { action: { 'node.authorize': { nodes: sorted(these.map((n) => ({ node: n.id, host: n.name, knock: n.knock as string })) as never[], byKey('node')) } }, expect: [] };
  const blocked = these.length === 0 ? 'Choose the machines to let in.' : one && !right ? 'Type the last two words that the machine shows.' : null;
  return (
    <SignDialog
      title={`Authorize ${plural(these.length, 'node')}`}
      icon="pen-line"
      change={change}
      blocked={blocked}
      command={these.length === all.length && all.length > 1 ? 'qb node authorize --waiting' : `qb node authorize ${these.map((n) => n.name).join(' ')}`}
      follow={[sitePath('nodes'), 'See the pool']}
      warn={
        <div class="why busy note">
          <span class="t-busy"><Icon name="timer" /></span>
          <div class="grow"><b>On probation.</b> <span class="muted">A node that a browser's key lets in has no vote and takes no control plane until somebody authorizes it again in a terminal. Authorizing cannot be taken back: revoking ends that machine's key for good.</span></div>
        </div>
      }
      left={
        <>
          <div class="fld">
            <div class="lbl">On {one ? 'the machine' : 'each machine'}</div>
            <Cmd>qb-agent id</Cmd>
            <p class="faint">It prints the same fingerprint and words. If one differs, somebody stands between: do not sign.</p>
          </div>
          <ul class="cmps">
            {these.map((n) => (one ? <Compare key={n.id} node={n} typed={typed} set={(t, ok) => { setTyped(t); setRight(ok); }} /> : <Compare key={n.id} node={n} />))}
          </ul>
          {all.length > 1 ? (
            <div class="fld">
              <div class="lbl">Waiting</div>
              <ul class="pick">
                {all.map((n) => (
                  <li key={n.id} class={chosen.has(n.id) ? 'on' : ''}>
                    <Check
                      on={chosen.has(n.id)}
                      set={(on) => {
                        const next = new Set(chosen);
                        if (on) next.add(n.id);
                        else next.delete(n.id);
                        setChosen(next);
                        setTyped('');
                        setRight(false);
                      }}
                      label={`Authorize ${n.name}`}
                    />
                    <span class="nm">{n.name}</span>
                    <span class="faint end">{n.facts?.zone}</span>
                  </li>
                ))}
              </ul>
            </div>
          ) : null}
        </>
      }
    />
  );
}

const expectation = (c: ClusterView | undefined): Expect[] => (c ? [{ object: `cluster/${c.name}`, generation: c.generation }] : []);

function Attach({ cluster, ids }: { cluster: string; ids: string[] }) {
  const d = data.value;
  const nodes = useLive(d?.nodes) ?? [];
  const clusters = useLive(d?.clusters) ?? [];
  const [name, setName] = useState(cluster);
  const pool = nodes.filter((n) => n.state === 'pool').sort((a, b) => (a.name < b.name ? -1 : 1));
  const [hand, setHand] = useState(ids.length > 0);
  const [count, setCount] = useState(0);
  const [roles, setRoles] = useState<ReadonlyMap<string, NodeRole>>(new Map());
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set(ids));
  const [planned, setPlanned] = useState<ReadonlySet<string>>(new Set());
  const c = clusters.find((x) => x.name === name);
  const wanted = count === 0 ? Math.min(3, pool.length - ((pool.length === 2 && (c?.members.length ?? 0) === 0) ? 1 : 0)) : Math.min(count, pool.length);
  const picked = pool.filter((n) => chosen.has(n.id));
  const planes = (c?.members ?? []).filter((m) => m.role === 'control-plane').length;
  const roleOf = (n: NodeView): NodeRole => roles.get(n.id) ?? (planes === 0 && (picked.length >= 3 ? picked.indexOf(n) < (picked.length >= 5 ? 5 : 3) : picked.indexOf(n) === 0) ? 'control-plane' : 'worker');
  let placement: Placement | null = null;
  if (hand) {
    if (picked.length > 0) placement = { explicit: { nodes: sorted(picked.map((n) => ({ node: n.id, role: roleOf(n) })) as never[], byKey('node')) as PlacedNode[] } };
  } else if (wanted > 0) placement = { auto: { count: wanted, control_plane: 0 } };
  const change: Change | null = placement && c ? { action: { 'cluster.attach': { cluster: name, placement } }, expect: expectation(c) } : null;
  const control = hand ? planes + picked.filter((n) => roleOf(n) === 'control-plane').length : 0;
  const cps = picked.filter((n) => roleOf(n) === 'control-plane').map((n) => n.name);
  const workers = picked.filter((n) => roleOf(n) === 'worker').map((n) => n.name);
  const command = hand ? `qb cluster attach ${name}${workers.map((w) => ` ${w}`).join('')}${cps.length > 0 ? ` --control-plane ${cps.join(',')}` : ''}` : `qb cluster attach ${name} -n ${wanted}`;
  return (
    <SignDialog
      title={`Attach nodes to ${name}`}
      icon="plug"
      change={change}
      blocked={pool.length === 0 ? 'The pool is empty. Authorize machines first.' : !change ? 'Choose the nodes to attach.' : null}
      command={command}
      planned={(plan) => setPlanned(new Set(plan.nodes.map((n) => n.node)))}
      follow={[sitePath('clusters', name, 'progress'), 'Follow the attach']}
      warn={control > 0 && control % 2 === 0 ? <div class="why act note"><span class="t-act"><Icon name="dia" /></span><div>{control === 2 ? 'Two control plane nodes survive no more than one does.' : 'An even control plane survives no more than one node fewer does.'} Take {control - 1} or {control + 1}.</div></div> : null}
      left={
        <>
          {clusters.length > 1 ? (
            <label class="fld block">
              <span class="lbl">Cluster</span>
              <span class="inp"><select value={name} onChange={(e) => setName(e.currentTarget.value)}>{clusters.map((x) => <option key={x.name}>{x.name}</option>)}</select></span>
            </label>
          ) : null}
          {hand ? null : (
            <div class="fld">
              <div class="lbl" id="howmany">How many</div>
              <div class="row">
                <span class="step" role="group" aria-labelledby="howmany">
                  <button type="button" aria-label="One fewer" disabled={wanted <= 1} onClick={() => setCount(wanted - 1)}><Icon name="minus" small /></button>
                  <b aria-live="polite">{wanted}</b>
                  <button type="button" aria-label="One more" disabled={wanted >= pool.length} onClick={() => setCount(wanted + 1)}><Icon name="plus" small /></button>
                </span>
                <span class="muted">of {pool.length} in the pool</span>
              </div>
            </div>
          )}
          <div class="fld">
            <div class="lbl" id="placement">Placement</div>
            <div class="seg wide" role="group" aria-labelledby="placement">
              <button type="button" class={hand ? '' : 'on'} aria-pressed={!hand} onClick={() => setHand(false)}>Automatic</button>
              <button type="button" class={hand ? 'on' : ''} aria-pressed={hand} onClick={() => setHand(true)}>By hand</button>
            </div>
            <p class="faint">{hand ? 'You choose the nodes and their roles.' : 'Spread over zones. The plan names the nodes, and you sign those names.'}</p>
          </div>
          <div class="fld">
            <div class="lbl">{hand ? 'Nodes' : 'Nodes, chosen by the plan'}</div>
            <ul class="pick">
              {pool.map((n) => {
                const on = (hand ? chosen : planned).has(n.id);
                const disk = diskCents(n) ?? 0;
                return (
                  <li key={n.id} class={on ? 'on' : ''}>
                    <Check
                      on={on}
                      set={(yes) => {
                        const next = new Set(hand ? chosen : planned);
                        if (yes) next.add(n.id);
                        else next.delete(n.id);
                        setHand(true);
                        setChosen(next);
                      }}
                      label={`Attach ${n.name}`}
                    />
                    <span class="nm">{n.name}</span>
                    <span class={disk >= 90 ? 'sub2 grow clip t-act' : 'sub2 grow clip'}>{disk >= 90 ? `disk ${disk} % full` : n.facts ? `${n.facts.cores} cores, ${size(n.facts.memory_bytes)}` : ''}</span>
                    {hand && on ? (
                      <select aria-label={`Role of ${n.name}`} value={roleOf(n)} onChange={(e) => setRoles(new Map(roles).set(n.id, e.currentTarget.value as NodeRole))}>
                        <option value="control-plane">control plane</option>
                        <option value="worker">worker</option>
                      </select>
                    ) : <span class="faint nowrap">{n.facts?.zone}</span>}
                  </li>
                );
              })}
            </ul>
          </div>
        </>
      }
    />
  );
}

function Detach({ cluster, ids }: { cluster: string; ids: string[] }) {
  const d = data.value;
  const nodes = useLive(d?.nodes) ?? [];
  const clusters = useLive(d?.clusters) ?? [];
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set(ids));
  const [typed, setTyped] = useState('');
  const c = clusters.find((x) => x.name === cluster);
  const members = c?.members ?? [];
  const these = members.filter((m) => chosen.has(m.node));
  const silent = these.filter((m) => nodes.find((n) => n.id === m.node)?.waiting_on?.code === 'node.silent');
  const change: Change | null = these.length > 0 && c ? { action: { 'cluster.detach': { cluster, nodes: sorted(these.map((m) => m.node) as never[], byKey()) } }, expect: expectation(c) } : null;
  const blocked = these.length === 0 ? 'Choose the nodes to detach.' : typed !== cluster ? `Type ${cluster} to go on.` : null;
  return (
    <SignDialog
      title={`Detach nodes from ${cluster}`}
      icon="plug"
      change={change}
      blocked={blocked}
      command={`qb cluster detach ${cluster} ${these.map((m) => m.host).join(' ')}`.trim()}
      follow={[sitePath('clusters', cluster, 'progress'), 'Follow the detach']}
      danger
      warn={
        <div class="why bad note">
          <span class="t-bad"><Icon name="octagon-x" /></span>
          <div class="grow">
            <b>What runs on {these.length === 1 ? these[0]?.host : plural(these.length, 'node')} ends there.</b> <span class="muted">Detaching puts {these.length === 1 ? 'the host' : 'the hosts'} back as {these.length === 1 ? 'it was' : 'they were'} before the attach.{silent.length > 0 ? ` ${silent.map((m) => m.host).join(', ')} does not answer, so it cannot be cleaned now. It is cleaned if it returns.` : ''}</span>
          </div>
        </div>
      }
      left={
        <>
          <div class="fld">
            <div class="lbl">Members</div>
            <ul class="pick">
              {members.map((m) => (
                <li key={m.node} class={chosen.has(m.node) ? 'on' : ''}>
                  <Check on={chosen.has(m.node)} set={(on) => { const next = new Set(chosen); if (on) next.add(m.node); else next.delete(m.node); setChosen(next); }} label={`Detach ${m.host}`} />
                  <span class="nm grow">{m.host}</span>
                  <span class="faint">{roleWord(m.role)}</span>
                </li>
              ))}
            </ul>
          </div>
          <label class="fld block">
            <span class="lbl">Type the cluster's name, {cluster}</span>
            <span class="inp"><input value={typed} autocomplete="off" spellcheck={false} onInput={(e) => setTyped(e.currentTarget.value.trim())} /></span>
          </label>
        </>
      }
    />
  );
}

function Create() {
  const d = data.value;
  const clusters = useLive(d?.clusters) ?? [];
  const bundles = useLive(d?.bundles) ?? [];
  const usable = bundles.filter((b) => b.publisher !== null);
  const next = useMemo(() => {
    for (let n = 100; ; n++) if (!clusters.some((c) => c.name === `clus${n}`)) return `clus${n}`;
  }, [clusters.length]);
  const [typed, setTyped] = useState<string | null>(null);
  const [picked, setPicked] = useState('');
  const name = typed ?? next;
  const bundle: BundleView | undefined = usable.find((b) => b.digest === picked) ?? usable[0];
  const taken = clusters.some((c) => c.name === name);
  const blocked = !bundle ? 'The site holds no bundle that it accepts.' : !isName(name) ? 'A name has 1 to 63 of a-z, 0-9 and -.' : taken ? `There is a cluster ${name} already.` : null;
  const change: Change | null = bundle && blocked === null ? { action: { 'cluster.create': { cluster: name, driver: bundle.name, version: bundle.version, bundle: bundle.digest } }, expect: [] } : null;
  return (
    <SignDialog
      title="Create a cluster"
      icon="boxes"
      change={change}
      blocked={blocked}
      command={`qb cluster create ${name}${bundle ? ` --driver ${bundle.name}` : ''}`}
      follow={[sitePath('clusters', name), `Open ${name}`]}
      left={
        <>
          <label class="fld block">
            <span class="lbl">Name</span>
            <span class="inp"><input value={name} maxLength={63} autocomplete="off" spellcheck={false} aria-invalid={blocked !== null && bundle !== undefined} onInput={(e) => setTyped(e.currentTarget.value)} /></span>
            <span class="faint">Lower case. It becomes part of names.</span>
          </label>
          <fieldset class="fld">
            <legend class="lbl">Bundle</legend>
            {usable.length === 0 ? (
              <>
                <p class="muted">No bundle of a publisher that the site accepts is here. A terminal builds and pushes one.</p>
                <Cmd>{`qb cluster create ${isName(name) ? name : 'NAME'}`}</Cmd>
              </>
            ) : (
              <ul class="pick">
                {usable.map((b) => (
                  <li key={b.digest} class={b.digest === bundle?.digest ? 'on' : ''}>
                    <label class="row grow">
                      <input type="radio" name="bundle" checked={b.digest === bundle?.digest} onChange={() => setPicked(b.digest)} />
                      <span class="grow"><span class="nm">{b.name} {b.version}</span><span class="sub2 block">signed by {b.publisher}, {size(b.size)}</span></span>
                      {b.name === 'rehearsal' ? <Rehearsal /> : null}
                    </label>
                  </li>
                ))}
              </ul>
            )}
          </fieldset>
        </>
      }
    />
  );
}

function LabelDialog({ id }: { id: string }) {
  const d = data.value;
  const nodes = useLive(d?.nodes) ?? [];
  const n = nodes.find((x) => x.id === id);
  const [lines, setLines] = useState<string | null>(null);
  if (!n) return null;
  const value = lines ?? n.labels.join('\n');
  const faults: string[] = [];
  const labels: Label[] = value.split('\n').map((l) => l.trim()).filter(Boolean).map((l) => {
    const at = l.indexOf('=');
    const label = { key: at < 0 ? l : l.slice(0, at), value: at < 0 ? '' : l.slice(at + 1) };
    const fault = labelFault(label.key, label.value);
    if (fault) faults.push(`${l} ${fault}`);
    return label;
  });
  if (new Set(labels.map((l) => l.key)).size !== labels.length) faults.push('A key stands twice');
  if (labels.length > 32) faults.push('At most 32 labels');
  const same = labels.map((l) => `${l.key}=${l.value}`).sort().join('\n') === [...n.labels].sort().join('\n');
  const blocked = faults[0] ?? (same ? 'The labels are so already.' : null);
  const change: Change | null = blocked === null ? { action: { 'node.label': { node: id, labels: sorted(labels as never[], byText('key')) } }, expect: [{ object: `node/${id}`, generation: n.generation }] } : null;
  const gone = n.labels.map((l) => l.split('=')[0] ?? '').filter((k) => !labels.some((l) => l.key === k));
  return (
    <SignDialog
      title={`Labels of ${n.name}`}
      icon="pen-line"
      change={change}
      blocked={blocked}
      command={`qb node label ${n.name} ${[...labels.map((l) => `${l.key}=${l.value}`), ...gone.map((k) => `${k}-`)].join(' ')}`.trim()}
      follow={[sitePath('nodes', n.name), `See ${n.name}`]}
      left={
        <label class="fld block">
          <span class="lbl">Labels, one a line, key=value</span>
          <textarea rows={7} value={value} spellcheck={false} aria-invalid={faults.length > 0} onInput={(e) => setLines(e.currentTarget.value)} />
          <span class="faint">All of them: what is not here is taken away.</span>
        </label>
      }
    />
  );
}

/** What a key in a browser never signs: the whole command, and what it means. */
function Terminal({ title, what, command, icon }: { title: string; what: string; command: string; icon: 'octagon-x' | 'terminal' }) {
  return (
    <Frame title={title} icon={icon} small>
      <div class="dpad">
        <p>{what}</p>
        <p class="muted gap">A key in a browser does not sign this. Where <code>qb</code> has your key, type:</p>
        <Cmd>{command}</Cmd>
        <p class="faint gap">It shows the plan and asks before it signs. This page follows.</p>
        <p class="gap"><button type="button" class="btn" onClick={close}>Close</button></p>
      </div>
    </Frame>
  );
}

interface Found {
  what: string;
  note: string;
  act: () => void;
}

function Search() {
  const d = data.value;
  const [line, setLine] = useState('');
  const [at, setAt] = useState(0);
  const nodes = d?.nodes.value.value ?? [];
  const clusters = d?.clusters.value.value ?? [];
  const pool = nodes.filter((n) => n.state === 'pool');
  const waiting = nodes.filter((n) => n.state === 'waiting');
  const to = (path: string) => () => { close(); go(path); };
  const open = (what: NonNullable<typeof dialog.value>) => () => (dialog.value = what);
  const all: Found[] = [
    ...pageItems().map((i) => ({ what: i.word, note: i.key ? `page, g ${i.key}` : 'page', act: to(pageHref(i.page)) })),
    ...(waiting.length > 0 ? [{ what: `authorize ${plural(waiting.length, 'waiting machine')}`, note: 'command', act: open({ kind: 'authorize', nodes: waiting.map((n) => n.id) }) }] : []),
    { what: 'create a cluster', note: 'command', act: open({ kind: 'create' }) },
    ...clusters.flatMap((c) => [
      { what: c.name, note: `cluster, ${c.state}`, act: to(sitePath('clusters', c.name)) },
      ...(pool.length > 0 ? [{ what: `attach ${c.name}`, note: 'command', act: open({ kind: 'attach', cluster: c.name, nodes: [] }) }] : []),
    ]),
    ...nodes.map((n) => ({ what: n.name, note: `${n.state} ${n.facts?.addresses[0] ?? ''} ${n.fingerprint}`, act: to(sitePath('nodes', n.name)) })),
    ...(d?.intents.value.value ?? []).slice(0, 200).map((i) => ({ what: i.sentence, note: `intent ${i.id}`, act: to(`${sitePath('audit')}?open=${i.index ?? ''}`) })),
  ];
  const parts = line.toLowerCase().split(/\s+/).filter(Boolean);
  const hits = all.filter((f) => parts.every((p) => `${f.what} ${f.note}`.toLowerCase().includes(p))).slice(0, 12);
  const chosen = Math.min(at, hits.length - 1);
  return (
    <Frame title="Search or type a command" icon="search" small>
      <div class="dpad">
        <span class="inp">
          <Icon name="search" small />
          <input
            autofocus
            role="combobox"
            aria-expanded="true"
            aria-controls="found"
            aria-activedescendant={hits.length > 0 ? `f${chosen}` : undefined}
            aria-label="Names, addresses, fingerprints, intents, verbs"
            placeholder="a name, an address, a fingerprint, or a verb"
            value={line}
            spellcheck={false}
            autocomplete="off"
            onInput={(e) => { setLine(e.currentTarget.value); setAt(0); }}
            onKeyDown={(e) => {
              if (e.key === 'ArrowDown') setAt(Math.min(hits.length - 1, chosen + 1));
              else if (e.key === 'ArrowUp') setAt(Math.max(0, chosen - 1));
              else if (e.key === 'Enter') hits[chosen]?.act();
              else return;
              e.preventDefault();
            }}
          />
        </span>
        <ul class="found" role="listbox" id="found" aria-label="Found">
          {hits.map((f, i) => (
            <li key={f.what + f.note} id={`f${i}`} role="option" aria-selected={i === chosen} class={i === chosen ? 'on' : ''} onClick={f.act}>
              <span class="nm grow clip">{f.what}</span>
              <span class="faint clip">{f.note}</span>
            </li>
          ))}
        </ul>
        {hits.length === 0 ? <p class="muted pad">Nothing has that name.</p> : null}
      </div>
    </Frame>
  );
}

function Help() {
  const keys: [string, string][] = [
    ['/', 'search and commands'],
    ...pageItems().filter((i) => i.key).map((i): [string, string] => [`g ${i.key}`, i.word]),
    ['j k', 'next and previous row'],
    ['x', 'select the row'],
    ['Esc', 'close'],
    ['?', 'this list'],
  ];
  return (
    <Frame title="Keys" icon="terminal" small>
      <div class="dpad">
        <dl class="kv">{keys.map(([k, v]) => <><dt><kbd>{k}</kbd></dt><dd>{v}</dd></>)}</dl>
        <label class="row gap"><input type="checkbox" class="ck" checked={shortcuts.value} onChange={(e) => setShortcuts(e.currentTarget.checked)} />Single keys are on</label>
      </div>
    </Frame>
  );
}

export function Dialogs() {
  const open = dialog.value;
  if (!open) return null;
  const node = (id: string): string => data.value?.nodes.value.value?.find((n) => n.id === id)?.name ?? id;
  switch (open.kind) {
    case 'authorize': return <Authorize ids={open.nodes} />;
    case 'attach': return <Attach cluster={open.cluster} ids={open.nodes} />;
    case 'detach': return <Detach cluster={open.cluster} ids={open.nodes} />;
    case 'create': return <Create />;
    case 'label': return <LabelDialog id={open.node} />;
    case 'revoke': return <Terminal icon="octagon-x" title={`Revoke ${node(open.node)}`} what={`${node(open.node)} leaves the site for good: its key never comes back. With --then wipe it also deletes its keys and state.`} command={`qb node revoke ${node(open.node)}`} />;
    case 'delete': return <Terminal icon="octagon-x" title={`Delete ${open.cluster}`} what={`Everything that runs in ${open.cluster} ends, and its nodes return to the pool. It needs an owner.`} command={`qb cluster delete ${open.cluster}`} />;
    case 'search': return <Search />;
    case 'help': return <Help />;
    case 'login': return null;
  }
}
