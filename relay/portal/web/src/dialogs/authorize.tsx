// Letting machines in: fingerprint and words are compared before anything can be signed.

import { useEffect, useState } from 'preact/hooks';
import type { NodeView } from '../api/views.ts';
import { now, sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { cameByRelay } from '../state/filter.ts';
import { age, plural, size } from '../state/format.ts';
import { unbase64url } from '../signed/bytes.ts';
import { words, fingerprint } from '../signed/names.ts';
import { byKey, sorted } from '../signed/schema.ts';
import { Icon } from '../ui/icons.tsx';
import { Check, Cmd, Ident } from '../ui/parts.tsx';
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
      {cameByRelay(node) ? <p class="t-act strong">It came only through the relay: no node of the site heard it. Its words on its own console decide.</p> : null}
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

export function Authorize({ ids }: { ids: string[] }) {
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
  // Only the machine's own console tells whose key a relay passed on.
  const passed = these.length > 1 ? these.find(cameByRelay) : undefined;
  const blocked = passed ? `${passed.name} came only through the relay: authorize it alone, with its words.` : these.length === 0 ? 'Choose the machines to let in.' : one && !right ? 'Type the last two words that the machine shows.' : null;
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
