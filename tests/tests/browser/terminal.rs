//! `qb portal`: the pages on 127.0.0.1, read with its token; the terminal's key signs, the page has none.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use qb_tests::wait::eventually;
use serde_json::{Value, json};

use super::{Fixture, SOON, founded};

/// What an origin keeps: the keys in its database, and everything in both storages.
const KEPT: &str = "return new Promise((ok, no) => {
    const asked = indexedDB.open('qb', 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore('keys', { keyPath: 'id' });
    asked.onerror = no;
    asked.onsuccess = () => {
        const all = asked.result.transaction('keys').objectStore('keys').count();
        all.onsuccess = () => ok({ keys: all.result,
            local: Object.entries(localStorage).map(e => e.join('=')), session: Object.keys(sessionStorage) });
    };
})";

#[test]
fn the_pages_of_a_terminal() {
    let mut fixture = founded(53, |_| {}).expect("a site starts");
    let result = signed_at_the_terminal(&mut fixture);
    fixture.told(result);
}

fn signed_at_the_terminal(f: &mut Fixture) -> Result<()> {
    // A terminal brings the bundle; the page makes the cluster of it.
    f.site.qb.ok(&["cluster", "create", "clus100", "-y"])?;
    let log = f.site.dir.join("portal.log");
    let _portal = f.site.qb.start(&["-y", "-o", "json", "portal", "--no-browser"], &log)?;
    let url = eventually(SOON, "the portal says where it is", || {
        let said = std::fs::read_to_string(&log)?;
        let line = said.lines().find(|l| l.starts_with('{')).context("it has not said it")?;
        let url: Value = serde_json::from_str(line)?;
        url["url"].as_str().map(str::to_owned).context("no url")
    })?;
    let (origin, token) = url.split_once("/#token=").context("the address has its token")?;
    let address: SocketAddr = origin.strip_prefix("http://").context("it is plain")?.parse()?;
    ensure!(address.ip().is_loopback(), "{address}");
    for path in ["/v1/portal", "/v1/sites", "/v1/sites/lyon/nodes"] {
        ensure!(status(address, path, None)? == 401, "{path} without the token");
        ensure!(status(address, path, Some(&"A".repeat(token.len())))? == 401, "{path} with another");
        ensure!(status(address, path, Some(token))? == 200, "{path} with it");
    }

    f.browser.go(&url)?;
    f.browser.shows(SOON, "qb portal")?;
    f.browser.shows(SOON, "Needs you")?;
    f.browser.shows(SOON, "verified, ")?;
    let address = f.browser.js("return location.href", &[])?;
    ensure!(!address.as_str().unwrap_or_default().contains("token"), "the token stays in the address");
    f.browser.go(&format!("{origin}/lyon/nodes"))?;
    f.browser.shows(SOON, "node-5")?;
    f.browser.go(&format!("{origin}/lyon/clusters"))?;
    f.browser.click(SOON, "button", "Create a cluster")?;
    f.browser.shows(SOON, "with the key of the terminal")?;
    f.browser.click(SOON, "button", "Sign and create")?;
    f.browser.shows(SOON, "Accepted by lyon")?;
    ensure!(f.site.cluster("clus101")?.state == "empty", "it is not there");
    let said = std::fs::read_to_string(&log)?;
    ensure!(said.contains("clus101"), "the terminal did not say what it signed: {said}");

    // No key is kept where somebody else may listen tomorrow.
    let kept = f.browser.js(KEPT, &[])?;
    ensure!(kept["keys"] == 0, "{kept}");
    ensure!(kept["session"] == json!(["qb.token"]), "{kept}");
    let local = kept["local"].to_string();
    ensure!(!local.contains(token) && !local.contains("key"), "{kept}");
    let refused = f.browser.refused()?;
    ensure!(refused.is_empty(), "the policy refused: {refused:?}");
    Ok(())
}

/// The status of an answer to a request with or without a token.
fn status(address: SocketAddr, path: &str, token: Option<&str>) -> Result<u16> {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let login = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{login}Connection: close\r\n\r\n")?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    Ok(qb_tests::http::parse(&raw)?.status)
}
