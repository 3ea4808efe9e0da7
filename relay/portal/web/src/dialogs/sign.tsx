// The signing moment: choices left, plan right, one bar with what is signed. The sentence and the
// names come from the payload's bytes, never from the form.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { asProblem } from '../api/client.ts';
import type { IntentState, PlanView, Problem } from '../api/views.ts';
import { go, now, say, sitePath } from '../state/app.ts';
import { data } from '../state/data.ts';
import { browserKey } from '../state/keys.ts';
import { author, cannotSign, through } from '../state/session.ts';
import { undo, undoOf } from '../state/undo.ts';
import { useBorne } from '../state/receipt.ts';
import { terminal } from '../state/terminal.ts';
import { draft, send, type Change, type Draft, type Progress } from '../state/sign.ts';
import { age, duration, hashGroups, plural } from '../state/format.ts';
import { hex, text, unbase64url } from '../signed/bytes.ts';
import { actionName } from '../signed/intent.ts';
import { sentence, verb } from '../signed/sentence.ts';
import { visible } from '../signed/strict.ts';
import { Icon, type IconName } from '../ui/icons.tsx';
import { Bytes } from '../ui/bytes.tsx';
import { Cmd, Findings, Ident, Link, ProblemCard, Rehearsal, Remedy, roleWord, Status } from '../ui/parts.tsx';
import { close, Frame } from './frame.tsx';

const DEBOUNCE_MS = 150;
/** A new plan must be seen before it can be signed. */
const IDLE_MS = 1_000;
const REFRESH_MS = 5 * 60_000;

export interface SignProps {
  title: string;
  icon: IconName;
  /** Null while the choices make no change yet. */
  change: Change | null;
  /** Why the choices cannot be signed as they are. */
  blocked?: string | null;
  command: string;
  left: ComponentChildren;
  /** Shown above the plan. */
  warn?: ComponentChildren;
  /** Where to go on after it was accepted. */
  follow?: [string, string] | null;
  danger?: boolean;
  /** Hears each new plan. */
  planned?: (plan: PlanView) => void;
}

const SAID: Record<IntentState, string> = {
  held: 'Held, not accepted yet',
  pending: 'Waits for more signatures',
  doing: 'Accepted by the site',
  done: 'Accepted by the site',
  rejected: 'Refused by the site',
  unknown: 'Sent, the outcome is not known yet',
};

function ChangeLine({ line }: { line: string }) {
  const sign = line[0] ?? '~';
  const rest = line.slice(1).trim();
  const [subject, ...parts] = rest.split(/ {2,}/);
  const kind = sign === '+' ? 'add' : sign === '-' ? 'del' : 'chg';
  const said = { add: 'added', del: 'removed', chg: 'changed' }[kind];
  return (
    <li class={kind}>
      <span class="s" aria-hidden="true">{sign}</span>
      <span class="grow">
        <span class="vh">{said}: </span>
        <b>{visible(subject ?? '')}</b> <span class="muted">{visible(parts.join('  ')).replace(/ > /g, ' → ')}</span>
      </span>
    </li>
  );
}

function Plan({ plan }: { plan: PlanView }) {
  const [open, setOpen] = useState<string | null>(plan.nodes[0]?.node ?? null);
  const [all, setAll] = useState(false);
  const steps = (n: PlanView['nodes'][number]): number => n.stages.reduce((s, st) => s + st.steps.length, 0);
  const total = plan.nodes.reduce((s, n) => s + steps(n), 0);
  const errors = plan.findings.filter((f) => f.severity === 'error').length;
  const attaches = plan.nodes.some((n) => n.stages.some((s) => s.word === 'prepare'));
  const cp = plan.nodes.filter((n) => n.role === 'control-plane').length;
  const detailed = plan.nodes.filter((n) => all || n.node === open);
  return (
    <>
      <ul class="diff">
        {plan.changes.filter((c) => !plan.nodes.some((n) => c.startsWith(`- ${n.host} `))).map((c) => <ChangeLine key={c} line={c} />)}
        {plan.nodes.map((n) => (
          <li key={n.node} class={attaches ? 'add' : 'del'}>
            <span class="s" aria-hidden="true">{attaches ? '+' : '-'}</span>
            <span class="grow">
              <b>{n.host}</b> <span class="muted">{attaches ? `${roleWord(n.role)}${n.first ? ', first' : ''}` : `${roleWord(n.role)} → pool`}{n.zone ? ` · ${n.zone}` : ''}</span>
            </span>
            <button type="button" class="a" aria-expanded={open === n.node} onClick={() => setOpen(open === n.node ? null : n.node)}>{plural(steps(n), 'step')}</button>
          </li>
        ))}
      </ul>
      <div class="row wrap facts">
        {plan.rehearsal ? <Rehearsal /> : null}
        {plan.findings.length > 0 ? <Status tone={errors > 0 ? 'bad' : 'act'}>{plural(errors, 'error')}, {plural(plan.findings.length - errors, 'warning')} known now</Status> : attaches ? <span class="muted">Preflight runs first and stops the attach if it finds an error</span> : null}
        {attaches && cp > 0 && cp % 2 === 1 && cp > 1 ? <Status tone="ok">Survives the loss of {cp === 3 ? 'one node' : 'two nodes'}</Status> : null}
      </div>
      {plan.findings.length > 0 ? <Findings findings={plan.findings} plain /> : null}
      {detailed.map((n) => (
        <section class="card stepsof" key={n.node}>
          <div class="ch">
            <b>{n.host}</b>
            <span class="muted">what will run, in order</span>
            {plan.nodes.length > 1 ? <button type="button" class="a end" onClick={() => setAll(!all)}>{all ? 'one node' : `all ${total} steps`}</button> : null}
          </div>
          <ol class="steps num">
            {n.stages.flatMap((st) => st.steps.map((s, i) => (
              <li key={`${st.word} ${i}`}>
                <span class="faint num">{n.stages.slice(0, n.stages.indexOf(st)).reduce((sum, x) => sum + x.steps.length, 0) + i + 1}</span>
                <span>{visible(s)}</span>
                <span class="t">{st.word}</span>
              </li>
            )))}
          </ol>
        </section>
      ))}
    </>
  );
}

function Outcome({ progress, made, follow }: { progress: Progress; made: Draft; follow?: [string, string] | null | undefined }) {
  const site = data.value?.name ?? '';
  const relay = through.value === 'relay';
  const view = progress.step === 'answered' ? progress.view : null;
  const receipt = useBorne(data.value, view, relay);
  if (progress.step === 'failed') return <ProblemCard problem={progress.problem} />;
  const line = (tone: 'ok' | 'busy' | 'bad' | 'act', what: ComponentChildren) => <li><Status tone={tone}>{what}</Status></li>;
  const accepted = view?.state === 'doing' || view?.state === 'done';
  // At a relay only what a node signed is the site's word.
  const own = accepted && (!relay || (receipt !== null && 'by' in receipt));
  return (
    <div aria-live="polite">
      <ul class="outcome">
        {progress.step === 'signing' ? line('busy', terminal.value ? 'Waiting for your answer at the terminal' : 'Signing') : line('ok', `Signed and sent to ${site}`)}
        {progress.step === 'sent' ? line('busy', `Waiting for the outcome, ${age(now.value - progress.at)}`) : null}
        {own && view ? line('ok', `Accepted by ${site}${view.generation !== null ? `, generation ${view.generation}` : ''}, in ${duration(progress.step === 'answered' ? progress.at - progress.sent : 0)}`) : null}
        {view?.state === 'doing' ? line('busy', 'It is being done') : null}
        {view?.state === 'pending' ? line('act', 'Accepted, waits for more signatures') : null}
        {view?.state === 'held' ? line('busy', `${relay ? 'Held at the relay' : 'Held by the site'}: ${visible(view.detail ?? view.waiting_on?.text ?? 'it waits for its time or an earlier intent')}`) : null}
        {view?.state === 'unknown' ? line('busy', relay && view.detail ? `Not accepted yet: ${visible(view.detail)}` : 'Taken, the outcome is not known yet') : null}
        {receipt && 'by' in receipt ? line('ok', `Receipt signed by ${receipt.by}, verified in this browser${receipt.index !== null ? `: record ${receipt.index} of the audit` : ''}`) : null}
        {receipt && 'why' in receipt ? line('act', `The relay says that it was accepted; ${visible(receipt.why)}`) : null}
        {view?.state === 'rejected' ? line('bad', `Refused: ${visible(view.detail ?? view.reason ?? '')}`) : null}
      </ul>
      {(view?.state === 'rejected' || view?.state === 'held') && view.remedy ? <Remedy>{view.remedy}</Remedy> : null}
      {view && view.state !== 'rejected' ? (
        <p class="row wrap">
          <code class="faint">{made.intent.id}</code>
          {follow ? <button type="button" class="btn p" onClick={() => { close(); go(follow[0]); }}>{follow[1]}</button> : null}
          <button type="button" class="btn" onClick={close}>Close</button>
        </p>
      ) : null}
    </div>
  );
}

export function SignDialog({ title, icon, change, blocked, command, left, warn, follow, danger, planned }: SignProps) {
  const d = data.value;
  const [made, setMade] = useState<Draft | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [planning, setPlanning] = useState(false);
  const [ready, setReady] = useState(false);
  const [bytes, setBytes] = useState(false);
  const [progress, setProgress] = useState<Progress | null>(null);
  const [turn, setTurn] = useState(0);
  const generation = useRef(0);
  const shown = useRef({ left, command, title, follow });
  const wanted = change ? JSON.stringify(change) : '';
  const who = author.value?.admin.admin ?? '';
  const busy = progress !== null && progress.step !== 'failed' && !(progress.step === 'answered' && progress.view.state === 'rejected');

  useEffect(() => {
    // What is on its way stays as it was signed, whatever happens to the choices.
    if (!d || busy) return undefined;
    if (!change) {
      generation.current++;
      setMade(null);
      setPlanning(false);
      return undefined;
    }
    const mine = ++generation.current;
    const run = (): void => {
      setPlanning(true);
      setReady(false);
      draft(d, change).then(
        (next) => {
          if (mine !== generation.current) return;
          setMade(next);
          planned?.(next.plan);
          setProblem(null);
          setPlanning(false);
          setTimeout(() => mine === generation.current && setReady(true), IDLE_MS);
        },
        (e: unknown) => {
          if (mine !== generation.current) return;
          setProblem(asProblem(e));
          setMade(null);
          setPlanning(false);
        },
      );
    };
    const timer = setTimeout(run, DEBOUNCE_MS);
    const refresh = setInterval(run, REFRESH_MS);
    return () => {
      clearTimeout(timer);
      clearInterval(refresh);
    };
  }, [d, wanted, who, turn]);

  if (!d) return null;
  // While it is on its way, the choices stay as they were.
  if (!busy) shown.current = { left, command, title, follow };
  const names = { host: (id: string) => d.nodes.value.value?.find((n) => n.id === id)?.name ?? null };
  const stop = made ? cannotSign(actionName(made.intent.action)) : cannotSign(change ? actionName(change.action) : 'node.label');
  const rejected = made?.plan.rejected ?? null;
  const errors = made?.plan.findings.filter((f) => f.severity === 'error').length ?? 0;
  const key = terminal.value ? { public: terminal.value.signer.key, fingerprint: terminal.value.signer.fingerprint } : browserKey.value;
  const person = author.value?.admin;
  const sign = (): void => {
    if (!made) return;
    void send(d, made, (p) => {
      setProgress(p);
      if (p.step === 'answered') say(SAID[p.view.state]);
      if (p.step === 'answered' && (p.view.state === 'doing' || p.view.state === 'done')) undo.value = undoOf(made.intent.action);
    });
  };
  const retry = (): void => {
    setProgress(null);
    setTurn(turn + 1);
  };
  const button = made ? `Sign and ${verb(made.intent.action)}` : 'Sign';
  return (
    <Frame title={shown.current.title} icon={icon} note="Nothing changes until you sign">
      <div class="dbody">
        <div class="l" inert={busy}>
          {shown.current.left}
          <div class="lbl">Same thing in a terminal</div>
          <Cmd>{shown.current.command}</Cmd>
        </div>
        <div class={planning ? 'r dimmed' : 'r'} aria-busy={planning}>
          {warn}
          {progress && made ? <Outcome progress={progress} made={made} follow={shown.current.follow} /> : null}
          <div class="row between">
            <span class="lbl">Plan</span>
            {made ? <span class="faint">computed {age(now.value - made.at)} ago at audit entry {made.plan.head.index}</span> : null}
          </div>
          {problem ? <ProblemCard problem={problem} retry={() => setTurn(turn + 1)} /> : null}
          {made ? <Plan plan={made.plan} key={made.digest} /> : problem ? null : <p class="muted">{change ? 'Asking the site what this would do.' : (blocked ?? 'Choose first.')}</p>}
          {rejected ? <ProblemCard problem={{ ...rejected, title: 'The site would refuse this' }} /> : null}
          {bytes && made ? <Bytes text={text(made.payload)} /> : null}
        </div>
      </div>
      <div class="df">
        {made ? (
          <div class="sig grow">
            {key && person ? <Ident of={key.public} big /> : <span class="noid"><Icon name="key-round" /></span>}
            <div class="grow">
              <div>
                <b>{stop ? 'To be signed:' : 'You sign:'}</b> {visible(sentence(made.intent.action, names))} on site {d.name}
              </div>
              <div class="sub2">
                {stop ? (
                  <span class="t-act">{stop}</span>
                ) : (
                  <>as {person?.name}, {person?.role}, with the key {terminal.value ? 'of the terminal, which asks there,' : 'in this browser'} <code>{key?.fingerprint.slice(0, 9)}</code> · valid {duration(made.intent.expires_ms - made.intent.issued_ms)}</>
                )}{' '}
                ·{' '}
                <button type="button" class="a" aria-expanded={bytes} onClick={() => setBytes(!bytes)}>exact bytes</button>{' '}
                <code>{hashGroups(hex(unbase64url(made.digest, 32)))}</code>
              </div>
            </div>
          </div>
        ) : (
          <div class="sig grow"><span class="faint">{blocked ?? 'What you sign is shown here, word for word.'}</span></div>
        )}
        {progress && (progress.step === 'failed' || (progress.step === 'answered' && progress.view.state === 'rejected')) ? (
          <button type="button" class="btn" onClick={retry}>Plan again</button>
        ) : busy ? null : (
          <>
            <button type="button" class="btn" onClick={close}>Cancel</button>
            {rejected || errors > 0 ? (
              <span class="t-bad strong stopline">{errors > 0 ? `${plural(errors, 'error')} stop this.` : 'Refused as it stands.'} Change the choices, or fix it first.</span>
            ) : stop ? (
              key && author.value ? null : <Link to={sitePath('keys')} class="btn p">Add key</Link>
            ) : (
              <button type="button" class={danger ? 'btn p dzp' : 'btn p'} disabled={!made || !ready || planning || Boolean(blocked)} title={blocked ?? ''} onClick={sign}>
                <Icon name="file-signature" />
                {button}
              </button>
            )}
          </>
        )}
      </div>
    </Frame>
  );
}
