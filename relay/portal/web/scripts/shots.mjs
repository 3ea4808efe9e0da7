// Takes pictures of the pages of a running door and checks them with axe-core.
//   node scripts/shots.mjs BASE_URL OUT_DIR [PATH...]
import { chromium } from 'playwright-core';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [base, out, ...paths] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args });
let bad = 0;
for (const [w, h] of [[1440, 900], [390, 844]])
  for (const scheme of ['light', 'dark']) {
    // axe is put in by the test, not by the page: the page's own policy would refuse it.
    const context = await browser.newContext({ viewport: { width: w, height: h }, colorScheme: scheme, bypassCSP: true });
    for (const path of paths) {
      const page = await context.newPage();
      page.on('pageerror', (e) => { bad++; console.log(`${path} ${w} ${scheme}: ${e.message}`); });
      page.on('console', (m) => { if (m.type() === 'error' && !m.location().url.endsWith('/v1/login')) { bad++; console.log(`${path}: ${m.text()}`); } });
      await page.goto(base + path);
      await page.waitForTimeout(1500);
      await page.screenshot({ path: `${out}/${path.replace(/[^a-z0-9]+/g, '_').replace(/^_/, '')}-${w}-${scheme}.png`, fullPage: true });
      await page.evaluate(axe);
      const found = await page.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      for (const v of found.violations) { bad++; console.log(`${path} ${w} ${scheme}: ${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 120) + ' | ' + (n.any[0]?.message ?? n.failureSummary ?? '').slice(0, 140)).join('\n    ')}`); }
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) { bad++; console.log(`${path} ${w}: ${wide}px of sideways scroll`); }
      await page.close();
    }
    await context.close();
  }
await browser.close();
process.exit(bad > 0 ? 1 : 0);
