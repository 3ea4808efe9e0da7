// Logging in: a signed challenge, by the key of this browser. No password exists.

import { loginWanted } from '../api/client.ts';
import { browserKey } from '../state/keys.ts';
import { door, enter, loginProblem } from '../state/session.ts';
import { PageHead, ProblemCard } from '../ui/parts.tsx';
import { BrowserKeyCard } from './setup.tsx';

export function LoginPage() {
  const problem = loginProblem.value;
  if (door.value === 'unknown' && !problem)
    return (
      <main class="main narrow" id="main" tabIndex={-1}>
        <p class="muted">Asking this door who may come in.</p>
      </main>
    );
  return (
    <main class="main narrow" id="main" tabIndex={-1}>
      <PageHead title="Log in" sub="This door shows the site to its admins. A login is signed by a key; there is no password." />
      {loginWanted.value && door.value === 'out' && browserKey.value && !problem ? <p class="muted">{loginWanted.value}</p> : null}
      {problem ? <ProblemCard problem={problem} retry={() => void enter()} /> : null}
      <div class="gap" />
      <BrowserKeyCard />
      <p class="faint gap">The page that you look at comes from this door. A key made here signs only what makes nobody root or admin.</p>
    </main>
  );
}
