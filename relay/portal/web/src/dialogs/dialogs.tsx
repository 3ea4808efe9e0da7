// The dialog that is open.

import { dialog } from '../state/app.ts';
import { data } from '../state/data.ts';
import { Cmd } from '../ui/parts.tsx';
import { Attach, Detach } from './members.tsx';
import { Authorize } from './authorize.tsx';
import { Create, LabelDialog } from './create.tsx';
import { close, Frame } from './frame.tsx';
import { Help, Search } from './search.tsx';

/** What a key in a browser never signs: the whole command, and what it means. */
function Terminal({ title, what, command, icon }: { title: string; what: string; command: string; icon: 'octagon-x' | 'terminal' }) {
  return (
    <Frame title={title} icon={icon} small>
      <div class="dpad">
        <p>{what}</p>
        <p class="muted gap">A key in a browser does not sign this. Where <code>qb</code> has your key, type:</p>
        <Cmd>{command}</Cmd>
        <p class="faint gap">It shows the plan and asks before it signs. This page follows.</p>
        <p class="gap"><button type="button" class="btn" onClick={close}>Close</button></p>
      </div>
    </Frame>
  );
}

export function Dialogs() {
  const open = dialog.value;
  if (!open) return null;
  const node = (id: string): string => data.value?.nodes.value.value?.find((n) => n.id === id)?.name ?? id;
  switch (open.kind) {
    case 'authorize': return <Authorize ids={open.nodes} />;
    case 'attach': return <Attach cluster={open.cluster} ids={open.nodes} />;
    case 'detach': return <Detach cluster={open.cluster} ids={open.nodes} />;
    case 'create': return <Create />;
    case 'label': return <LabelDialog id={open.node} />;
    case 'revoke': return <Terminal icon="octagon-x" title={`Revoke ${node(open.node)}`} what={`${node(open.node)} leaves the site for good: its key never comes back. With --then wipe it also deletes its keys and state.`} command={`qb node revoke ${node(open.node)}`} />;
    case 'delete': return <Terminal icon="octagon-x" title={`Delete ${open.cluster}`} what={`Everything that runs in ${open.cluster} ends, and its nodes return to the pool. It needs an owner.`} command={`qb cluster delete ${open.cluster}`} />;
    case 'search': return <Search />;
    case 'help': return <Help />;
    case 'login': return null;
  }
}
