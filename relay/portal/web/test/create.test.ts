// The dialog that creates a cluster: which fields it has for which driver, and what is left alone.

import './window.ts';
import assert from 'node:assert/strict';
import test from 'node:test';
import { createElement } from 'preact';
import { render } from 'preact-render-to-string';
import { Create } from '../src/dialogs/create.tsx';
import { base64url, text } from '../src/signed/bytes.ts';
import { toPayload, type Intent } from '../src/signed/intent.ts';
import { siteText } from '../src/signed/names.ts';
import { chosen, readSettings } from '../src/signed/settings.ts';
import { data, SiteData } from '../src/state/data.ts';

const digest = base64url(new Uint8Array(32).fill(4));

const shown = (driver: string): string => {
  const d = new SiteData('lyon');
  d.bundles.value.value = [{ digest, name: driver, version: '1.36.2', size: 1, publisher: 'acme' }];
  d.bundles.at.value = Date.now();
  d.clusters.value.value = [];
  d.clusters.at.value = Date.now();
  data.value = d;
  const html = render(createElement(Create, {}));
  data.value = null;
  return html;
};

test('networks and endpoint are asked for where there are any, folded', () => {
  const html = shown('kubeadm');
  assert.match(html, /<details class="fld"><summary>Networks and endpoint<\/summary>/);
  for (const field of ['pods', 'services', 'endpoints']) assert.match(html, new RegExp(`<input name="${field}" value`));
  assert.match(html, /qb cluster create clus100 --driver kubeadm/);
  assert.doesNotMatch(html, /--pods/);
  assert.doesNotMatch(shown('rehearsal'), /Networks and endpoint/);
});

test('what is left alone, or typed as it is, is not signed', () => {
  const create = (typed: { pods: string; services: string; endpoints: string }): string => {
    const read = readSettings(typed);
    if (typeof read === 'string') return read;
    const settings = chosen(read);
    const made: Intent = {
      v: 1,
      site: siteText(new Uint8Array(32).fill(7)),
      id: '01JD0000000000000000000000',
      by: 'mira',
      issued_ms: 1,
      expires_ms: 2,
      anchor: { index: 4, hash: digest },
      expect: [],
      action: { 'cluster.create': { cluster: 'c', driver: 'kubeadm', version: '1.36.2', bundle: digest, ...(settings && { settings }) } },
    };
    return text(toPayload(made)).replace(/^.*"bundle":"[^"]*"/, '');
  };
  assert.equal(create({ pods: '', services: '', endpoints: '' }), '}}}');
  assert.equal(create({ pods: ' 10.244.0.0/16', services: '10.96.0.0/16 ', endpoints: ' ' }), '}}}');
  assert.equal(create({ pods: '', services: '', endpoints: 'a:6443' }), ',"settings":{"endpoints":["a"]}}}}');
  assert.equal(
    create({ pods: '10.8.0.0/20', services: '', endpoints: 'k8s.example.com:8443 203.0.113.9' }),
    ',"settings":{"pods":"10.8.0.0/20","endpoints":["k8s.example.com","203.0.113.9"],"port":8443}}}}',
  );
  assert.match(create({ pods: '10.8.0.1/20', services: '', endpoints: '' }), /write 10.8.0.0\/20$/);
});
