// A dialog: the browser's own, so that focus stays inside and returns, and Esc closes.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { dialog } from '../state/app.ts';
import { Icon, type IconName } from '../ui/icons.tsx';

export const close = (): void => {
  dialog.value = null;
};

export function Frame({ title, note, icon, children, small }: { title: string; note?: string; icon: IconName; children: ComponentChildren; small?: boolean }) {
  const el = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const shown = el.current;
    const before = document.activeElement as HTMLElement | null;
    shown?.showModal();
    return () => {
      shown?.close();
      before?.focus?.();
    };
  }, []);
  return (
    <dialog ref={el} class={small ? 'dlg small' : 'dlg'} aria-labelledby="dlg-title" onCancel={(e) => { e.preventDefault(); close(); }} onClick={(e) => { if (e.target === el.current) close(); }}>
      <div class="dwrap">
        <div class="dh">
          <Icon name={icon} />
          <h1 id="dlg-title">{title}</h1>
          {note ? <span class="faint hide-s">{note}</span> : null}
          <button type="button" class="btn q icon end" aria-label="Close" onClick={close}>
            <Icon name="x" />
          </button>
        </div>
        {children}
      </div>
    </dialog>
  );
}
