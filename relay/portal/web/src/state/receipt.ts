// Whether an outcome that a relay shows is borne out by a node of the site.

import { useEffect, useState } from 'preact/hooks';
import type { IntentView } from '../api/views.ts';
import { readReceipt } from '../signed/receipt.ts';
import type { SiteData } from './data.ts';

export type Borne = { by: string; index: number | null } | { why: string };

/** Who signed the receipt of an outcome; or why it is nobody's but the relay's word. */
export async function borne(d: SiteData, view: IntentView): Promise<Borne> {
  const site = d.site.value.peek()?.id;
  if (!view.receipt || !site) return { why: 'the site has signed no receipt of it yet' };
  try {
    const receipt = await readReceipt(view.receipt, site, view.digest);
    if ((view.state === 'doing' || view.state === 'done') !== (receipt.outcome === 'accepted' || receipt.outcome === 'duplicate')) throw new Error('it tells of another outcome');
    if (!d.nodes.value.peek()) await d.nodes.load();
    const node = d.nodes.value.peek()?.find((n) => n.id === receipt.node && n.state !== 'waiting');
    if (!d.proof.stands(receipt.node) && !node) throw new Error('no node of the site signed it');
    return { by: node?.name ?? receipt.node, index: receipt.index };
  } catch (e) {
    return { why: `its receipt does not verify: ${e instanceof Error ? e.message : String(e)}` };
  }
}

/** The same for a view that is shown; null while it is looked at, and for what is not in force. */
export function useBorne(d: SiteData | null, view: IntentView | null, relay: boolean): Borne | null {
  const [out, set] = useState<Borne | null>(null);
  const wanted = relay && view && (view.state === 'doing' || view.state === 'done');
  useEffect(() => {
    let mine = true;
    if (d && view && wanted) void borne(d, view).then((b) => mine && set(b));
    else set(null);
    return () => {
      mine = false;
    };
  }, [d, view, wanted]);
  return out;
}
