//! A site on hosts of a laboratory: qb from its packages, under systemd, as an administrator has it.
//!
//! ```text
//!   h1            the relay, from its package, behind TLS of a company's own issuer: beyond the WAN
//!   h2 ... hN     nodes, installed by the line that `qb package line` prints
//!   10.77.0.254   this machine: the admin's computer, with `qb` of the tests' build
//! ```
//!
//! Invariants: nothing reaches a host but what an administrator of it would put there; the admin's key is
//! on no host; every wait has a deadline, and a failure shows the journals of qb on all hosts.

mod installs;
mod issuer;
mod kubernetes;
mod looks;
mod packages;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::binaries::Binaries;
use crate::command::{Qb, Ran};
use crate::lab::{Host, KEEP, Kind, Lab, address};
use crate::views::{Cluster, Node};
use crate::wait::eventually;

pub use issuer::Issuer;
pub use kubernetes::{ENTER, stages};
pub use looks::{AGENT, EXEC, Id, RELAY};
pub use packages::{Packages, beside};

/// The host of the relay.
pub const FAR: u8 = 1;
/// Id of the founder.
pub const ADMIN: &str = "mira";
/// How long anything that needs no timer of the site may take.
pub const SOON: Duration = Duration::from_secs(30);
/// How long what waits for a timer may take: a voter that becomes steady, an election after a power cut.
pub const LATE: Duration = Duration::from_secs(90);
/// Lines of each journal that a failure shows.
const TAIL: &str = "40";

/// A site on hosts.
#[derive(Debug)]
pub struct Fleet {
    /// Its hosts.
    pub lab: Lab,
    /// `qb` on the admin's computer.
    pub qb: Qb,
    /// What is installed.
    pub packages: Packages,
    /// Who signs the relay's certificate.
    pub issuer: Issuer,
    /// The site's name.
    pub site: String,
    /// The relay's key, as its operator reads it in the journal.
    pub relay_key: String,
    /// The admin's files.
    pub dir: tempfile::TempDir,
}

impl Fleet {
    /// Boots the host of the relay and installs the relay on it, with a certificate of a company's own issuer.
    ///
    /// # Errors
    /// Packages or programs are missing, or the relay does not come up.
    pub fn create(lab: &str, site: &str) -> Result<Self> {
        let packages = Packages::find()?;
        let mut dir =
            tempfile::Builder::new().prefix("qb-fleet-").tempdir().context("no temporary directory")?;
        if std::env::var_os(KEEP).is_some_and(|keep| !keep.is_empty()) {
            // With the laboratory stay the admin's files, by which `qb` goes on.
            dir.disable_cleanup(true);
            eprintln!("fleet: QB_CONFIG={}", dir.path().join("config.toml").display());
        }
        let issuer = Issuer::new("Fleet Works Root")?;
        let roots = dir.path().join("roots.pem");
        std::fs::write(&roots, issuer.pem())?;
        let qb = Qb {
            program: Binaries::find()?.qb,
            config: dir.path().join("config.toml"),
            roots: Some(roots),
            kubectl: None,
        };
        let lab = Lab::create(lab)?;
        let mut fleet =
            Self { lab, qb, packages, issuer, site: site.to_owned(), relay_key: String::new(), dir };
        let far = fleet.lab.boot([FAR], &Kind::default())?.remove(0);
        fleet.explained(|fleet| fleet.install_relay(&far).map(|key| fleet.relay_key = key))?;
        Ok(fleet)
    }

    /// Does something with the site; an error gets the end of all journals of qb.
    ///
    /// # Errors
    /// Those of what is done.
    pub fn explained<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let done = work(self);
        done.map_err(|e| anyhow::anyhow!("{e:#}\n{}", self.journals()))
    }

    /// The relay's address.
    pub fn url(&self) -> String {
        format!("https://{}", address(FAR))
    }

    /// The site's enrolment file on the admin's computer.
    pub fn enrolment(&self) -> PathBuf {
        self.dir.path().join("site.enroll.json")
    }

    /// Runs `qb` on the hosts' network to its end, whatever that is, at the doors that it knows.
    ///
    /// # Errors
    /// It hangs.
    pub fn run(&self, args: &[&str]) -> Result<Ran> {
        self.lab.in_net(|| self.qb.run(args))
    }

    /// Runs `qb` at the relay's door, whatever comes of it.
    ///
    /// # Errors
    /// It hangs.
    pub fn far(&self, args: &[&str]) -> Result<Ran> {
        let door = format!("--door=relay:{}", self.url());
        self.run(&[&[door.as_str()], args].concat())
    }

    /// Runs `qb` straight at a node's door, whatever comes of it.
    ///
    /// # Errors
    /// It hangs.
    pub fn near(&self, host: u8, args: &[&str]) -> Result<Ran> {
        let door = format!("--door=https://{}:8443", address(host));
        self.run(&[&[door.as_str()], args].concat())
    }

    /// A document as the relay shows it.
    ///
    /// # Errors
    /// It shows none.
    pub fn shown<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        Ok(serde_json::from_value(self.far(&[args, &["-o", "json"]].concat())?.ended(0)?.json()?)?)
    }

    /// A document as a node's own door shows it.
    ///
    /// # Errors
    /// It shows none.
    pub fn seen<T: DeserializeOwned>(&self, host: u8, args: &[&str]) -> Result<T> {
        Ok(serde_json::from_value(self.near(host, &[args, &["-o", "json"]].concat())?.ended(0)?.json()?)?)
    }

    /// A document from a host's own socket, as root of that host reads it.
    ///
    /// # Errors
    /// The agent does not answer, or with a problem.
    pub fn local(&self, host: &Host, leaf: &str) -> Result<Value> {
        let url = format!("http://localhost/v1/sites/{}{leaf}", self.site);
        let ran = host.ok(&["curl", "-sS", "--fail", "--unix-socket", "/run/qb/agent/agent.sock", &url])?;
        ran.json()
    }

    /// Makes the site, with the relay in its charter, and registers it there.
    ///
    /// # Errors
    /// `qb` refuses.
    pub fn create_site(&self) -> Result<()> {
        let (url, enrolment) = (self.url(), self.enrolment().display().to_string());
        let args =
            ["site", "create", &self.site, "--admin", ADMIN, "--no-passphrase", "--enroll", &enrolment];
        self.run(&[&args[..], &["--relay", &url, "--relay-key", &self.relay_key]].concat())?.ended(0)?;
        self.run(&["relay", "register", &url, "--org", "acme", "-y"])?.ended(0).map(drop)
    }

    /// Waits until these hosts wait at the relay's door, and gives them.
    ///
    /// # Errors
    /// They do not come.
    pub fn await_knocks(&self, hosts: &[u8]) -> Result<Vec<Node>> {
        eventually(SOON, "machines wait at the relay's door", || {
            let nodes: Vec<Node> = self.shown(&["node", "list"])?;
            let waiting =
                |name: &String| nodes.iter().find(|n| n.state == "waiting" && n.name == *name).cloned();
            let names: Vec<_> = hosts.iter().map(|i| format!("h{i}")).collect();
            names
                .iter()
                .map(|name| waiting(name).with_context(|| format!("{name} does not wait: {nodes:?}")))
                .collect()
        })
    }

    /// Authorizes machines through the relay by the fingerprints that their consoles show, and waits until they
    /// are in the pool.
    ///
    /// # Errors
    /// They do not get there.
    pub fn authorize(&self, hosts: &[Host]) -> Result<()> {
        let prints = hosts.iter().map(|host| Ok(host.id()?.fingerprint)).collect::<Result<Vec<_>>>()?;
        let prints: Vec<_> = prints.iter().map(String::as_str).collect();
        self.far(&[&["node", "authorize"], &prints[..], &["-y"]].concat())?.ended(0)?;
        hosts.iter().try_for_each(|host| self.await_state(host, "pool"))
    }

    /// Waits until a host says of itself that its node is in this state, and has reported lately.
    ///
    /// # Errors
    /// It does not get there.
    pub fn await_state(&self, host: &Host, state: &str) -> Result<()> {
        host.eventually(LATE, &format!("its node is {state}"), |host| {
            let node = self.node_at(host, &host.name())?;
            ensure!(node.state == state, "it is {}: {:?}", node.state, node.waiting_on);
            ensure!(
                node.report_age_ms.is_some_and(|age| age < 5_000),
                "its last report is {:?} ms old",
                node.report_age_ms
            );
            Ok(())
        })
    }

    /// A node as a host's own door has it.
    ///
    /// # Errors
    /// The host does not answer, or knows none of this name.
    pub fn node_at(&self, host: &Host, name: &str) -> Result<Node> {
        let nodes: Vec<Node> = serde_json::from_value(self.local(host, "/nodes")?)?;
        nodes.into_iter().find(|n| n.name == name).with_context(|| format!("there is no node {name}"))
    }

    /// Waits until a host's own door shows a cluster that serves with these members, all well.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn await_ready(&self, at: &Host, name: &str, members: &[u8]) -> Result<Cluster> {
        self.await_ready_within(LATE, at, name, members)
    }

    /// The same with another deadline.
    ///
    /// # Errors
    /// It does not come to that by then.
    pub fn await_ready_within(
        &self,
        limit: Duration,
        at: &Host,
        name: &str,
        members: &[u8],
    ) -> Result<Cluster> {
        let names: Vec<_> = members.iter().map(|i| format!("h{i}")).collect();
        at.eventually(limit, &format!("{name} is ready with {names:?}"), |at| {
            let cluster: Cluster = serde_json::from_value(self.local(at, &format!("/clusters/{name}"))?)?;
            let why = cluster.waiting_on.as_ref().map(|w| w.text.as_str()).unwrap_or_default();
            ensure!(cluster.state == "ready", "it is {}: {why}", cluster.state);
            let mut hosts: Vec<_> = cluster.members.iter().map(|m| m.host.as_str()).collect();
            hosts.sort_unstable();
            ensure!(hosts == names, "its members are {hosts:?}");
            for member in &cluster.members {
                let through = ["initialize", "join"].contains(&member.done.as_str());
                ensure!(
                    through && member.unwell.is_empty(),
                    "{}: {} {:?}",
                    member.host,
                    member.done,
                    member.unwell
                );
            }
            Ok(cluster)
        })
    }

    /// The end of the journals of qb on all hosts.
    pub fn journals(&self) -> String {
        let one = |host: &Host| {
            let said =
                host.exec(&["journalctl", "--no-pager", "-o", "short-precise", "-n", TAIL, "-u", "qb-*"]);
            let text = said.map_or_else(|e| format!("{e:#}\n"), |ran| ran.stdout);
            format!("--- {}\n{text}", host.name())
        };
        self.lab.hosts().iter().map(one).collect()
    }
}
