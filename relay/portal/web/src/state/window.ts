// Which rows of a long list are drawn: those that can be seen, and a few around.

/** Lists up to this length are drawn whole, so that the browser's own search finds every row. */
export const WHOLE = 200;
/** Rows drawn beyond each edge of the window. */
const SPARE = 10;

/** The rows from `from` to before `to` that a window of `height` shows, `top` pixels into the list. */
export function visibleRows(count: number, top: number, height: number, row: number): [number, number] {
  if (count <= WHOLE) return [0, count];
  const first = Math.floor(Math.max(0, top) / row) - SPARE;
  const last = Math.ceil((Math.max(0, top) + Math.max(0, height)) / row) + SPARE;
  const from = Math.max(0, Math.min(first, count - 1));
  return [from, Math.max(from, Math.min(last, count))];
}
