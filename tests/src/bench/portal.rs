//! The web portal in a real browser: what a visit loads, and how long until it shows a site and takes
//! input. Through `qb portal`, which needs no login; the pages are the same everywhere.

use std::time::Duration;

use anyhow::{Context as _, Result};
use qb_model::NodeId;
use qb_model::action::{Action, AuthorizedNode};
use qb_model::{Digest, HostName};
use serde_json::{Value, json};

use super::{Bench, LIMIT, NAME, print};
use crate::browser::Browser;
use crate::http;
use crate::signing::Signatory;
use crate::views::Head;
use crate::wait::eventually;

/// Nodes of the large site, besides the ones that run.
const CROWD: usize = 995;
/// Nodes that one intent names.
const AT_ONCE: usize = 250;
/// Visits of a page.
const VISITS: usize = 7;
/// Says when the page first showed what it is for and had nothing left to do.
const READY: &str = "addEventListener('DOMContentLoaded', () => {
    const folded = () => [...document.querySelectorAll('main button')].some(b => b.textContent.startsWith('Show all'));
    const shown = () => document.querySelector('main table tbody tr, main svg.mesh') !== null || folded();
    const note = () => requestIdleCallback(() => { window.__interactive ??= performance.now(); });
    const watch = new MutationObserver(() => { if (shown()) { watch.disconnect(); note(); } });
    watch.observe(document.documentElement, { childList: true, subtree: true });
});";
/// What was loaded over the line, and when it could be used.
const LOOK: &str = "const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
    const api = e => new URL(e.name).pathname.startsWith('/v1/');
    const sum = list => list.reduce((n, e) => n + e.transferSize, 0);
    return { interactive: window.__interactive ?? null, pages: sum(all.filter(e => !api(e))),
        data: sum(all.filter(api)), rows: document.querySelectorAll('main table tbody tr').length };";

/// Shows the rows of a folded list, and says how long that takes until they are drawn.
const UNFOLD: &str = "return new Promise(ok => {
    const began = performance.now();
    const rows = () => document.querySelectorAll('main table tbody tr').length;
    const look = () => rows() > 0 ? ok({ ms: performance.now() - began, rows: rows() }) : requestAnimationFrame(look);
    [...document.querySelectorAll('main button')].find(b => b.textContent.startsWith('Show all'))?.click();
    look();
})";

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("qb-bench-").tempdir()?;
    let log = dir.path().join("portal.log");
    let _portal = bench.site.qb.start(&["-y", "-o", "json", "portal", "--no-browser"], &log)?;
    let url = eventually(LIMIT, "the portal says where it is", || {
        let said = std::fs::read_to_string(&log)?;
        let line = said.lines().find(|l| l.starts_with('{')).context("it has not said it")?;
        serde_json::from_str::<Value>(line)?["url"].as_str().map(str::to_owned).context("no url")
    })?;
    let origin = url.split("/#").next().unwrap_or_default().to_owned();
    let lenient = bench.site.agents.first().context("no agent")?.url();
    let mut browser = Browser::open(dir.path(), &lenient)?;
    browser.on_every_page(READY)?;
    browser.go(&url)?;
    browser.shows(LIMIT, "qb portal")?;
    let first = browser.js(LOOK, &[])?;
    print("portal_first_visit", &json!({ "page_bytes": first["pages"], "data_bytes": first["data"] }))?;
    visits(&mut browser, &origin, bench.site.agents.len())?;
    crowd(bench)?;
    let all = bench.site.nodes()?.len();
    visits(&mut browser, &origin, all)?;
    let unfolded = browser.js(UNFOLD, &[])?;
    let took = unfolded["ms"].as_f64().map(|ms| (ms * 10.0).round() / 10.0);
    print("portal_unfold_nodes", &json!({ "nodes": all, "ms": took, "rows_drawn": unfolded["rows"] }))
}

/// Visits each page some times, with what the browser has kept of the files.
fn visits(browser: &mut Browser, origin: &str, nodes: usize) -> Result<()> {
    for (page, path) in [("site", format!("{origin}/{NAME}")), ("nodes", format!("{origin}/{NAME}/nodes"))] {
        let (mut times, mut last) = (Vec::new(), Value::Null);
        for _ in 0..VISITS {
            browser.go(&path)?;
            last = eventually(LIMIT, "the page can be used", || {
                let seen = browser.js(LOOK, &[])?;
                let shows =
                    || format!("it shows: {}", browser.text().unwrap_or_default().replace('\n', " | "));
                seen["interactive"].as_f64().map(|_| seen.clone()).with_context(shows)
            })?;
            times.push(last["interactive"].as_f64().unwrap_or_default());
        }
        times.sort_by(f64::total_cmp);
        let at = |n: usize| times.get(n).map(|t| (t * 10.0).round() / 10.0);
        print(
            "portal_interactive",
            &json!({ "page": page, "nodes": nodes, "unit": "ms", "n": times.len(), "min": at(0),
                "median": at(times.len() / 2), "max": at(times.len() - 1), "data_bytes": last["data"],
                "rows_drawn": last["rows"] }),
        )?;
    }
    Ok(())
}

/// Authorizes many nodes that do not exist: the site lists them and hears nothing of them.
fn crowd(bench: &mut Bench) -> Result<()> {
    let path = bench.site.path("/intents?wait=30s");
    for part in 0..CROWD.div_ceil(AT_ONCE) {
        let numbers = part * AT_ONCE..CROWD.min((part + 1) * AT_ONCE);
        let mut nodes = numbers
            .map(|n| {
                let node = NodeId(Signatory::fresh("nobody")?.public_key().0);
                let host: HostName = format!("crowd-{n:04}").parse()?;
                Ok(AuthorizedNode { node, host, knock: Digest([1; 32]) })
            })
            .collect::<Result<Vec<_>>>()?;
        nodes.sort_by_key(|n| n.node);
        let head: Head = bench.site.head()?;
        let intent = bench.owner.intent(bench.id, &head, Action::NodeAuthorize { nodes })?;
        let answer = http::post(&bench.site.door()?, &path, &bench.owner.sign(&intent)?)?;
        super::through::done(&answer)?;
    }
    let all = CROWD + bench.site.agents.len();
    eventually(Duration::from_secs(30), "all nodes are shown", || {
        let shown = bench.site.nodes()?.len();
        anyhow::ensure!(shown == all, "{shown} of {all}");
        Ok(())
    })
}
