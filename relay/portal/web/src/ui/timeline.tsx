// Tracks on a common time axis: solid ran, hatched waited, blue runs, one line is now.

import { useEffect, useRef } from 'preact/hooks';
import { duration } from '../state/format.ts';
import type { Bar, Track } from '../state/timeline.ts';

const STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600].map((s) => s * 1000);

const label = (ms: number, step: number): string => {
  if (step < 1000) return `${(ms / 1000).toFixed(step < 100 ? 2 : 1)} s`;
  const s = Math.round(ms / 1000);
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
};

function Placed({ left, width, class: cls, children, title }: { left: number; width?: number; class: string; children?: preact.ComponentChildren; title?: string }) {
  const el = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    el.current?.style.setProperty('left', `${left}%`);
    if (width !== undefined) el.current?.style.setProperty('width', `${width}%`);
  }, [left, width]);
  return (
    <span ref={el} class={cls} title={title}>
      {children}
    </span>
  );
}

const SAID: Record<Bar['kind'], string> = { ok: '', busy: 'running, ', hold: '', bad: 'failed, ' };

export function Timeline({ tracks, now, running, pick, picked }: { tracks: readonly Track[]; now: number; running: boolean; pick: (node: string) => void; picked: string | null }) {
  const from = Math.min(...tracks.flatMap((t) => t.bars.map((b) => b.from)));
  const last = Math.max(...tracks.flatMap((t) => t.bars.map((b) => b.to)), running ? now : 0);
  if (!Number.isFinite(from)) return null;
  const span = Math.max(200, (last - from) * (running ? 1.25 : 1.04));
  const step = STEPS.find((s) => span / s <= 8) ?? span / 8;
  const at = (t: number): number => ((t - from) / span) * 100;
  const ticks: number[] = [];
  for (let t = 0; t < span; t += step) ticks.push(t);
  return (
    <div class="g" role="group" aria-label="What each node did when">
      <div class="lab faint">elapsed {duration((running ? now : last) - from)}</div>
      <div class="ax" aria-hidden="true">
        {ticks.map((t) => (
          <Placed key={t} left={at(from + t)} class="tick">
            {label(t, step)}
          </Placed>
        ))}
        {running ? <Placed left={at(now)} class="now" /> : null}
      </div>
      {tracks.map((t) => (
        <>
          <div class={picked === t.node ? 'lab on' : 'lab'}>
            <button type="button" class="nm clip" onClick={() => pick(t.node)} aria-pressed={picked === t.node}>
              {t.host}
            </button>
            <div class="sub2">{t.note}</div>
          </div>
          <div class="trk">
            <span class="vh">{t.bars.map((b) => `${b.word}, ${SAID[b.kind]}${duration(b.to - b.from)}`).join('; ')}</span>
            {ticks.map((tick) => (
              <Placed key={tick} left={at(from + tick)} class="line" />
            ))}
            {t.bars.map((b, i) => (
              <Placed key={i} left={at(b.from)} width={Math.max(0.6, at(b.to) - at(b.from) - 0.15)} class={`b ${b.kind}`} title={`${b.word} ${duration(b.to - b.from)}`}>
                <span aria-hidden="true">
                  {b.word} {duration(b.to - b.from)}
                </span>
              </Placed>
            ))}
            {running ? <Placed left={at(now)} class="now" /> : null}
          </div>
        </>
      ))}
    </div>
  );
}
