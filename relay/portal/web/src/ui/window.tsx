// Long lists: only the rows in sight are in the page, between two empty ones that keep its height.

import type { RefObject } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { visibleRows, WHOLE } from '../state/window.ts';

export interface Rows {
  from: number;
  to: number;
  /** Whether rows are left out, so that those drawn need a fixed height. */
  windowed: boolean;
}

/** Follows what is seen of a list whose rows are `row` pixels high. `list` is the list's element. */
export function useRows(list: RefObject<HTMLElement | null>, count: number, row: number): Rows {
  const [[from, to], set] = useState<[number, number]>(() => visibleRows(count, 0, globalThis.innerHeight ?? 900, row));
  useLayoutEffect(() => {
    let frame = 0;
    const look = (): void => {
      frame = 0;
      const top = -(list.current?.getBoundingClientRect().top ?? 0);
      const next = visibleRows(count, top, innerHeight, row);
      set((before) => (before[0] === next[0] && before[1] === next[1] ? before : next));
    };
    const later = (): void => {
      frame ||= requestAnimationFrame(look);
    };
    look();
    if (count <= WHOLE) return undefined;
    addEventListener('scroll', later, { passive: true });
    addEventListener('resize', later);
    return () => {
      removeEventListener('scroll', later);
      removeEventListener('resize', later);
      cancelAnimationFrame(frame);
    };
  }, [count, row]);
  return { from: Math.min(from, count), to: Math.min(to, count), windowed: count > WHOLE };
}

/** Stands for rows that are not drawn. */
export function Gap({ rows, row, columns }: { rows: number; row: number; columns?: number }) {
  const el = useRef<HTMLElement>(null);
  useEffect(() => el.current?.style.setProperty('height', `${rows * row}px`), [rows, row]);
  if (rows <= 0) return null;
  return columns === undefined ? (
    <li aria-hidden="true" class="hole" ref={el as RefObject<HTMLLIElement>} />
  ) : (
    <tr aria-hidden="true" class="hole">
      <td colSpan={columns} ref={el as RefObject<HTMLTableCellElement>} />
    </tr>
  );
}
