// Signed bytes as they are, set out to be read: nothing is added or left out but line breaks.

import { visible } from '../signed/strict.ts';
import { lines } from './text.ts';

export const Bytes = ({ text }: { text: string }) => (
  <pre class="bytes" tabIndex={0} role="region" aria-label="Signed bytes">
    {lines(text).split('\n').map((l) => visible(l)).join('\n')}
  </pre>
);
