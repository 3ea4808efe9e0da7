//! Every page, in light and dark and on a narrow screen: what axe-core finds, and sideways scroll.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use qb_tests::wait::eventually;
use serde_json::{Value, json};

use super::{Fixture, SOON, pictures};

/// Rules of WCAG 2.2 A and AA, and what axe-core holds for good practice.
const RULES: &str = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']";

/// Width, colours, and the name of both.
pub(super) const LOOKS: [(u32, &str, &str); 3] =
    [(1440, "light", "light"), (1440, "dark", "dark"), (360, "light", "narrow")];

/// What makes a page wider than the window, if it is.
const WIDE: &str = "const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return [];
    return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > room + 1 && !e.closest('.tblx'))
        .slice(0, 5).map(e => `${e.tagName}.${e.getAttribute('class')} ${Math.round(e.getBoundingClientRect().right - room)}`)";

/// Opens every page in every look.
pub(super) fn every_page(f: &mut Fixture, cluster: &str) -> Result<()> {
    let pages = [
        ("", "Needs you"),
        ("/nodes", "Last report"),
        ("/nodes/node-1", "Last hour"),
        ("/nodes/node-1/facts", "Kernel"),
        ("/nodes/node-1/history", "node-1"),
        ("/clusters", "rehearsal"),
        (&format!("/clusters/{cluster}/progress"), "Why this is happening"),
        (&format!("/clusters/{cluster}/nodes"), "Through"),
        (&format!("/clusters/{cluster}/topology"), "control plane"),
        (&format!("/clusters/{cluster}/access"), "API server"),
        ("/preflight", "Preflight"),
        ("/alerts", "is silent: no report"),
        ("/intents", "Done"),
        ("/audit", "Chain verified in this browser"),
        ("/events", "newest first"),
        ("/add", "Carry it to each machine"),
        ("/bundles", "signed by"),
        ("/keys", "this browser"),
        ("/policy", "owner class"),
        ("/more", "Single keys"),
    ];
    for (page, shows) in pages {
        f.browser.go(&format!("{}/lyon{page}", f.door))?;
        for (width, scheme, look) in LOOKS {
            f.browser.look(width, 900, scheme)?;
            let shows = if look == "narrow" && shows == "Last report" { "node-1" } else { shows };
            f.browser.shows(SOON, shows)?;
            let name = format!("{}-{look}", page.trim_start_matches('/').replace('/', "-"));
            check(f, &format!("{page}, {look}"))?;
            f.browser.picture(&pictures().join(format!("page-{name}.png")))?;
        }
    }
    Ok(())
}

/// What axe-core finds on the page as it is now: nothing.
pub(super) fn check(f: &Fixture, what: &str) -> Result<()> {
    // axe comes in by the driver: the page's own policy would refuse it.
    if f.browser.js("return typeof window.axe", &[])? != "object" {
        f.browser.js(&axe()?, &[])?;
    }
    let run = format!("return axe.run({{ runOnly: {RULES} }})");
    // What fades in is checked once it has: a finding must still be there on another look.
    eventually(SOON, &format!("axe-core has nothing against {what}"), || {
        let found = f.browser.js(&run, &[])?;
        let violations = found["violations"].as_array().context("axe-core did not answer")?;
        let said: Vec<String> = violations.iter().map(told).collect();
        ensure!(said.is_empty(), "{}", said.join("; "));
        ensure!(found["passes"].as_array().is_some_and(|p| p.len() > 10), "axe-core looked at nothing");
        Ok(())
    })?;
    // Less the bar that scrolls it: what lies under that is not seen either.
    let wide = f.browser.js(WIDE, &[])?;
    ensure!(wide == json!([]), "{what}: sideways scroll by {wide}");
    Ok(())
}

fn told(violation: &Value) -> String {
    let nodes = violation["nodes"].as_array().cloned().unwrap_or_default();
    let at: Vec<String> =
        nodes.iter().take(3).map(|n| format!("{} ({})", n["html"], n["failureSummary"])).collect();
    format!("{}: {}", violation["id"], json!(at))
}

fn axe() -> Result<String> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../relay/portal/web");
    let path = web.join("node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&path).with_context(|| format!("{} is missing: just web", path.display()))
}
