// Builds the portal into ../dist: one page, and assets whose names hold their hash. Script and style
// are stored compressed: `NAME.gz` is served as `NAME` with `Content-Encoding: gzip`.
// `--watch` builds again on every change. Fails when the whole is over its budget.
import { build, context } from 'esbuild';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const BUDGET = 200_000;
const root = fileURLToPath(new URL('..', import.meta.url));
const dist = fileURLToPath(new URL('../../dist', import.meta.url));
const fonts = {
  inter: `${root}node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2`,
  mono: `${root}node_modules/@fontsource/jetbrains-mono/files/jetbrains-mono-latin-400-normal.woff2`,
};
// One line a licence: what is served must say whose work it holds.
const LICENCES = `/*! qb portal. preact and @preact/signals: MIT, (c) Jason Miller and contributors. Icons: Lucide, ISC. Fonts: Inter, (c) The Inter Project Authors, and JetBrains Mono, (c) The JetBrains Mono Project Authors: SIL OFL 1.1. Word list: BIP-39, MIT. */`;

function hashed(name, ext, bytes, compress = false) {
  const file = `${name}.${createHash('sha256').update(bytes).digest('hex').slice(0, 10)}.${ext}`;
  if (compress) writeFileSync(`${dist}/assets/${file}.gz`, gzipSync(bytes, { level: 9 }));
  else writeFileSync(`${dist}/assets/${file}`, bytes);
  if (compress) console.log(`${String(bytes.length).padStart(7)}  ${file} before compression`);
  return file;
}

async function write(result) {
  // The folder itself is in the tree, so that cargo can watch it.
  rmSync(`${dist}/assets`, { recursive: true, force: true });
  mkdirSync(`${dist}/assets`, { recursive: true });
  const inter = hashed('inter', 'woff2', readFileSync(fonts.inter));
  const mono = hashed('mono', 'woff2', readFileSync(fonts.mono));
  const icon = hashed('icon', 'svg', readFileSync(`${root}src/icon.svg`));
  const sheet = readFileSync(`${root}src/app.css`, 'utf8').replace('{{inter}}', inter).replace('{{mono}}', mono);
  const minified = await build({ stdin: { contents: sheet, loader: 'css' }, minify: true, write: false, external: ['*.woff2'], bundle: true });
  const css = hashed('app', 'css', minified.outputFiles[0].contents, true);
  const js = hashed('app', 'js', result.outputFiles[0].contents, true);
  const names = { inter, mono, icon, css, js };
  const page = readFileSync(`${root}src/index.html`, 'utf8').replace(/\{\{(\w+)\}\}/g, (_, n) => names[n]).replace(/\n\s+/g, '\n');
  writeFileSync(`${dist}/index.html`, page);
  const files = ['index.html', ...readdirSync(`${dist}/assets`).map((f) => `assets/${f}`)];
  const sizes = files.map((f) => [f, statSync(`${dist}/${f}`).size]);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  for (const [f, size] of sizes) console.log(`${String(size).padStart(7)}  ${f}`);
  console.log(`${String(total).padStart(7)}  in all, of ${BUDGET}`);
  if (total > BUDGET && !process.argv.includes("--plain")) throw new Error(`dist has ${total} bytes, its budget is ${BUDGET}`);
}

const options = {
  entryPoints: [`${root}src/main.tsx`],
  bundle: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'transform',
  jsxFactory: 'jsxElement',
  jsxFragment: 'JsxFragment',
  inject: [`${root}src/jsx.ts`],
  // The type checker's setting for JSX is another one: it needs no import in each file.
  tsconfigRaw: '{}',
  minify: !process.argv.includes('--plain'),
  legalComments: 'none',
  banner: { js: LICENCES },
  write: false,
  logLevel: 'warning',
};

if (process.argv.includes('--watch')) {
  const watcher = { name: 'write', setup: (b) => b.onEnd((r) => (r.errors.length === 0 ? write(r).catch((e) => console.error(e.message)) : undefined)) };
  await (await context({ ...options, plugins: [watcher] })).watch();
} else await write(await build(options));
