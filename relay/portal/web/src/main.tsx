import { render } from 'preact';
import { App } from './ui/shell.tsx';
import { loadKey } from './state/keys.ts';
import { enter } from './state/session.ts';
import { takeToken } from './state/terminal.ts';

takeToken();

render(<App />, document.getElementById('app') as HTMLElement);
void loadKey()
  .catch(() => undefined)
  .then(enter);
