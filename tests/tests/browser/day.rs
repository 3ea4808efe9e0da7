//! An administrator's day: lets machines in, makes a cluster, attaches, detaches, reads the audit.

use anyhow::{Context as _, Result, ensure};
use qb_tests::wait::eventually;
use serde_json::Value;

use super::{Fixture, SOON, access, founded, pictures};

#[test]
fn a_day_of_an_administrator() {
    let mut fixture = founded(51, |_| {}).expect("a site starts");
    let result = day(&mut fixture);
    fixture.told(result);
}

fn day(f: &mut Fixture) -> Result<()> {
    f.sign_in()?;
    authorize_by_keyboard(f)?;
    f.site.qb.ok(&["node", "authorize", "--waiting", "-y"])?;
    // A terminal brings the bundle; the browser makes the cluster of it.
    f.site.qb.ok(&["cluster", "create", "clus100", "-y"])?;
    create(f)?;
    attach(f)?;
    silence(f)?;
    access::every_page(f, "clus101")?;
    f.browser.look(1440, 900, "light")?;
    detach(f)?;
    audit(f)?;
    let refused = f.browser.refused()?;
    ensure!(refused.is_empty(), "the policy refused: {refused:?}");
    Ok(())
}

/// Tab, Shift-Tab and letters only, from the site's page to the signed intent.
fn authorize_by_keyboard(f: &mut Fixture) -> Result<()> {
    f.browser.go(&format!("{}/lyon", f.door))?;
    f.browser.shows(SOON, "Needs you")?;
    f.browser.press("gn")?;
    f.browser.shows(SOON, "node-2")?;
    f.browser.tab_to("Select node-2")?;
    f.browser.press("xa")?;
    f.browser.shows(SOON, "Authorize 1 node")?;
    f.browser.shows(SOON, "The last two words")?;
    let words = f.node("node-2")?["words"].as_str().unwrap_or_default().to_owned();
    let words: Vec<&str> = words.split(' ').collect();
    ensure!(words.len() == 6, "{words:?}");
    ensure!(!f.browser.text()?.contains(&words.join(" ")), "the page gives the words away");
    f.browser.shows(SOON, "You sign:")?;

    // Wrong words: no way to sign, and no intent.
    let before = f.intents()?;
    f.browser.tab_to("INPUT  text")?;
    f.browser.press(&format!("{} {}\u{e007}", words[5], words[4]))?;
    let signs = "return [...document.querySelectorAll('dialog button')].some(b => b.innerText.includes('Sign and') && !b.disabled)";
    // The plan is there, and with it everything but the words.
    f.browser.shows(SOON, "computed")?;
    ensure!(f.browser.js(signs, &[])? == Value::Bool(false), "wrong words can be signed");
    ensure!(f.intents()? == before, "an intent was sent");
    ensure!(f.node("node-2")?["state"] == "waiting", "it was let in");

    let erased = "\u{e003}".repeat(words[5].len() + words[4].len() + 1);
    f.browser.press(&erased)?;
    f.browser.press(&format!("{} {}", words[4], words[5]))?;
    eventually(SOON, "the right words can be signed", || {
        ensure!(f.browser.js(signs, &[])? == Value::Bool(true));
        Ok(())
    })?;
    f.browser.tab_to("Sign and authorize 1 node")?;
    f.browser.press("\u{e007}")?;
    f.browser.shows(SOON, "Accepted by lyon")?;
    eventually(SOON, "node-2 is in the pool", || {
        let node = f.node("node-2")?;
        ensure!(node["state"] == "pool", "{node}");
        Ok(())
    })?;
    // Esc closes, and the focus is back in the page.
    f.browser.press("\u{e00c}")?;
    eventually(SOON, "the dialog is closed", || {
        ensure!(
            f.browser.js("return document.querySelector('dialog[open]') === null", &[])? == Value::Bool(true)
        );
        Ok(())
    })
}

fn create(f: &mut Fixture) -> Result<()> {
    f.browser.go(&format!("{}/lyon/clusters", f.door))?;
    f.browser.click(SOON, "button", "Create a cluster")?;
    f.browser.shows(SOON, "create cluster clus101")?;
    f.browser.click(SOON, "button", "Sign and create")?;
    f.browser.shows(SOON, "Accepted by lyon")?;
    f.browser.click(SOON, "button", "Open clus101")?;
    f.browser.shows(SOON, "This cluster exists in name only")
}

fn attach(f: &mut Fixture) -> Result<()> {
    eventually(SOON, "the pool is ready", || {
        let nodes = f.get("/nodes")?;
        let ready = nodes.as_array().into_iter().flatten();
        let ready = ready.filter(|n| n["state"] == "pool" && n["waiting_on"].is_null()).count();
        ensure!(ready == 5, "{ready}");
        Ok(())
    })?;
    f.browser.click(SOON, "button", "Attach nodes")?;
    f.browser.shows(SOON, "what will run, in order")?;
    f.browser.shows(SOON, "You sign: attach node-")?;
    f.browser.shows(SOON, "control plane, first")?;
    // What would be signed is shown as it is.
    f.browser.click(SOON, "button", "exact bytes")?;
    f.browser.shows(SOON, "\"cluster.attach\"")?;
    ensure!(f.site.cluster("clus101")?.members.is_empty(), "a plan changed something");
    for (name, width, scheme) in [("light", 1440, "light"), ("dark", 1440, "dark"), ("narrow", 390, "light")]
    {
        f.browser.look(width, 900, scheme)?;
        f.browser.picture(&pictures().join(format!("attach-{name}.png")))?;
        access::check(f, &format!("the attach dialog, {name}"))?;
    }
    f.browser.look(1440, 900, "light")?;
    f.browser.click(SOON, "button", "Sign and attach")?;
    f.browser.shows(SOON, "Accepted by lyon")?;
    f.browser.click(SOON, "button", "Follow the attach")?;
    // The way back is offered for a while, as a plan.
    f.browser.click(SOON, ".undo button", "Detach again")?;
    f.browser.shows(SOON, "Type the cluster's name, clus101")?;
    f.browser.press("\u{e00c}")?;
    // The stages, then a track for each node on one axis.
    f.browser.shows(SOON, "Initialize")?;
    f.browser.find(SOON, "[aria-label='What each node did when']", "")?;
    eventually(SOON, "clus101 is ready at the site", || {
        let cluster = f.site.cluster("clus101")?;
        ensure!(cluster.state == "ready" && cluster.members.len() == 3, "{}", cluster.state);
        Ok(())
    })?;
    f.browser.find(SOON, "h1", "ready")?;
    f.browser.shows(SOON, "took")?;
    f.browser.picture(&pictures().join("progress-light.png"))
}

/// A machine of the pool loses its power: pages and alerts have something to show.
fn silence(f: &mut Fixture) -> Result<()> {
    let nodes = f.get("/nodes")?;
    let spare = nodes.as_array().into_iter().flatten();
    // The first one's door is the one that the browser has.
    let spare =
        spare.filter(|n| n["state"] == "pool" && n["name"] != "node-1").filter_map(|n| n["name"].as_str());
    let host = spare.max().context("a node of the pool")?.to_owned();
    f.site.agent(&host)?.kill();
    Ok(())
}

fn detach(f: &mut Fixture) -> Result<()> {
    let hosts: Vec<String> = f.site.cluster("clus101")?.members.iter().map(|m| m.host.clone()).collect();
    f.browser.go(&format!("{}/lyon/clusters/clus101/progress", f.door))?;
    f.browser.click(SOON, "nav[aria-label='Parts of clus101'] a", "Nodes")?;
    f.browser.click(SOON, "tr button", "Detach")?;
    f.browser.shows(SOON, "Type the cluster's name, clus101")?;
    // One of three control plane nodes: the plan says that the site would refuse, and why.
    f.browser.shows(SOON, "The site would refuse this")?;
    for host in &hosts[1..] {
        f.browser.click(SOON, "input.ck", &format!("Detach {host}"))?;
    }
    let field = f.browser.find(SOON, "input:not([type=checkbox])", "")?;
    f.browser.type_into(&field, "clus10")?;
    f.browser.shows(SOON, "You sign: detach")?;
    let signs = "return [...document.querySelectorAll('dialog button')].some(b => b.innerText.includes('Sign and') && !b.disabled)";
    ensure!(f.browser.js(signs, &[])? == Value::Bool(false), "half a name is enough");
    f.browser.type_into(&field, "clus101")?;
    f.browser.click(SOON, "button", "Sign and detach")?;
    f.browser.shows(SOON, "Accepted by lyon")?;
    eventually(SOON, "they are back in the pool", || {
        for host in &hosts {
            let node = f.node(host)?;
            ensure!(node["state"] == "pool", "{host}: {}", node["state"]);
        }
        Ok(())
    })?;
    f.browser.click(SOON, "button", "Close")
}

fn audit(f: &mut Fixture) -> Result<()> {
    f.browser.go(&format!("{}/lyon/audit", f.door))?;
    f.browser.shows(SOON, "Chain verified in this browser")?;
    f.browser.shows(SOON, "detach")?;
    f.browser.click(SOON, "button.line", "as control plane) to clus101")?;
    f.browser.shows(SOON, "valid, checked in this browser")?;
    // What the browser proved is what the site has.
    let text = f.browser.text()?;
    ensure!(text.contains("Mira Okafor"), "{text}");
    Ok(())
}
