// Search and commands; the list of keys.

import { useState } from 'preact/hooks';
import { dialog, go, setShortcuts, shortcuts, sitePath } from '../state/app.ts';
import { data } from '../state/data.ts';
import { plural } from '../state/format.ts';
import { Icon } from '../ui/icons.tsx';
import { KEYS, pageHref, pageItems } from '../ui/menu.tsx';
import { close, Frame } from './frame.tsx';

interface Found {
  what: string;
  note: string;
  act: () => void;
}

export function Search() {
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

export function Help() {
  const pages = pageItems().filter((i) => i.key).map((i): [string, string] => [`g ${i.key}`, i.word]);
  return (
    <Frame title="Keys" icon="terminal" small>
      <div class="dpad">
        <dl class="kv">{[...pages, ...KEYS].map(([k, v]) => <><dt><kbd>{k}</kbd></dt><dd>{v}</dd></>)}</dl>
        <label class="row gap"><input type="checkbox" class="ck" checked={shortcuts.value} onChange={(e) => setShortcuts(e.currentTarget.checked)} />Single keys are on</label>
      </div>
    </Frame>
  );
}
