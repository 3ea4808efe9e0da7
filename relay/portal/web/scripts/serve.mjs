// Serves ../dist on localhost and passes /v1 on to an agent's unix socket, for looking at the pages.
//   node scripts/serve.mjs SOCKET [PORT]
// The socket is the local door: it needs no login. The headers are those of the real door.
import { createServer, request } from 'node:http';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { extname } from 'node:path';

const [socketPath, port = '7401'] = process.argv.slice(2);
if (!socketPath) {
  console.error('usage: node scripts/serve.mjs SOCKET [PORT]');
  process.exit(2);
}
const dist = fileURLToPath(new URL('../../dist', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };
export const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
const HEADERS = { 'Content-Security-Policy': CSP, 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer', 'Cross-Origin-Opener-Policy': 'same-origin' };

createServer(async (req, res) => {
  const path = new URL(req.url, 'http://localhost').pathname;
  if (path === '/healthz' || path.startsWith('/v1/')) {
    const { host: _host, connection: _connection, ...headers } = req.headers;
    const on = request({ socketPath, path: req.url, method: req.method, headers: { ...headers, host: 'localhost' } }, (answer) => {
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
    });
    on.on('error', () => res.headersSent ? res.destroy() : res.writeHead(502).end());
    res.on('close', () => on.destroy());
    return req.pipe(on);
  }
  const asset = /^\/assets\/[a-z0-9.]+$/.test(path);
  try {
    const file = asset ? path : '/index.html';
    const packed = asset && /\.(js|css)$/.test(file);
    const body = await readFile(dist + file + (packed ? '.gz' : ''));
    res.writeHead(200, { ...HEADERS, ...(packed ? { 'Content-Encoding': 'gzip' } : {}), 'Content-Type': TYPES[extname(file)], 'Cache-Control': asset ? 'public, max-age=31536000, immutable' : 'no-cache' }).end(body);
  } catch {
    res.writeHead(404).end();
  }
}).listen(Number(port), '127.0.0.1', () => console.log(`http://localhost:${port}`));
