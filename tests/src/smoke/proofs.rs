//! What can be proved from outside: the audit log, one state behind every door, doors over TLS.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{SOON, Smoke};
use crate::http;
use crate::views::Head;
use crate::wait::eventually;

/// The log verifies, also offline; any change of the export is found.
pub(super) fn audit(smoke: &mut Smoke) -> Result<()> {
    let qb = smoke.site.qb.clone();
    qb.ok(&["audit", "verify"])?;
    let file = smoke.site.dir.join("export.audit");
    let path = |p: &PathBuf| p.to_string_lossy().into_owned();
    qb.ok(&["audit", "export", "-o", &path(&file)])?;
    qb.ok(&["audit", "verify", &path(&file)])?;
    let export: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let records = export["records"].as_array().context("the export has no records")?;
    ensure!(records.len() > 10, "only {} records", records.len());
    let middle = records.len() / 2;
    let mut dropped = export.clone();
    dropped["records"].as_array_mut().context("the export has no records")?.remove(middle);
    let mut swapped = export.clone();
    swapped["records"].as_array_mut().context("the export has no records")?.swap(middle, middle + 1);
    let mut changed = export.clone();
    let record = changed["records"][middle]["record"].as_str().context("a record has no bytes")?;
    changed["records"][middle]["record"] = flipped(record).into();
    for (what, bad) in [("dropped", dropped), ("swapped", swapped), ("changed", changed)] {
        let file = smoke.site.dir.join(format!("{what}.audit"));
        std::fs::write(&file, serde_json::to_vec(&bad)?)?;
        let ran = qb.run(&["audit", "verify", &path(&file)])?;
        ensure!(ran.code == 1, "a {what} record: exit {}: {}", ran.code, ran.stderr.trim());
    }
    Ok(())
}

/// Base64 text with one character in its middle changed.
fn flipped(text: &str) -> String {
    let at = text.len() / 2;
    let other = if text.as_bytes().get(at) == Some(&b'A') { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

/// Every agent's door answers with the same head.
pub(super) fn doors(smoke: &mut Smoke) -> Result<()> {
    let path = smoke.site.path("/head");
    let sockets: Vec<(String, PathBuf)> =
        smoke.site.agents.iter().map(|a| (a.spec.name.clone(), a.socket())).collect();
    eventually(SOON, "the same head at every door", || {
        let mut first: Option<Head> = None;
        for (name, socket) in &sockets {
            let head: Head = http::get(socket, &path)?;
            let first = first.get_or_insert_with(|| head.clone());
            ensure!(
                head == *first,
                "{name} is at {} {}, not {} {}",
                head.index,
                head.hash,
                first.index,
                first.hash
            );
        }
        Ok(())
    })
}

/// Every door over TLS takes a login with the key, and refuses who has none.
pub(super) fn tls(smoke: &mut Smoke) -> Result<()> {
    let urls: Vec<(String, String)> =
        smoke.site.agents.iter().map(|a| (a.spec.name.clone(), a.url())).collect();
    for (name, url) in urls {
        let status = smoke.site.qb.json(&["--door", &url, "site", "status"])?;
        ensure!(status["door"]["host"] == name.as_str(), "{url} is {}", status["door"]);
    }
    let url = smoke.site.agents[1].url();
    smoke.site.qb.ok(&["--door", &url, "node", "label", "node-2", "disk-", "-y"])?;
    smoke.site.qb.ok(&["key", "new", "stranger", "--no-passphrase"])?;
    let refused = smoke.site.qb.run(&["--door", &url, "--key", "stranger", "node", "list"])?;
    ensure!(refused.code == 3, "a stranger's key: exit {}: {}", refused.code, refused.stderr.trim());
    Ok(())
}
