// A line over the last hour. A hole in the samples is a hole in the line.

import type { HistoryView } from '../api/views.ts';
import { clock } from '../state/format.ts';

const W = 300;
const H = 64;

/** The line's path in a box of `W` by `H`. `top` is the value at the upper edge. */
export function chartPath(points: readonly (readonly [number, number | null])[], from: number, to: number, top: number, gap: number): string {
  let path = '';
  let last: number | null = null;
  for (const [at, value] of points) {
    if (value === null) {
      last = null;
      continue;
    }
    const x = ((at - from) / Math.max(1, to - from)) * W;
    const y = H - (Math.min(value, top) / Math.max(1, top)) * H;
    // A line of no length is a dot: a sample that stands alone is seen.
    path += last === null || at - last > gap ? `M${x.toFixed(1)} ${y.toFixed(1)}h0` : `L${x.toFixed(1)} ${y.toFixed(1)}`;
    last = at;
  }
  return path;
}

/** Cents of a whole over time. */
export function Chart({ title, history, cents, small }: { title: string; history: HistoryView; cents: (sample: HistoryView['samples'][number]) => number | null; small?: boolean }) {
  const points = history.samples.map((s) => [s.at, cents(s)] as const);
  const values = points.flatMap(([, v]) => (v === null ? [] : [v]));
  const last = values.at(-1);
  const to = points.at(-1)?.[0] ?? 0;
  const from = Math.min(points[0]?.[0] ?? 0, to - 60_000);
  const most = values.length > 0 ? Math.round(Math.max(...values)) : 0;
  const said = last === undefined ? `${title}: no sample yet` : `${title} in the last hour: now ${Math.round(last)} %, at most ${most} %`;
  return (
    <figure class={small ? 'chart small' : 'chart'}>
      {small ? null : (
        <figcaption class="row between">
          <span class="lbl">{title}</span>
          <span class="faint">{last === undefined ? 'no sample yet' : `now ${Math.round(last)} %, at most ${most} %`}</span>
        </figcaption>
      )}
      <svg viewBox={`0 0 ${W} ${H}`} preserveAspectRatio="none" role="img" aria-label={said}>
        <path class="grid" d={small ? `M0 ${H}H${W}` : `M0 .5H${W}M0 ${H / 2}H${W}M0 ${H - 0.5}H${W}`} />
        <path class="line" d={chartPath(points, from, to, 100, history.step_ms * 2.5)} />
      </svg>
      {small ? <span class="num faint" aria-hidden="true">{last === undefined ? '' : `${Math.round(last)} %`}</span> : null}
      {small || values.length === 0 ? null : (
        <div class="row between faint sub2" aria-hidden="true">
          <span>{clock(from, to)}</span>
          <span>{clock(to, to)}</span>
        </div>
      )}
    </figure>
  );
}
