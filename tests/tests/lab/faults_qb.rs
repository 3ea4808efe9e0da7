//! Bad input and faults on hosts with qb: each gives one clear message with its remedy, and after the cure
//! the node is as it was before.
//!
//! Two nodes: h2 is the site, h3 follows and has the fault. What must not happen to a voter is so tried
//! without harm to the site.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use qb_tests::command::Qb;
use qb_tests::fleet::{AGENT, EXEC, FAR, Fleet, LATE, SOON};
use qb_tests::lab::{Host, Kind};
use qb_tests::views::Alert;
use serde_json::Value;

/// The cluster.
const CLUSTER: &str = "clus100";
/// The enrolment file that an administrator puts there.
const ENROLMENT: &str = "/etc/qb/site.enroll.json";

struct Faults {
    fleet: Fleet,
    /// The node that is well.
    well: Host,
    /// The one with the faults.
    ill: Host,
    /// Another site's files, of which the admins of this one know nothing.
    foreign: Qb,
    /// What the node with the faults is.
    id: String,
}

type Stage = (&'static str, fn(&mut Faults) -> Result<()>);

const STAGES: &[Stage] = &[
    ("dark-boot", dark_boot),
    ("crash-loop", crash_loop),
    ("corrupt-file", corrupt_file),
    ("foreign-file", foreign_file),
    ("foreign-package", foreign_package),
    ("clock-1970", clock),
    ("second-agent", second_agent),
    ("open-identity", open_identity),
    ("hold", hold),
    ("no-dbus", no_dbus),
    ("full-disk", full_disk),
    ("read-only", read_only),
];

#[test]
fn each_fault_says_what_to_do_and_loses_nothing() -> Result<()> {
    let fleet = Fleet::create("t-faults-qb", "lyon")?;
    fleet.create_site()?;
    let nodes = fleet.machines([2, 3], &Kind::default().with(["libfaketime"]))?;
    fleet.install_by_line(&nodes)?;
    fleet.await_knocks(&[2, 3])?;
    fleet.authorize(&nodes[..1])?;
    fleet.authorize(&nodes[1..])?;
    let foreign = Qb { config: fleet.dir.path().join("foreign/config.toml"), ..fleet.qb.clone() };
    let enroll = fleet.dir.path().join("foreign.enroll.json").display().to_string();
    foreign.ok(&["site", "create", "other", "--admin", "eve", "--no-passphrase", "--enroll", &enroll])?;
    let [well, ill] = <[Host; 2]>::try_from(nodes).map_err(|_| anyhow::anyhow!("two were booted"))?;
    let id = ill.id()?.fingerprint;
    let mut faults = Faults { fleet, well, ill, foreign, id };
    for (name, stage) in STAGES {
        let began = Instant::now();
        let done = stage(&mut faults).and_then(|()| faults.as_before());
        eprintln!("{name:>16} {:6.1} s", began.elapsed().as_secs_f32());
        if let Err(e) = done {
            bail!("{name}: {e:#}\n{}", faults.fleet.journals());
        }
    }
    Ok(())
}

impl Faults {
    /// The node is what it was: same keys, a member that reports, nothing it complains of.
    fn as_before(&self) -> Result<()> {
        let ill = &self.ill;
        ill.is_active(AGENT)?;
        ill.is_active(EXEC)?;
        ensure!(ill.id()?.fingerprint == self.id, "it has other keys");
        ill.eventually(LATE, "it is well again", |host| {
            let said = host.property(AGENT, "StatusText")?;
            ensure!(said.starts_with("member of site lyon, follows, "), "the agent says {said}");
            let said = host.property(EXEC, "StatusText")?;
            ensure!(said.starts_with("site ") && !said.contains("held"), "the executor says {said}");
            let node = self.fleet.node_at(&self.well, "h3")?;
            ensure!(node.report_age_ms.is_some_and(|age| age < 5_000), "no report: {node:?}");
            Ok(())
        })
    }

    /// Waits until a unit says all of this, in its status or its journal, since a moment.
    fn says(&self, unit: &str, since: &str, words: &[&str]) -> Result<()> {
        self.ill.eventually(LATE, &format!("{unit} says {words:?}"), |host| {
            let status = host.property(unit, "StatusText")?;
            let journal = ["journalctl", "--no-pager", "-o", "cat", "-u", unit, "--after-cursor", since];
            let journal = host.ok(&journal)?.stdout;
            let mut lines = journal.lines().chain([status.as_str()]);
            let found = lines.any(|line| words.iter().all(|word| line.contains(word)));
            ensure!(found, "it says: {status}\n{journal}");
            Ok(())
        })
    }

    /// Now, as the journal counts.
    fn now(&self) -> Result<String> {
        let said = self.ill.ok(&["journalctl", "-n", "0", "--show-cursor"])?.stdout;
        let cursor = said.lines().find_map(|line| line.strip_prefix("-- cursor: "));
        Ok(cursor.with_context(|| format!("no cursor: {said}"))?.to_owned())
    }

    fn restart(&self) -> Result<()> {
        self.ill.ok(&["systemctl", "restart", "--no-block", EXEC, AGENT]).map(drop)
    }
}

/// The relay swallows everything while the machine boots: neither the boot nor the agent waits for it.
fn dark_boot(faults: &mut Faults) -> Result<()> {
    let (fleet, host) = (&faults.fleet, &faults.ill);
    fleet.lab.wan_off(FAR)?;
    host.kill()?;
    fleet.lab.boot_again([3])?;
    host.is_active(AGENT)?;
    let at = |name: &str| -> Result<u64> { Ok(host.property(AGENT, name)?.parse()?) };
    let took = at("ActiveEnterTimestampMonotonic")? - at("InactiveExitTimestampMonotonic")?;
    // A refused connection is told at once; one that is swallowed would take ten seconds and more.
    ensure!(took < 5_000_000, "ready only {} ms after its start", took / 1_000);
    fleet.await_state(host, "pool")?;
    fleet.lab.wan_on(FAR)
}

fn corrupt_file(faults: &mut Faults) -> Result<()> {
    let since = faults.now()?;
    faults.ill.write_file(ENROLMENT, b"{\"v\":1,\"charter\":", 0o644)?;
    faults.restart()?;
    faults.says(
        AGENT,
        &since,
        &[ENROLMENT, "is not valid", "get it again from your site's administrator", "goes on with its copy"],
    )?;
    faults.says(EXEC, &since, &[ENROLMENT, "is not valid", "stays bound to its site"])?;
    faults.ill.ok(&["rm", ENROLMENT])?;
    faults.restart()
}

fn foreign_file(faults: &mut Faults) -> Result<()> {
    let since = faults.now()?;
    faults.ill.push(&faults.fleet.dir.path().join("foreign.enroll.json"), ENROLMENT)?;
    faults.restart()?;
    faults.says(
        AGENT,
        &since,
        &["names site other", "this node belongs to lyon", "nothing changed", "qb-agent reset"],
    )?;
    faults.says(EXEC, &since, &["this machine is bound to site", "put the file of the first one back"])?;
    faults.ill.ok(&["rm", ENROLMENT])?;
    faults.restart()
}

/// Another site's package over the one that is there.
fn foreign_package(faults: &mut Faults) -> Result<()> {
    let since = faults.now()?;
    let packages = &faults.fleet.packages;
    let (vendor, out) = (packages.deb("qb-agent")?, faults.fleet.dir.path().join("other.deb"));
    let (vendor, path) = (vendor.display().to_string(), out.display().to_string());
    faults.foreign.ok(&["package", "build", "--vendor", &vendor, "-o", &path])?;
    faults.ill.push(&out, "/root/other.deb")?;
    faults.ill.ok(&["dpkg", "-i", "/root/other.deb"])?;
    faults.says(
        AGENT,
        &since,
        &["names site other", "this node belongs to lyon", "nothing changed", "qb-agent reset"],
    )?;
    let line = faults.fleet.install_line()?;
    // The line installs what the site's package is, whatever is there.
    faults.ill.exec_within(LATE, &["sh", "-c", &line])?.ended(0)?;
    // Its seeds are the members of now; the site is what counts.
    let charter = |bytes: &[u8]| -> Result<Value> {
        serde_json::from_slice::<Value>(bytes)?.get("charter").cloned().context("a charter")
    };
    let kept = charter(&faults.ill.read_file("/usr/share/qb/site.enroll.json")?)?;
    ensure!(
        kept == charter(&std::fs::read(faults.fleet.enrolment())?)?,
        "the line left the other site's file"
    );
    Ok(())
}

fn clock(faults: &mut Faults) -> Result<()> {
    let since = faults.now()?;
    faults.ill.fake_clock(AGENT, Some("1970-01-01 00:00:10"))?;
    faults.restart()?;
    faults.says(
        AGENT,
        &since,
        &["the clock is at 1970-01-01", "timedatectl set-ntp true", "member of site lyon"],
    )?;
    faults.ill.fake_clock(AGENT, None)?;
    faults.restart()
}

fn second_agent(faults: &mut Faults) -> Result<()> {
    let pid = faults.ill.property(AGENT, "MainPID")?;
    let as_qb = ["setpriv", "--reuid=qb", "--regid=qb", "--init-groups", "qb-agent", "run"];
    let ran = faults.ill.exec_within(SOON, &as_qb)?;
    let told = [format!("process {pid}"), "stop it first (systemctl stop qb-agent)".to_owned()];
    ensure!(ran.code != 0 && told.iter().all(|word| ran.stderr.contains(word)), "{ran:?}");
    let ran = faults.ill.exec_within(SOON, &["qb-agent", "run"])?;
    ensure!(
        ran.code != 0 && ran.stderr.contains("start it as that user (systemctl start qb-agent)"),
        "{ran:?}"
    );
    let ran = faults.ill.exec_within(SOON, &["/usr/lib/qb/qb-exec", "serve"])?;
    ensure!(ran.code != 0 && ran.stderr.contains("another qb-exec uses /var/lib/qb/exec"), "{ran:?}");
    ensure!(faults.ill.property(AGENT, "MainPID")? == pid, "the first one ended");
    Ok(())
}

fn open_identity(faults: &mut Faults) -> Result<()> {
    let since = faults.now()?;
    let file =
        faults.ill.ok(&["sh", "-c", "find /var/lib/qb/agent/identity -type f -perm 0600 | head -1"])?.stdout;
    let file = file.trim();
    faults.ill.ok(&["chmod", "0644", file])?;
    faults.restart()?;
    faults.says(AGENT, &since, &[file, "has mode 644", "chmod 0600"])?;
    faults.ill.ok(&["chmod", "0600", file])?;
    faults.restart()
}

/// While the file is there no step runs, and everybody sees why.
fn hold(faults: &mut Faults) -> Result<()> {
    let fleet = &faults.fleet;
    faults.ill.ok(&["touch", "/etc/qb/hold"])?;
    faults.ill.eventually(SOON, "the executor says so", |host| {
        let said = host.property(EXEC, "StatusText")?;
        ensure!(said.contains("held on this machine"), "it says {said}");
        Ok(())
    })?;
    fleet.near(2, &["cluster", "create", CLUSTER, "-y"])?.ended(0)?;
    // It does not end well in this time: that is what is looked at.
    let ran = fleet.near(2, &["cluster", "attach", CLUSTER, "h3", "-y", "--wait=5s"])?;
    ensure!(ran.code != 0, "it was attached: {}", ran.stdout);
    faults.ill.eventually(SOON, "the site sees why nothing happens", |_| {
        let node = fleet.node_at(&faults.well, "h3")?;
        let shown = format!("{} {:?}", ran.stderr, node.waiting_on);
        ensure!(shown.contains("/etc/qb/hold"), "it shows {shown}");
        Ok(())
    })?;
    ensure!(faults.ill.workloads()?.is_empty(), "a step ran");
    faults.ill.ok(&["rm", "/etc/qb/hold"])?;
    fleet.await_ready(&faults.well, CLUSTER, &[3]).map(drop)
}

/// Without D-Bus no unit is started or stopped, and the order waits for it.
fn no_dbus(faults: &mut Faults) -> Result<()> {
    let fleet = &faults.fleet;
    let stop = ["systemctl", "stop", "dbus.socket", "dbus.service"];
    faults.ill.ok(&stop)?;
    let ran = fleet.near(2, &["cluster", "detach", CLUSTER, "h3", "-y", "--wait=5s"])?;
    ensure!(ran.code != 0, "it was detached: {}", ran.stdout);
    faults.ill.eventually(SOON, "the site sees why nothing happens", |_| {
        let node = fleet.node_at(&faults.well, "h3")?;
        let shown = format!("{} {:?}", ran.stderr, node.waiting_on);
        ensure!(shown.contains("D-Bus"), "it shows {shown}");
        Ok(())
    })?;
    faults.ill.ok(&["systemctl", "start", "dbus.socket"])?;
    fleet.await_state(&faults.ill, "pool")?;
    ensure!(faults.ill.workloads()?.is_empty(), "units are left");
    Ok(())
}

fn full_disk(faults: &mut Faults) -> Result<()> {
    let host = &faults.ill;
    host.ok(&["systemctl", "stop", AGENT, EXEC])?;
    host.small_disk("/var/lib/qb", 256 * 1024)?;
    host.ok(&["systemctl", "start", EXEC, AGENT])?;
    let since = faults.now()?;
    host.fill_disk("/var/lib/qb")?;
    faults.restart()?;
    faults.says(AGENT, &since, &["/var/lib/qb/agent", "No space left on device"])?;
    host.free_disk("/var/lib/qb")?;
    faults.restart()
}

fn read_only(faults: &mut Faults) -> Result<()> {
    let since = faults.now()?;
    // A kernel does it under open files; asked from outside, it wants them closed.
    faults.ill.ok(&["systemctl", "stop", AGENT, EXEC])?;
    faults.ill.read_only("/var/lib/qb")?;
    faults.restart()?;
    faults.says(AGENT, &since, &["/var/lib/qb/agent", "Read-only file system"])?;
    faults.ill.writable("/var/lib/qb")?;
    faults.restart()
}

/// An agent that dies again and again is started again, ever slower, and the site is told.
fn crash_loop(faults: &mut Faults) -> Result<()> {
    let fleet = &faults.fleet;
    let alerts =
        || -> Result<Vec<Alert>> { Ok(serde_json::from_value(fleet.local(&faults.well, "/alerts")?)?) };
    let begun = Instant::now();
    let raised = |alerts: &[Alert]| {
        alerts
            .iter()
            .any(|a| a.rule == "agent-restarting" && a.subject.contains("h3") && a.resolved.is_none())
    };
    ensure!(!raised(&alerts()?), "it is raised before anything fell");
    while !raised(&alerts()?) {
        ensure!(begun.elapsed() < LATE, "no alert: {:?}", alerts()?);
        let pid = faults.ill.property(AGENT, "MainPID")?;
        if pid != "0" {
            faults.ill.exec(&["kill", "-9", &pid])?;
        }
        faults.ill.eventually(Duration::from_secs(60), "it is started again", |host| {
            let now = host.property(AGENT, "MainPID")?;
            ensure!(now != "0" && now != pid, "it is not: {now}");
            let said = host.property(AGENT, "StatusText")?;
            ensure!(said.contains("member of site"), "it says {said}");
            Ok(())
        })?;
    }
    ensure!(faults.ill.property(AGENT, "NRestarts")? != "0", "systemd counts no restart");
    Ok(())
}
