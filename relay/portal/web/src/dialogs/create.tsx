// Creating a cluster, and labelling a node.

import { useMemo, useState } from 'preact/hooks';
import type { BundleView } from '../api/views.ts';
import { sitePath } from '../state/app.ts';
import { data, useLive } from '../state/data.ts';
import { size } from '../state/format.ts';
import { labelFault, isName } from '../signed/names.ts';
import type { Label } from '../signed/intent.ts';
import { byText, sorted } from '../signed/schema.ts';
import { chosen, KUBEADM, PODS, readSettings, SERVICES, settingsFlags } from '../signed/settings.ts';
import { Cmd, Rehearsal } from '../ui/parts.tsx';
import { SignDialog } from './sign.tsx';
import type { Change } from '../state/sign.ts';

export function Create() {
  const d = data.value;
  const clusters = useLive(d?.clusters) ?? [];
  const bundles = useLive(d?.bundles) ?? [];
  const usable = bundles.filter((b) => b.publisher !== null);
  const next = useMemo(() => {
    for (let n = 100; ; n++) if (!clusters.some((c) => c.name === `clus${n}`)) return `clus${n}`;
  }, [clusters.length]);
  const [typed, setTyped] = useState<string | null>(null);
  const [picked, setPicked] = useState('');
  const [networks, setNetworks] = useState({ pods: '', services: '', endpoints: '' });
  const name = typed ?? next;
  const bundle: BundleView | undefined = usable.find((b) => b.digest === picked) ?? usable[0];
  const taken = clusters.some((c) => c.name === name);
  const asked = bundle?.name === KUBEADM ? readSettings(networks) : {};
  const settings = typeof asked === 'string' ? undefined : chosen(asked);
  const blocked = !bundle ? 'The site holds no bundle that it accepts.' : !isName(name) ? 'A name has 1 to 63 of a-z, 0-9 and -.' : taken ? `There is a cluster ${name} already.` : typeof asked === 'string' ? `${asked}.` : null;
  const change: Change | null = bundle && blocked === null ? { action: { 'cluster.create': { cluster: name, driver: bundle.name, version: bundle.version, bundle: bundle.digest, ...(settings && { settings }) } }, expect: [] } : null;
  return (
    <SignDialog
      title="Create a cluster"
      icon="boxes"
      change={change}
      blocked={blocked}
      command={`qb cluster create ${name}${bundle ? ` --driver ${bundle.name}` : ''}${settings ? settingsFlags(settings) : ''}`}
      follow={[sitePath('clusters', name), `Open ${name}`]}
      left={
        <>
          <label class="fld block">
            <span class="lbl">Name</span>
            <span class="inp"><input value={name} maxLength={63} autocomplete="off" spellcheck={false} aria-invalid={bundle !== undefined && (!isName(name) || taken)} onInput={(e) => setTyped(e.currentTarget.value)} /></span>
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
          {bundle?.name === KUBEADM ? (
            <details class="fld">
              <summary>Networks and endpoint</summary>
              <p class="faint">For all the cluster's life. No node may have an address in them.</p>
              {FIELDS.map(([field, label, hint]) => (
                <label key={field} class="fld block">
                  <span class="lbl">{label}</span>
                  <span class="inp"><input name={field} value={networks[field]} placeholder={hint} maxLength={1100} autocomplete="off" spellcheck={false} aria-invalid={typeof asked === 'string' && networks[field] !== ''} onInput={(e) => setNetworks({ ...networks, [field]: e.currentTarget.value })} /></span>
                </label>
              ))}
              <p class="faint">Names or addresses of a load balancer of your own: up to 4, the first may have a port. The API server's certificates have them.</p>
            </details>
          ) : null}
        </>
      }
    />
  );
}

const FIELDS = [
  ['pods', 'Pods', PODS],
  ['services', 'Services', SERVICES],
  ['endpoints', 'Endpoints', 'k8s.example.com:6443'],
] as const;

export function LabelDialog({ id }: { id: string }) {
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
