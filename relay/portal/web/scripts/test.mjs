// Bundles the tests for Node and runs them with its test runner.
import { build } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = `${root}node_modules/.cache/test`;
const which = process.argv[2] ?? '.test.ts';
rmSync(out, { recursive: true, force: true });
const files = readdirSync(`${root}test`).filter((f) => f.endsWith(which));
await build({
  entryPoints: files.map((f) => `${root}test/${f}`),
  outdir: out,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node18',
  // Node.js 18 has it, but not by this name.
  banner: { js: "globalThis.crypto ??= (await import('node:crypto')).webcrypto;" },
  jsx: 'automatic',
  jsxImportSource: 'preact',
  external: ['playwright-core', 'axe-core'],
  logLevel: 'warning',
});
const env = { QB_VECTORS: `${root}../../../consensus/model/tests/golden/vectors.json`, ...process.env };
const run = spawnSync(process.execPath, ['--test', ...files.map((f) => `${out}/${f.replace('.ts', '.mjs')}`)], { stdio: 'inherit', env });
process.exit(run.status ?? 1);
