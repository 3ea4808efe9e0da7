//! What an agent is told wrongly: it says what, where and what to do, and ends.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use qb_tests::binaries::Binaries;
use qb_tests::site::Site;

use super::{fresh, told};

#[test]
fn a_wrong_start_says_what_is_wrong() {
    let mut fixture = fresh(41).expect("a site starts");
    let result = wrong_starts(&mut fixture.site);
    told(&fixture, result);
}

fn agent(site: &Site, state: &str, enrolment: &str, address: &str) -> Result<Output> {
    let program = Binaries::find()?.agent;
    let state =
        if state.starts_with('/') { state.to_owned() } else { format!("{}/{state}", site.dir.display()) };
    // Bounded: an agent that is content with what it was told would run for ever.
    Command::new("timeout")
        .arg("20")
        .arg(program)
        .args(["run", "--state", &state, "--enroll", enrolment, "--address", address, "--host-name", "odd"])
        .output()
        .context("the agent starts")
}

fn ends_with(output: &Output, words: &[&str]) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "it went on: {text}");
    for word in words {
        ensure!(text.contains(word), "{word:?} is missing in: {text}");
    }
    ensure!(!text.contains("panicked"), "{text}");
    Ok(())
}

fn wrong_starts(site: &mut Site) -> Result<()> {
    let enrolment = site.enrolment.display().to_string();
    let held = site.agent("node-1")?.state.display().to_string();
    ends_with(&agent(site, &held, &enrolment, "127.0.41.99")?, &["another agent uses", "--state"])?;
    ends_with(&agent(site, "odd", &enrolment, "127.0.41.11")?, &["127.0.41.11:7443", "port"])?;
    ends_with(&agent(site, "none", "/nowhere.json", "127.0.41.99")?, &["/nowhere.json", "qb site create"])?;

    let text = std::fs::read_to_string(&site.enrolment)?;
    let broken = site.dir.join("broken.json");
    ensure!(text.starts_with("{\"v\":1,"), "{text}");
    std::fs::write(&broken, text.replacen("\"v\":1", "\"v\":2", 1))?;
    let broken = broken.display().to_string();
    ends_with(&agent(site, "none", &broken, "127.0.41.99")?, &["v is 2", "newer agent"])?;
    // One character of the charter's payload: the signatures no longer hold.
    let at = text.find("\"payload\"").context("a charter has a payload")? + 30;
    let mut bytes = text.clone().into_bytes();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    std::fs::write(&broken, bytes)?;
    ends_with(&agent(site, "none", &broken, "127.0.41.99")?, &["charter"])?;

    let identity = site.dir.join("odd/identity/node.key");
    ensure!(identity.is_file(), "the agent made its key before it listened");
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o644))?;
    ends_with(&agent(site, "odd", &enrolment, "127.0.41.99")?, &["node.key", "mode 644", "chmod 0600"])
}
