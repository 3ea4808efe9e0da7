//! The second door: an administrator works at the relay, goes on at an agent's own door when the relay is
//! gone, and comes back. In between the relay lies, and the page of it asks for what no browser key may.

use anyhow::{Context as _, Result, ensure};
use qb_model::SiteId;
use qb_model::charter::Charter;
use qb_model::trust::TrustState;
use qb_tests::binaries::Binaries;
use qb_tests::browser::Browser;
use qb_tests::packages;
use qb_tests::relay::Relay;
use qb_tests::signing::Signatory;
use qb_tests::site::{Layout, Site};
use qb_tests::views::Head;
use qb_tests::wait::eventually;
use serde_json::{Value, json};

use super::proxy::Proxy;
use super::{Fixture, SOON, access, ceiling, pictures, sign_in};

/// Last but one byte of its addresses, and the number of the relay's port.
const NET: u8 = 54;
/// Where the relay listens, and where everybody believes it to.
const PORTS: (u16, u16) = (18_454, 18_554);

/// A site of three agents that know each other by a relay alone, and a proxy in front of it.
struct Second {
    f: Fixture,
    relay: Relay,
    proxy: Proxy,
    id: SiteId,
}

#[test]
fn the_second_door() {
    let mut second = prepared().expect("a site starts");
    let result = story(&mut second);
    second.f.told(result.map_err(|e| {
        let log = std::fs::read_to_string(&second.relay.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        e.context(format!("relay: {}", lines[lines.len().saturating_sub(15)..].join("\n")))
    }));
}

fn prepared() -> Result<Second> {
    let dir = tempfile::Builder::new().prefix("qb").tempdir()?;
    let binaries = Binaries::find()?.with_relay()?;
    let layout = Layout { dir: dir.path().join("s"), name: "lyon".into(), net: [127, 0, NET] };
    let mut site = Site::open(&layout, &binaries)?;
    site.agents.truncate(3);
    site.ports_free()?;
    site.create()?;
    let proxy = Proxy::open(PORTS.1, PORTS.0)?;
    let mut relay = Relay::open_behind(dir.path(), PORTS.0, PORTS.1, &binaries)?;
    packages::stock(&relay.packages(), 200_000)?;
    relay.kill();
    relay.start()?;
    let envelope = site.trust_relay(&relay.url(), relay.key, false)?;
    let charter = Charter::verify(&envelope)?;
    let id = charter.site_id();
    let trust = TrustState::from_charter(&charter).head().to_string();
    relay.register(&envelope, &site.founder()?, id, &Head { index: 0, hash: id.0.to_string(), trust })?;
    site.start()?;
    site.qb.ok(&["node", "authorize", "node-1", "-y"])?;
    let door = site.agents[0].url();
    let browser = Browser::open(dir.path(), &door)?;
    Ok(Second { f: Fixture { browser, site, door, _dir: dir }, relay, proxy, id })
}

fn story(s: &mut Second) -> Result<()> {
    let url = s.relay.url();
    sign_in(&mut s.f.browser, &s.f.site.qb, &format!("{url}/"))?;
    s.f.browser.shows(SOON, "through the relay")?;
    s.f.browser.shows(SOON, "served by the relay's own page")?;
    s.f.browser.shows(SOON, "by this page's own code: verified, ")?;
    add_machines(s, &url)?;
    swapped_key(s, &url)?;
    // Who shall carry a control plane is let in at a terminal.
    let far = format!("relay:{url}");
    let nodes = s.f.site.qb.json(&["--door", &far, "node", "list"])?;
    let mut waiting = nodes.as_array().into_iter().flatten().filter(|n| n["state"] == "waiting");
    let print = waiting.next().and_then(|n| n["fingerprint"].as_str()).context("nobody waits")?.to_owned();
    s.f.site.qb.ok(&["--door", &far, "node", "authorize", &print, "-y"])?;
    a_bundle_comes(s, &url)?;
    create_and_attach(s, &url)?;
    nobody_knocks(s, &url)?;
    frozen(s, &url)?;
    two_heads(s, &url)?;
    ceiling::holds(&mut s.f, s.id, &url)?;
    gone_and_back(s, &url)
}

/// The relay's packages, with what its own digests are worth; and the machines that knock.
fn add_machines(s: &mut Second, url: &str) -> Result<()> {
    s.f.browser.go(&format!("{url}/lyon/add"))?;
    for (width, scheme, look) in access::LOOKS.into_iter().chain([(360, "dark", "narrow-dark")]) {
        s.f.browser.look(width, 900, scheme)?;
        for shows in
            ["sha256sum -c", "this relay's word", "qb package line", "Compare and authorize 2 machines"]
        {
            s.f.browser.shows(SOON, shows)?;
        }
        access::check(&s.f, &format!("/add at the relay, {look}"))?;
        s.f.browser.picture(&pictures().join(format!("add-relay-{look}.png")))?;
    }
    s.f.browser.look(1440, 900, "light")?;
    // What the page links to is what the command line verifies.
    let b = &s.f.browser;
    for (button, end, install) in [("deb", ".deb", "apt-get install ./"), ("rpm", ".rpm", "dnf install ./")] {
        b.click(SOON, ".seg button", button)?;
        b.shows(SOON, install)?;
        let link = b.js("return document.querySelector('a[download]').href", &[])?;
        let link = link.as_str().context("no link")?;
        let wanted = format!("{url}/packages/{}/qb-agent{end}", s.id);
        ensure!(link == wanted, "{link}, not {wanted}");
    }
    let verified = s.f.site.qb.json(&["package", "line", "--via", url])?;
    let line = verified["line"].as_str().context("no line")?;
    // White space is laid out anew on the page.
    let shown = b.js("return [...document.querySelectorAll('.cmd code')].map(e => e.textContent)", &[])?;
    ensure!(
        shown.as_array().is_some_and(|all| all.contains(&json!(line))),
        "not on the page: {line}\n{shown}"
    );
    Ok(())
}

/// Nobody waits a minute: the page's clock is set on instead.
fn nobody_knocks(s: &mut Second, url: &str) -> Result<()> {
    s.f.browser.go(&format!("{url}/lyon/add"))?;
    s.f.browser.shows(SOON, "Waiting for the first knock")?;
    s.f.browser.js("const now = Date.now.bind(Date); Date.now = () => now() + 61000;", &[])?;
    s.f.browser.shows(SOON, "Nothing in a minute")?;
    s.f.browser.shows(SOON, &format!("on port {}", PORTS.1))?;
    for (width, scheme, look) in access::LOOKS {
        s.f.browser.look(width, 900, scheme)?;
        access::check(&s.f, &format!("/add without a knock, {look}"))?;
        s.f.browser.picture(&pictures().join(format!("add-silent-{look}.png")))?;
    }
    s.f.browser.look(1440, 900, "light")
}

/// S30: the relay shows its own key as that of a machine; the words on the machine's console decide.
fn swapped_key(s: &mut Second, url: &str) -> Result<()> {
    let agent = s.f.site.agent("node-3")?.socket();
    let own: Vec<Value> = qb_tests::http::get(&agent, "/v1/sites/lyon/nodes")?;
    let own = own.iter().find(|n| n["name"] == "node-3").context("it knows itself")?;
    let id = own["id"].as_str().context("its key")?;
    let words: Vec<&str> = own["words"].as_str().context("its words")?.split(' ').collect();
    let fake = Signatory::fresh("eve")?.public_key().to_string();
    s.proxy.swap("/nodes", id, &fake)?;
    let b = &mut s.f.browser;
    b.go(&format!("{url}/lyon/nodes?where=node-3"))?;
    b.shows(SOON, "node-3")?;
    b.tab_to("Select node-3")?;
    b.press("xa")?;
    b.shows(SOON, "It came only through the relay")?;
    b.shows(SOON, "The last two words")?;
    b.shows(SOON, "computed")?;
    let typed = format!("{} {}", words[4], words[5]);
    b.tab_to("INPUT  text")?;
    b.press(&typed)?;
    let wants = "return [...document.querySelectorAll('dialog button')].some(b => b.disabled && b.title.startsWith('Type the last two words'))";
    ensure!(b.js(wants, &[])? == Value::Bool(true), "the dialog takes words that are not the key's");
    b.press("\u{e007}")?;
    ensure!(!may_sign(b)?, "a swapped key can be signed");
    let before = s.f.intents()?;
    ensure!(s.proxy.honest() > 0, "nothing was swapped");

    // The same words are right for the machine's own key.
    let b = &mut s.f.browser;
    b.go(&format!("{url}/lyon/nodes?where=node-3"))?;
    b.shows(SOON, "node-3")?;
    b.tab_to("Select node-3")?;
    b.press("xa")?;
    b.shows(SOON, "It came only through the relay")?;
    b.tab_to("INPUT  text")?;
    b.press(&typed)?;
    eventually(SOON, "the right words can be signed", || {
        ensure!(may_sign(b)?);
        Ok(())
    })?;
    ensure!(s.f.intents()? == before, "an intent was sent for the swapped key");
    let b = &mut s.f.browser;
    b.click(SOON, "button", "Sign and authorize")?;
    site_signed(b)?;
    b.click(SOON, "button", "Close")
}

fn may_sign(b: &Browser) -> Result<bool> {
    let signs = "return [...document.querySelectorAll('dialog button')].some(b => b.innerText.includes('Sign and') && !b.disabled)";
    Ok(b.js(signs, &[])? == Value::Bool(true))
}

/// What the page shows of an accepted intent at the relay: the site's word, verified here.
fn site_signed(b: &Browser) -> Result<()> {
    b.shows(SOON, "Receipt signed by node-")?;
    b.shows(SOON, "verified in this browser")?;
    b.shows(SOON, "Accepted by lyon")
}

/// A dialog that waits for a bundle has it soon after somebody brought one: nobody reads the page again.
fn a_bundle_comes(s: &mut Second, url: &str) -> Result<()> {
    s.f.browser.go(&format!("{url}/lyon/clusters"))?;
    s.f.browser.click(SOON, "button", "Create a cluster")?;
    s.f.browser.shows(SOON, "The site holds no bundle that it accepts")?;
    s.f.site.qb.ok(&["cluster", "create", "clus100", "-y"])?;
    // Less than the page's own pause between two reads of bundles.
    s.f.browser.shows(SOON / 2, "You sign: create cluster clus101")
}

fn create_and_attach(s: &mut Second, url: &str) -> Result<()> {
    eventually(SOON, "the pool is ready", || {
        let nodes = s.f.get("/nodes")?;
        let ready = nodes.as_array().into_iter().flatten();
        let ready = ready.filter(|n| n["state"] == "pool" && n["waiting_on"].is_null()).count();
        ensure!(ready == 3, "{ready}: {nodes}");
        Ok(())
    })?;
    let b = &mut s.f.browser;
    b.go(&format!("{url}/lyon/clusters"))?;
    b.click(SOON, "button", "Create a cluster")?;
    b.click(SOON, "button", "Sign and create")?;
    site_signed(b)?;
    b.click(SOON, "button", "Open clus101")?;
    b.click(SOON, "button", "Attach nodes")?;
    b.shows(SOON, "You sign: attach node-")?;
    b.click(SOON, "button", "Sign and attach")?;
    site_signed(b)?;
    b.click(SOON, "button", "Follow the attach")?;
    b.find(SOON, "[aria-label='What each node did when']", "")?;
    b.find(SOON, "h1", "ready")?;
    b.picture(&pictures().join("relay-ready.png"))
}

/// S28: the relay answers, but with what it had: by this computer's clock that is stale.
fn frozen(s: &mut Second, url: &str) -> Result<()> {
    s.f.browser.go(&format!("{url}/lyon"))?;
    s.f.browser.shows(SOON, "by this page's own code: verified, ")?;
    s.proxy.freeze(&["/attestation", "/head"]);
    // Nobody waits 90 s: the page's clock is set on instead.
    s.f.browser.js("window.__now = Date.now; Date.now = () => window.__now() + 125_000", &[])?;
    s.f.browser.shows(SOON, "stale since ")?;
    s.f.browser.js("Date.now = window.__now", &[])?;
    s.f.browser.shows(SOON, "by this page's own code: verified, ")?;
    s.proxy.honest();
    Ok(())
}

/// S27: this browser saw another head for the same entry.
fn two_heads(s: &mut Second, url: &str) -> Result<()> {
    let lie = "const k = 'qb.seen.' + arguments[0], seen = JSON.parse(localStorage.getItem(k));
        window.__seen = localStorage.getItem(k);
        localStorage.setItem(k, JSON.stringify({ ...seen, chain_head: 'A'.repeat(43) })); return seen.index";
    eventually(SOON, "the page sees two heads", || {
        // The site may go on by an entry just then: its new head contradicts nothing.
        s.f.browser.go(&format!("{url}/lyon"))?;
        s.f.browser.shows(SOON, "by this page's own code: verified, ")?;
        s.f.browser.js(lie, &[json!(s.id.to_string())])?;
        s.f.browser.shows(std::time::Duration::from_secs(12), "SPLIT VIEW: index ")
    })?;
    let text = s.f.browser.text()?;
    ensure!(text.contains("0000 0000"), "both heads are shown: {text}");
    s.f.browser.picture(&pictures().join("split.png"))?;
    s.f.browser.press("gc")?;
    s.f.browser.click(SOON, "button", "Create a cluster")?;
    s.f.browser.shows(SOON, "This door shows another past")?;
    ensure!(!may_sign(&s.f.browser)?, "it can be signed over two heads");
    s.f.browser
        .js("localStorage.setItem('qb.seen.' + arguments[0], window.__seen)", &[json!(s.id.to_string())])?;
    Ok(())
}

/// The relay dies: the page says so and names the site's own doors. All goes on there.
fn gone_and_back(s: &mut Second, url: &str) -> Result<()> {
    s.f.browser.go(&format!("{url}/lyon/clusters/clus101/nodes"))?;
    s.f.browser.shows(SOON, "control plane")?;
    s.relay.kill();
    s.f.browser.shows(SOON, "This page stopped updating")?;
    let link = s.f.browser.find(SOON, ".banner a", "node-1")?;
    let href = s.f.browser.js_of(&link, "return arguments[0].href")?;
    let href = href.as_str().context("a link")?.to_owned();
    ensure!(href == format!("{}/lyon/clusters/clus101/nodes", s.f.door), "{href}");
    s.f.browser.picture(&pictures().join("relay-gone.png"))?;

    // Another origin has another key.
    sign_in(&mut s.f.browser, &s.f.site.qb, &href)?;
    let b = &mut s.f.browser;
    b.shows(SOON, "on site: node-1")?;
    b.shows(SOON, "verified, ")?;
    b.click(SOON, "tr button", "Detach")?;
    b.shows(SOON, "Type the cluster's name, clus101")?;
    let hosts: Vec<String> = s.f.site.cluster("clus101")?.members.iter().map(|m| m.host.clone()).collect();
    let b = &mut s.f.browser;
    let rest = "return [...document.querySelectorAll('dialog input.ck')].filter(c => !c.checked).map(c => c.getAttribute('aria-label'))";
    for label in b.js(rest, &[])?.as_array().into_iter().flatten().filter_map(Value::as_str) {
        b.click(SOON, "input.ck", label)?;
    }
    let field = b.find(SOON, "input:not([type=checkbox])", "")?;
    b.type_into(&field, "clus101")?;
    b.click(SOON, "button", "Sign and detach")?;
    b.shows(SOON, "Accepted by lyon")?;
    eventually(SOON, "they are back in the pool", || {
        for host in &hosts {
            let node = s.f.node(host)?;
            ensure!(node["state"] == "pool", "{host}: {}", node["state"]);
        }
        Ok(())
    })?;

    s.relay.start()?;
    let b = &mut s.f.browser;
    b.go(&format!("{url}/lyon/audit"))?;
    b.shows(SOON, "Mira Okafor")?;
    eventually(SOON, "the relay shows what happened", || {
        b.go(&format!("{url}/lyon/audit"))?;
        b.shows(SOON, "Chain verified in this browser")?;
        b.shows(std::time::Duration::from_secs(2), "detach")
    })?;
    b.go(&format!("{url}/lyon/clusters"))?;
    b.shows(SOON, "clus101")?;
    b.shows(SOON, "empty")?;
    let refused = b.refused()?;
    ensure!(refused.is_empty(), "the policy refused: {refused:?}");
    Ok(())
}
