// Add machines: the packages that a relay hands out, or how to make them where there is none; and the
// machines as they knock.

import { useEffect, useRef, useState } from 'preact/hooks';
import { now, sitePath } from '../state/app.ts';
import type { NodeView, PackagesView, SiteView } from '../api/views.ts';
import { data, useLive } from '../state/data.ts';
import { plural, size } from '../state/format.ts';
import { address, causes, installs, PATIENCE, pick, SYSTEMS, type Format } from '../state/install.ts';
import { through } from '../state/session.ts';
import { Chip, Cmd, Copy, Ident, Link, PageHead, Since } from '../ui/parts.tsx';

export function AddPage() {
  const d = data.value;
  const site = useLive(d?.site);
  const nodes = useLive(d?.nodes, true) ?? [];
  const packages = useLive(d?.packages);
  const name = d?.name ?? '';
  // A terminal's page pastes nothing that a relay wrote: it names the command that checks it.
  const handed = through.value === 'relay' && packages?.line ? packages : null;
  return (
    <>
      <PageHead title="Add machines" sub={`A package holds ${name}'s charter and the relay's key, and no secret: a machine that has it can only knock`} />
      <div class="two">
        <div>
          {handed ? <FromRelay view={handed} site={site} /> : <FromHere name={name} relays={(site?.relays.length ?? 0) > 0} />}
          <Compare site={site} />
        </div>
        <Knocking knocking={nodes.filter((n) => n.state === 'waiting')} relay={site?.relays[0]?.url ?? null} site={name} />
      </div>
    </>
  );
}

function FromRelay({ view, site }: { view: PackagesView; site: SiteView | undefined }) {
  const [format, setFormat] = useState<Format>('deb');
  const of = pick(view, format);
  const link = of && address(view, of);
  return (
    <>
      <section class="card">
        <div class="ch"><h2>One line</h2><span class="faint end">x86-64: Debian, Ubuntu, RHEL, Rocky, SUSE</span></div>
        <div class="cb">
          <p class="muted">Paste it on each machine. It picks deb or rpm, checks the digest, and installs.</p>
          <Cmd on="each machine">{view.line ?? ''}</Cmd>
          <p class="gap">
            <b>The digests in it are this relay's word.</b> They prove that nothing happened on the way, and nothing against the relay itself. This command makes the line from packages that it verifies on your computer:
          </p>
          <Cmd on="your computer">qb package line</Cmd>
        </div>
      </section>
      <section class="card gap">
        <div class="ch">
          <h2>A file</h2>
          <div class="seg end" role="group" aria-label="Format of the package">
            {(['deb', 'rpm'] as const).map((f) => (
              <button type="button" key={f} class={f === format ? 'on' : ''} aria-pressed={f === format} onClick={() => setFormat(f)}>{f}</button>
            ))}
          </div>
        </div>
        {of && link ? (
          <div class="cb">
            <p class="row wrap">
              <a class="btn" href={link} download={of.file}>Download the {format}</a>
              <span class="muted">{SYSTEMS[format]} · {of.version} · {size(of.size)}</span>
            </p>
            <p class="gap muted">For machines that do not reach the relay: carry it on a stick.</p>
            <Cmd on="the machine">{installs(format, of.file)}</Cmd>
            <p class="gap sub2">SHA-256, as this relay says</p>
            <p class="row"><code class="any">{of.sha256}</code><Copy text={of.sha256} label="Copy the digest" /></p>
            <p class="gap muted">On your computer, against the vendor's own package, for {site?.name ?? 'this site'}:</p>
            <Cmd on="your computer">{`qb package verify ${of.file} --vendor FILE`}</Cmd>
          </div>
        ) : (
          <p class="pad muted">This relay hands out no {format}.</p>
        )}
      </section>
    </>
  );
}

function FromHere({ name, relays }: { name: string; relays: boolean }) {
  return (
    <section class="card">
      <ol class="how">
        {relays ? (
          <li>
            <h2>Through a relay: one line</h2>
            <p class="muted">It verifies the relay's packages on your computer, and prints a line for machines that installs them.</p>
            <Cmd on="your computer">qb package line</Cmd>
          </li>
        ) : null}
        <li>
          <h2>{relays ? 'Without a relay' : `Make the package of ${name}`}</h2>
          <p class="muted">This door hands out no packages. On your computer, from the vendor's own:</p>
          <Cmd on="your computer">qb package build --vendor FILE</Cmd>
        </li>
        <li>
          <h2>Carry it to each machine</h2>
          <p class="muted">Any way will do: it holds no secret.</p>
          <Cmd on="each machine">sudo apt-get install ./FILE.deb</Cmd>
          <Cmd on="each machine">sudo dnf install ./FILE.rpm</Cmd>
        </li>
        <li>
          <h2>Or only the enrolment file</h2>
          <p class="muted">For machines that have the vendor's package already. It goes to /etc/qb/site.enroll.json.</p>
          <Cmd on="your computer">{`qb site enroll -o ${name}.enroll.json`}</Cmd>
        </li>
      </ol>
    </section>
  );
}

function Compare({ site }: { site: SiteView | undefined }) {
  return (
    <section class="card gap">
      <div class="ch"><h2>The machine prints these site words</h2></div>
      <div class="cb">
        <p class="words6">{site?.words}</p>
        <p class="muted">And its own, to compare when you authorize it.</p>
        <Cmd on="the machine">sudo qb-agent id</Cmd>
      </div>
    </section>
  );
}

function Knocking({ knocking, relay, site }: { knocking: NodeView[]; relay: string | null; site: string }) {
  const since = useRef(now.peek());
  const any = knocking.length > 0;
  useEffect(() => {
    if (any) since.current = now.peek();
  }, [any]);
  const seconds = Math.max(0, Math.floor((now.value - since.current) / 1000));
  return (
    <section class="card">
      <div class="ch"><h2>Knocking now</h2>{any ? <Chip tone="act">{knocking.length}</Chip> : null}</div>
      {any ? (
        <>
          <ul class="rows">
            {knocking.map((n) => (
              <li key={n.id} data-row>
                <Ident of={n.id} />
                <span class="grow"><Link to={sitePath('nodes', n.name)} class="nm">{n.name}</Link><code class="block sub2">{n.fingerprint}</code></span>
                <span class="faint"><Since at={n.since} /></span>
              </li>
            ))}
          </ul>
          <p class="pad"><Link to={sitePath('nodes')} class="btn p">Compare and authorize {plural(knocking.length, 'machine')}</Link></p>
        </>
      ) : (
        <div class="pad">
          <p role="status">Waiting for the first knock.</p>
          <p class="muted">{seconds} s</p>
          {seconds >= PATIENCE ? (
            <>
              <p class="gap"><b>Nothing in a minute. Likely causes, on the machine:</b></p>
              <ol class="causes">
                {causes(relay, site).map((c) => <li key={c.what}>{c.what}.<Cmd on="the machine">{c.command}</Cmd></li>)}
              </ol>
            </>
          ) : null}
        </div>
      )}
    </section>
  );
}
