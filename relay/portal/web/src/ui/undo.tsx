// The bar with the way back. It opens a plan: nothing is undone by one click.

import { useEffect } from 'preact/hooks';
import { dialog } from '../state/app.ts';
import { undo, UNDO_MS } from '../state/undo.ts';

export function UndoBar() {
  const way = undo.value;
  const open = dialog.value !== null;
  useEffect(() => {
    // It counts from when it can be seen.
    if (!way || open) return undefined;
    const timer = setTimeout(() => (undo.value = null), UNDO_MS);
    return () => clearTimeout(timer);
  }, [way, open]);
  if (!way || open) return null;
  return (
    <div class="undo" role="status">
      <span>{way.said}</span>
      <button type="button" class="btn sm" onClick={() => { undo.value = null; dialog.value = way.dialog; }}>{way.word}</button>
    </div>
  );
}
