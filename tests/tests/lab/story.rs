//! A site from its packages, from the relay's installation to the purge of a node.
//!
//! One laboratory, stages in order; each may rely on those before it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use qb_tests::fleet::{AGENT, EXEC, FAR, Fleet, LATE, RELAY, SOON};
use qb_tests::lab::{Host, Kind, Release};
use qb_tests::views::{Cluster, Node};
use qb_tests::wait::eventually;

use super::upgrade;

/// The release of the last node.
const OLD: Release = Release::Bullseye;
/// The cluster.
const CLUSTER: &str = "clus100";

struct Story {
    fleet: Fleet,
    /// The nodes: hosts 2 to 5, the last of them Debian 11.
    nodes: Vec<Host>,
}

type Stage = (&'static str, fn(&mut Story) -> Result<()>);

const STAGES: &[Stage] = &[
    ("site", site),
    ("packages", packages),
    ("install", install),
    ("knock", knock),
    ("authorize", authorize),
    ("hardened", hardened),
    ("cluster", cluster),
    ("workloads", workloads),
    ("restarts", restarts),
    ("wan-off", wan_off),
    ("wan-on", wan_on),
    ("power-cut", power_cut),
    ("package-upgrade", package_upgrade),
    ("agent-upgrade", agent_upgrade),
    ("agent-broken", agent_broken),
    ("revoke", revoke),
    ("purge-refused", purge_refused),
    ("purge", purge),
];

#[test]
fn a_site_lives_on_real_hosts() -> Result<()> {
    let begun = Instant::now();
    let fleet = Fleet::create("t-story", "lyon")?;
    eprintln!("{:>16} {:6.1} s", "relay", begun.elapsed().as_secs_f32());
    let mut story = Story { fleet, nodes: Vec::new() };
    for (name, stage) in STAGES {
        let began = Instant::now();
        let done = stage(&mut story);
        eprintln!("{name:>16} {:6.1} s", began.elapsed().as_secs_f32());
        if let Err(e) = done {
            bail!("{name}: {e:#}\n{}", story.fleet.journals());
        }
    }
    Ok(())
}

impl Story {
    fn node(&self, index: u8) -> &Host {
        self.nodes.iter().find(|host| host.index() == index).unwrap_or_else(|| unreachable!("a node"))
    }
}

/// The admin makes the site on their own computer; its charter trusts the relay.
fn site(story: &mut Story) -> Result<()> {
    story.fleet.create_site()
}

/// What the relay hands out is the vendor's package and the site's file, byte for byte.
fn packages(story: &mut Story) -> Result<()> {
    let fleet = &story.fleet;
    let path = |name: &str| fleet.dir.path().join(name).display().to_string();
    for (vendor, name, kind) in [
        (fleet.packages.deb("qb-agent")?, "site.deb", &[][..]),
        (fleet.packages.rpm("qb-agent")?, "site.rpm", &["--rpm"][..]),
    ] {
        let (vendor, fetched, built) =
            (vendor.display().to_string(), path(name), path(&format!("own-{name}")));
        let fetch = ["package", "fetch", "--vendor", &vendor, "-o", &fetched];
        fleet.run(&[&fetch[..], kind].concat())?.ended(0)?;
        fleet.run(&["package", "build", "--vendor", &vendor, "-o", &built])?.ended(0)?;
        ensure!(
            std::fs::read(&fetched)? == std::fs::read(&built)?,
            "the relay's {name} is not the one built here"
        );
        fleet.run(&["package", "verify", &fetched, "--vendor", &vendor])?.ended(0)?;
    }
    // rpm itself, in a root of its own: scripts are not run, they have a shell in a real one only.
    let root = path("scratch");
    std::fs::create_dir_all(format!("{root}/var/lib/rpm"))?;
    let rpm = |args: &[&str]| -> Result<String> {
        let ran = std::process::Command::new("rpm").arg("--root").arg(&root).args(args).output();
        let ran = ran.context("cannot run rpm")?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        ensure!(ran.status.success(), "rpm {args:?}: {said}");
        Ok(said)
    };
    rpm(&["-i", "--nodeps", "--noscripts", &path("site.rpm")])?;
    let changed = rpm(&["-V", "--nodeps", "qb-agent"])?;
    ensure!(changed.trim().is_empty(), "rpm -V: {changed}");
    let site = std::fs::read(format!("{root}/usr/share/qb/site.enroll.json"))?;
    ensure!(site == std::fs::read(fleet.enrolment())?, "another enrolment file lies in the rpm");
    Ok(())
}

/// The machines, all from one line; what the package starts is up.
fn install(story: &mut Story) -> Result<()> {
    let mut nodes = story.fleet.machines(2..=4, &Kind::default())?;
    nodes.extend(story.fleet.machines([5], &Kind::of(OLD))?);
    story.fleet.install_by_line(&nodes)?;
    for host in &nodes {
        host.is_active(AGENT)?;
        host.is_active(EXEC)?;
        host.wait_running()?;
    }
    story.nodes = nodes;
    Ok(())
}

/// All wait at the relay's door, with the words of their consoles.
fn knock(story: &mut Story) -> Result<()> {
    story.fleet.await_knocks(&[2, 3, 4, 5])?;
    story.nodes.iter().try_for_each(|host| story.fleet.same_words(host))
}

/// Let in through the relay, by what their consoles show; three vote in the end.
fn authorize(story: &mut Story) -> Result<()> {
    story.fleet.authorize(&story.nodes)?;
    let voters = |host: &Host| -> Result<()> {
        let view = story.fleet.local(host, "")?;
        let count = view["voters"].as_array().map_or(0, Vec::len);
        ensure!(count == 3, "{count} voters");
        Ok(())
    };
    story.node(2).eventually(LATE, "the site has three voters", voters)
}

/// Who may do what on a host.
fn hardened(story: &mut Story) -> Result<()> {
    let hosts = story.nodes.iter().map(|host| (host, &[AGENT, EXEC][..]));
    let far = story.fleet.lab.host(FAR);
    for (host, units) in hosts.chain([(&far, &[RELAY][..])]) {
        for unit in units {
            let ran = host.exec(&["systemd-analyze", "security", "--no-pager", unit])?;
            let overall =
                ran.stdout.lines().find(|line| line.contains("Overall exposure")).unwrap_or_default();
            eprintln!("{:>16} {}", host.name(), overall.trim_start_matches('→').trim());
        }
    }
    for host in &story.nodes {
        let pid = host.property(AGENT, "MainPID")?;
        let status = String::from_utf8(host.read_file(&format!("/proc/{pid}/status"))?)?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            ensure!(field(set) == "0000000000000000", "{}: the agent has {set} {}", host.name(), field(set));
        }
        ensure!(
            !field("Uid:").starts_with('0') && field("NoNewPrivs:") == "1",
            "the agent is {}",
            field("Uid:")
        );
        let exec = host.property(EXEC, "MainPID")?;
        let sockets = host.ok(&["ss", "-Hlntup"])?.stdout;
        ensure!(!sockets.contains(&format!("pid={exec},")), "the executor listens: {sockets}");
        ensure!(sockets.contains(&format!("pid={pid},")), "ss sees nobody's pid: {sockets}");
        for file in ["/var/lib/qb/exec/floor.json", "/var/lib/qb/exec/seal.key", "/var/lib/qb/exec/site.json"]
        {
            host.ok(&["test", "-f", file])?;
        }
        let private = ["floor.json", "seal.key"].map(|name| format!("/var/lib/qb/exec/{name}"));
        for file in &private {
            let ran = host.exec(&["setpriv", "--reuid=qb", "--regid=qb", "--init-groups", "cat", file])?;
            ensure!(ran.code != 0, "{}: the agent's user reads {file}", host.name());
        }
        let write = ["setpriv", "--reuid=qb", "--regid=qb", "--init-groups", "touch", "/var/lib/qb/exec/x"];
        ensure!(host.exec(&write)?.code != 0, "the agent's user writes to the executor's state");
    }
    Ok(())
}

/// Three nodes serve a rehearsal cluster, ordered through the relay.
fn cluster(story: &mut Story) -> Result<()> {
    let fleet = &story.fleet;
    fleet.far(&["cluster", "create", CLUSTER, "-y"])?.ended(0)?;
    fleet.far(&["cluster", "attach", CLUSTER, "h2", "h3", "h5", "-y"])?.ended(0)?;
    fleet.await_ready(story.node(2), CLUSTER, &[2, 3, 5]).map(drop)
}

/// What runs of a cluster is units of the host, in a slice of their own.
fn workloads(story: &mut Story) -> Result<()> {
    for host in &story.nodes {
        let units = host.workloads()?;
        let wanted = usize::from(host.index() != 4) * 2;
        ensure!(units.len() == wanted, "{} runs {units:?}", host.name());
    }
    Ok(())
}

/// The processes of a cluster are nobody's children: agent and executor may go.
fn restarts(story: &mut Story) -> Result<()> {
    let host = story.node(3);
    let before = host.workloads()?;
    let pids = [host.property(AGENT, "MainPID")?, host.property(EXEC, "MainPID")?];
    host.ok(&["systemctl", "restart", EXEC, AGENT])?;
    let after = [host.property(AGENT, "MainPID")?, host.property(EXEC, "MainPID")?];
    ensure!(pids.iter().all(|pid| !after.contains(pid)), "they did not restart");
    story.fleet.await_state(host, "attached")?;
    story.fleet.await_ready(host, CLUSTER, &[2, 3, 5])?;
    let now = host.workloads()?;
    ensure!(now == before, "units were {before:?}, now {now:?}");
    Ok(())
}

/// Without the relay: the fourth comes in, another goes, all at a node's door.
fn wan_off(story: &mut Story) -> Result<()> {
    let fleet = &story.fleet;
    fleet.lab.wan_off(FAR)?;
    fleet.near(2, &["cluster", "attach", CLUSTER, "h4", "-y"])?.ended(0)?;
    fleet.await_ready(story.node(2), CLUSTER, &[2, 3, 4, 5])?;
    ensure!(
        story.node(4).workloads()?.len() == 2 || !story.node(4).workloads()?.is_empty(),
        "h4 runs nothing"
    );
    fleet.near(3, &["cluster", "detach", CLUSTER, "h5", "-y"])?.ended(0)?;
    fleet.await_ready(story.node(3), CLUSTER, &[2, 3, 4])?;
    let gone = story.node(5);
    fleet.await_state(gone, "pool")?;
    ensure!(gone.workloads()?.is_empty(), "it still runs {:?}", gone.workloads()?);
    let left = gone.exec(&["ls", "-A", "/var/lib/qb/exec/clusters"])?.stdout;
    ensure!(left.trim().is_empty(), "of the cluster there is left: {left}");
    Ok(())
}

/// The relay shows what happened while it was away.
fn wan_on(story: &mut Story) -> Result<()> {
    story.fleet.lab.wan_on(FAR)?;
    eventually(LATE, "the relay shows it", || {
        let shown: Cluster = story.fleet.shown(&["cluster", "show", CLUSTER])?;
        let mut members: Vec<_> = shown.members.iter().map(|m| m.host.as_str()).collect();
        members.sort_unstable();
        ensure!(members == ["h2", "h3", "h4"], "it shows {members:?}");
        Ok(())
    })
}

/// A machine without power for a moment: back by itself, with its units.
fn power_cut(story: &mut Story) -> Result<()> {
    let host = story.node(3);
    host.kill()?;
    story.fleet.lab.boot_again([3])?;
    host.is_active(AGENT)?;
    story.fleet.await_state(host, "attached")?;
    story.fleet.await_ready(host, CLUSTER, &[2, 3, 4])?;
    let units = host.eventually(SOON, "its units run again", |host| {
        let units = host.workloads()?;
        ensure!(units.len() == 2 && units.values().all(|pid| *pid != 0), "{units:?}");
        Ok(units)
    })?;
    ensure!(units.keys().all(|unit| unit.contains(CLUSTER)), "{units:?}");
    Ok(())
}

/// A newer package, the generic one even: the services are new, what the machine carries runs on.
fn package_upgrade(story: &mut Story) -> Result<()> {
    let fleet = &story.fleet;
    let newer = fleet.packages.newer(&fleet.packages.deb("qb-agent")?, "0.1.0-2", fleet.dir.path(), ":")?;
    let host = story.node(2);
    let before: BTreeMap<_, _> = host.workloads()?;
    let pid = host.property(AGENT, "MainPID")?;
    fleet.install(host, &newer)?;
    let version = host.ok(&["dpkg-query", "-W", "-f", "${Version}", "qb-agent"])?.stdout;
    ensure!(version == "0.1.0-2", "installed is {version}");
    host.is_active(AGENT)?;
    host.is_active(EXEC)?;
    ensure!(host.property(AGENT, "MainPID")? != pid, "the agent was not restarted");
    fleet.await_state(host, "attached")?;
    fleet.await_ready(host, CLUSTER, &[2, 3, 4])?;
    ensure!(host.workloads()? == before, "units were {before:?}, now {:?}", host.workloads()?);
    Ok(())
}

/// Another version over the mesh; see [`upgrade`].
fn agent_upgrade(story: &mut Story) -> Result<()> {
    upgrade::rolls(&story.fleet, &story.nodes, "h3")
}

/// One that does not start.
fn agent_broken(story: &mut Story) -> Result<()> {
    upgrade::halts(&story.fleet, &story.nodes, "h3")?;
    story.fleet.await_ready(story.node(2), CLUSTER, &[2, 3, 4]).map(drop)
}

/// A revoked node is out at once, on every other node's word.
fn revoke(story: &mut Story) -> Result<()> {
    let fleet = &story.fleet;
    fleet.far(&["node", "revoke", "h5", "--confirm", "h5"])?.ended(0)?;
    let host = story.node(5);
    host.eventually(SOON, "it knows", |host| {
        let said = host.property(AGENT, "StatusText")?;
        ensure!(said.contains("revoked"), "it says {said}");
        Ok(())
    })?;
    let other = story.node(2);
    let node: Node = fleet.node_at(other, "h5")?;
    ensure!(node.state == "revoked", "it is {}", node.state);
    let mesh = format!("{}:7443", host.address());
    let joined = other.ok(&["ss", "-Htn", "state", "established"])?.stdout;
    ensure!(!joined.contains(&mesh), "a member is still connected to it: {joined}");
    Ok(())
}

/// A machine that carries a cluster keeps its package, and says how to go on.
fn purge_refused(story: &mut Story) -> Result<()> {
    let host = story.node(4);
    for verb in ["remove", "purge"] {
        let ran = host.apt(&[verb, "qb-agent"])?;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        ensure!(ran.code != 0, "apt-get {verb} went through: {said}");
        for word in ["this machine carries clus100", "qb cluster detach clus100 h4", "qb-exec allow-removal"]
        {
            ensure!(said.contains(word), "apt-get {verb} does not say {word:?}: {said}");
        }
    }
    host.is_active(AGENT)?;
    ensure!(!host.workloads()?.is_empty(), "its units are gone");
    story.fleet.await_ready(host, CLUSTER, &[2, 3, 4]).map(drop)
}

/// Detached it can go, and leaves nothing.
fn purge(story: &mut Story) -> Result<()> {
    let fleet = &story.fleet;
    let host = story.node(4);
    fleet.far(&["cluster", "detach", CLUSTER, "h4", "-y"])?.ended(0)?;
    fleet.await_state(host, "pool")?;
    host.apt(&["purge", "qb-agent"])?.ended(0)?;
    host.ok(&["sh", "-c", "rm -f /root/*.deb"])?;
    let left = host.leftovers()?;
    ensure!(left.is_empty(), "left: {left:?}");
    host.wait_running()?;
    let state = || -> Result<()> {
        let node = fleet.node_at(story.node(2), "h4").context("the site forgot it")?;
        ensure!(node.report_age_ms.is_none_or(|age| age > 3_000), "it still reports");
        Ok(())
    };
    eventually(Duration::from_secs(20), "it is silent", state)
}
