// Small parts that every page uses.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { go, now, say } from '../state/app.ts';
import { age, cents, clock, duration, rfc3339 } from '../state/format.ts';
import type { Resource } from '../state/data.ts';
import { lostAt } from '../state/live.ts';
import type { ClusterState, Finding, NodeView, Problem, WaitingOn } from '../api/views.ts';
import { groups, sha256, unbase64url } from '../signed/bytes.ts';
import { visible } from '../signed/strict.ts';
import { Icon, type IconName } from './icons.tsx';

export type Tone = 'ok' | 'busy' | 'act' | 'bad' | 'idle' | 'reh';

const MARKS: Record<Tone, IconName> = { ok: 'circle-check', busy: 'arc', act: 'dia', bad: 'octagon-x', idle: 'ring', reh: 'flask-conical' };

/** A state: shape, word and colour. */
export const Status = ({ tone, children }: { tone: Tone; children: ComponentChildren }) => (
  <span class={`st t-${tone}`}>
    <Icon name={MARKS[tone]} />
    {children}
  </span>
);

export const Chip = ({ tone, icon, children }: { tone?: Tone | 'o'; icon?: boolean; children: ComponentChildren }) => (
  <span class={`chip ${tone ?? ''}`}>
    {icon && tone && tone !== 'o' ? <Icon name={MARKS[tone]} /> : null}
    {children}
  </span>
);

export const Rehearsal = () => <Chip tone="reh" icon>rehearsal</Chip>;

export function clusterTone(state: ClusterState, waits: WaitingOn | null): Tone {
  if (state === 'ready') return 'ok';
  if (state === 'degraded') return 'bad';
  if (state === 'empty') return 'idle';
  return waits?.clears === 'person' ? 'act' : 'busy';
}

export function nodeTone(node: NodeView): Tone {
  const waits = node.waiting_on;
  if (waits?.code === 'node.silent' || waits?.code === 'step.failed') return 'bad';
  if (node.state === 'waiting' || waits?.clears === 'person') return 'act';
  if (node.state === 'revoked') return 'idle';
  if (node.state === 'detaching' || waits?.clears === 'itself') return 'busy';
  return 'ok';
}

/** Copies a text and says so. */
export function Copy({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState(false);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      say('Copied');
      setTimeout(() => setDone(false), 1_500);
    } catch {
      say('The browser did not let this page copy');
    }
  };
  return (
    <button type="button" class="cp" aria-label={label} title={done ? 'Copied' : label} onClick={copy}>
      <Icon name={done ? 'check' : 'copy'} small />
    </button>
  );
}

/** A command, whole, with the machine to type it on. */
export const Cmd = ({ children, on }: { children: string; on?: string | null | undefined }) => (
  <div class="cmdbox">
    {on ? <div class="sub2">On {on}</div> : null}
    <span class="cmd">
      <code>{visible(children)}</code>
      <Copy text={children} label={`Copy command ${children}`} />
    </span>
  </div>
);

/** A remedy: a command where it is one, else a sentence. */
export function Remedy({ children, on }: { children: string; on?: string | null | undefined }) {
  const at = /^on ([a-z0-9.-]+): (.*)$/s.exec(children);
  if (at) return <Cmd on={at[1]}>{at[2] as string}</Cmd>;
  return /^(sudo |qb[ -]|systemctl|journalctl|kubectl|firewall-cmd|chmod)/.test(children) ? <Cmd on={on}>{children}</Cmd> : <p class="muted">{children}</p>;
}

export const Time = ({ at }: { at: number }) => (
  <time dateTime={new Date(at).toISOString()} title={rfc3339(at)}>
    {clock(at, now.value)}
  </time>
);

/** How long ago, moving. */
export const Since = ({ at }: { at: number }) => (
  <time dateTime={new Date(at).toISOString()} title={rfc3339(at)}>
    {age(now.value - at)}
  </time>
);

/** The age of a report: grey when older than 15 s. */
export function ReportAge({ node, fetched }: { node: NodeView; fetched: number }) {
  if (node.report_age_ms === null) return <span class="faint">no report</span>;
  const old = node.report_age_ms + Math.max(0, now.value - fetched);
  return <span class={old > 15_000 ? 'old' : ''}>{old < 10_000 ? duration(Math.round(old / 100) * 100) : age(old)}</span>;
}

/** Whether a list is too old to be shown as new. */
export const isOld = (resource: Resource<unknown>): boolean => resource.at.value > 0 && now.value - resource.at.value > 15_000;

export function Meter({ part, whole, label }: { part: number; whole: number; label: string }) {
  const value = cents(part, whole);
  const bar = useRef<HTMLElement>(null);
  useEffect(() => {
    bar.current?.style.setProperty('width', `${value}%`);
  }, [value]);
  return (
    <span class={value >= 90 ? 'meter act' : 'meter'} aria-label={`${label} ${value} %`} role="img">
      <span class="num">{value}&nbsp;%</span>
      <i>
        <b ref={bar} />
      </i>
    </span>
  );
}

/** Why nothing happens: the sentence, since when, and what clears it. */
export function Why({ waits }: { waits: WaitingOn }) {
  const tone: Tone = waits.code === 'step.failed' || waits.code === 'node.silent' || waits.clears === 'never' ? 'bad' : waits.clears === 'person' ? 'act' : 'busy';
  return (
    <div class={`why ${tone}`}>
      <span class={`t-${tone}`}>
        <Icon name={tone === 'busy' ? 'timer' : MARKS[tone]} />
      </span>
      <div class="grow">
        <b>
          {waits.subject} {visible(waits.text)}.
        </b>{' '}
        <span class="muted">
          Since <Since at={waits.since} />.{waits.clears === 'itself' ? ' Clears by itself. You need do nothing.' : ''}
          {waits.more > 0 ? ` And ${waits.more} more.` : ''}
        </span>
        {waits.command ? <Remedy on={waits.host}>{waits.command}</Remedy> : null}
      </div>
    </div>
  );
}

/** The one form of every error. */
export function ProblemCard({ problem, retry }: { problem: Problem; retry?: () => void }) {
  return (
    <div class="why bad" role="alert">
      <span class="t-bad">
        <Icon name="octagon-x" />
      </span>
      <div class="grow">
        <b>{problem.title}.</b> <span class="muted">{visible(problem.detail)}</span>
        {problem.remedy ? <Remedy>{problem.remedy}</Remedy> : null}
      </div>
      {retry ? (
        <button type="button" class="btn sm" onClick={retry}>
          Try again
        </button>
      ) : null}
    </div>
  );
}

/** What stands where a list is not there yet: a sentence, or what went wrong. */
export function Loading({ resource, what }: { resource: Resource<unknown>; what: string }) {
  const problem = resource.problem.value;
  if (problem) return <ProblemCard problem={problem} retry={() => void resource.load()} />;
  return <p class="muted pad">Asking this door for {what}.</p>;
}

/** A list that could not be refreshed: said above it, with its age. */
export function Stale({ resource }: { resource: Resource<unknown> }) {
  const problem = resource.problem.value;
  // A lost stream has a banner of its own, which says the same.
  if (!problem || resource.at.value === 0 || lostAt.value !== 0) return null;
  return (
    <div class="banner" role="status">
      <Icon name="timer" />
      <span class="grow">
        This door did not answer. What you see is from <Time at={resource.at.value} />.
      </span>
      <button type="button" class="btn sm" onClick={() => void resource.load()}>
        Try again
      </button>
    </div>
  );
}

export const Findings = ({ findings, plain }: { findings: readonly Finding[]; plain?: boolean }) => (
  <ul class={plain ? 'fds plain' : 'fds'}>
    {findings.map((f) => (
      <li class="fd" key={`${f.code} ${f.subject} ${f.text}`}>
        <h3>
          <span class={f.severity === 'error' ? 't-bad' : 't-act'}>
            <Icon name={f.severity === 'error' ? 'octagon-x' : 'dia'} />
          </span>
          <span class="grow">
            <span class="vh">{f.severity}: </span>
            {f.subject}
          </span>
          <code class="chip o">{f.code}</code>
        </h3>
        <p>{visible(f.text)}</p>
        <Remedy>{f.remedy}</Remedy>
      </li>
    ))}
  </ul>
);

const pictures = new Map<string, number[]>();

/** The picture of a key: a mark to recognize, never to compare. */
export function Ident({ of, big }: { of: string; big?: boolean }) {
  const [bits, setBits] = useState(pictures.get(of));
  const svg = useRef<SVGSVGElement>(null);
  useEffect(() => {
    let live = true;
    const raw = /^[A-Za-z0-9_-]{43}$/.test(of) ? unbase64url(of, 32) : new TextEncoder().encode(of);
    void sha256(raw).then((hash) => {
      const found = groups(hash, 8, 4);
      pictures.set(of, found);
      if (live) setBits(found);
    });
    return () => {
      live = false;
    };
  }, [of]);
  const [a = 0, b = 0, c = 0, hue = 0] = bits ?? [];
  useEffect(() => {
    svg.current?.style.setProperty('--h', String(Math.round((hue / 256) * 360)));
  }, [hue]);
  const on = (a << 16) | (b << 8) | c;
  const cells: ComponentChildren[] = [];
  for (let y = 0; y < 5; y++)
    for (let x = 0; x < 5; x++) if ((on >> (y * 3 + (x > 2 ? 4 - x : x))) & 1) cells.push(<rect x={x} y={y} width="1" height="1" />);
  return (
    <svg ref={svg} class={big ? 'ident big' : 'ident'} viewBox="-1 -1 7 7" fill="currentColor" aria-hidden="true">
      {cells}
    </svg>
  );
}

/** A link inside the portal. */
export function Link({ to, class: cls, children, current, label }: { to: string; class?: string; children: ComponentChildren; current?: boolean; label?: string }) {
  return (
    <a
      href={to}
      class={cls ?? 'a'}
      aria-current={current ? 'page' : undefined}
      aria-label={label}
      onClick={(e) => {
        if (e.metaKey || e.ctrlKey || e.shiftKey || e.button !== 0) return;
        e.preventDefault();
        go(to);
      }}
    >
      {children}
    </a>
  );
}

export const Check = ({ on, set, label }: { on: boolean; set: (on: boolean, range: boolean) => void; label: string }) => (
  <input
    type="checkbox"
    class="ck"
    checked={on}
    aria-label={label}
    onClick={(e) => {
      e.stopPropagation();
      set(!on, e.shiftKey);
    }}
  />
);

/** The head of a page. */
export function PageHead({ title, status, sub, children }: { title: ComponentChildren; status?: ComponentChildren; sub?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <div class="ph">
      <div class="grow">
        <h1>
          {title} {status}
        </h1>
        {sub ? <p class="sub">{sub}</p> : null}
      </div>
      {children ? <div class="acts">{children}</div> : null}
    </div>
  );
}

export const Empty = ({ title, children }: { title: string; children?: ComponentChildren }) => (
  <section class="card">
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  </section>
);

export const roleWord = (role: string | null): string => (role === null ? '' : role.replace('-', ' '));
