//! Networks and endpoints of a cluster, from the command line to every door.

use anyhow::{Result, ensure};
use qb_tests::site::Site;
use serde_json::json;

use super::t27_bundles::folder;
use super::{authorized, told};

#[test]
fn networks_and_endpoints_are_chosen_at_creation_and_shown_at_every_door() {
    let mut fixture = authorized(35).expect("a site starts");
    let result = chosen(&mut fixture.site);
    told(&fixture, result);
}

/// What is chosen here, as it is typed.
const CHOICE: [&str; 6] =
    ["--pods", "10.8.0.0/20", "--services", "172.16.0.0/12", "--endpoint", "k8s.example.com:8443"];
/// The same as sentences say it.
const SAID: &str = "pods 10.8.0.0/20, services 172.16.0.0/12, API at k8s.example.com:8443";

fn create(flag: &'static str) -> Vec<&'static str> {
    [&["cluster", "create", "c1"][..], &CHOICE, &[flag]].concat()
}

fn chosen(site: &mut Site) -> Result<()> {
    let (from, file) = (site.dir.join("files"), site.dir.join("k8s.qbb"));
    folder(&from, 1_000)?;
    let (from, file) = (from.to_string_lossy().into_owned(), file.to_string_lossy().into_owned());
    site.qb.ok(&[
        "bundle",
        "build",
        "--driver",
        "kubeadm",
        "--version",
        "1.36.2",
        "--from",
        &from,
        "-o",
        &file,
    ])?;
    let key = site.qb.ok(&["key", "export-public", "lyon-publisher"])?.stdout;
    site.qb.ok(&["bundle", "trust", "acme", key.trim(), "-y"])?;
    site.qb.ok(&["bundle", "push", &file])?;

    // What cannot be is told before anything is signed.
    let before = site.desired()?;
    for (flags, said) in [
        (
            &["--pods", "10.8.0.0/24"][..],
            "pods 10.8.0.0/24 has a prefix of 24 bits: choose a network of /8 to /20",
        ),
        (&["--pods", "10.8.1.0/16"], "write 10.8.0.0/16"),
        (&["--services", "10.244.0.0/20"], "overlaps the pods' 10.244.0.0/16"),
        (&["--driver", "rehearsal", "--endpoint", "a"], "driver kubeadm, not rehearsal"),
    ] {
        let refused = site.qb.run(&[&["cluster", "create", "c1", "-y"], flags].concat())?;
        ensure!(refused.code != 0 && refused.stderr.contains(said), "{flags:?}: {}", refused.stderr);
    }
    let plan = site.qb.ok(&create("--plan"))?.stdout;
    ensure!(plan.contains(&format!("settings of c1  {SAID}")), "{plan}");
    ensure!(site.desired()? == before, "a plan changed something");

    site.qb.ok(&create("-y"))?;
    let shown = site.qb.ok(&["cluster", "show", "c1"])?.stdout;
    ensure!(shown.contains("pods 10.8.0.0/20, services 172.16.0.0/12"), "{shown}");
    ensure!(shown.contains("API at k8s.example.com:8443"), "{shown}");
    let settings = site.qb.json(&["cluster", "show", "c1"])?["settings"].clone();
    let wanted = json!({
        "pods": "10.8.0.0/20",
        "services": "172.16.0.0/12",
        "endpoints": ["k8s.example.com"],
        "port": 8443,
    });
    ensure!(settings == wanted, "{settings}");
    // One that chooses nothing is as before.
    site.qb.ok(&["cluster", "create", "c2", "--driver", "kubeadm", "-y"])?;
    let settings = site.qb.json(&["cluster", "show", "c2"])?["settings"].clone();
    ensure!(settings["pods"] == "10.244.0.0/16" && settings["endpoints"] == json!([]), "{settings}");
    let without = site.qb.run(&["cluster", "kubeconfig", "c2", "--endpoint"])?;
    ensure!(without.stderr.contains("c2 was created without an endpoint"), "{}", without.stderr);
    let early = site.qb.run(&["cluster", "kubeconfig", "c1", "--endpoint"])?;
    ensure!(early.stderr.contains("c1 does not serve yet"), "{}", early.stderr);
    // The audit says what was signed.
    let said = site.qb.json(&["intent", "list"])?.to_string();
    ensure!(said.contains(SAID), "{said}");
    Ok(())
}
