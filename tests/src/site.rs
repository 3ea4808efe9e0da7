//! A whole site: a directory, a configuration of `qb`, and agents on loopback addresses.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use qb_model::PublicKey;
use qb_model::charter::{Charter, CharterRelay};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::agent::{Agent, Spec};
use crate::binaries::Binaries;
use crate::command::Qb;
use crate::http::{self, Answer};
use crate::process;
use crate::relay::Relay;
use crate::signing::Signatory;
use crate::views::{Cluster, Head, Node, Site as SiteView};
use crate::wait::eventually;

/// Agents of a site.
const AGENTS: u8 = 5;
/// Last byte of the first agent's address.
const FIRST: u8 = 11;
/// Racks that the agents stand in.
const ZONES: u8 = 3;
/// Longest path of a socket that the system takes.
const SOCKET_BYTES: usize = 107;
/// How long an agent may take from its start until its door answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The founder's id.
pub const ADMIN: &str = "mira";

/// What a site is made of.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Its directory.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// The first three bytes of its addresses.
    pub net: [u8; 3],
}

/// A site.
#[derive(Debug)]
pub struct Site {
    /// Its directory.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// `qb` with its configuration.
    pub qb: Qb,
    /// Its agents.
    pub agents: Vec<Agent>,
    /// The enrolment file.
    pub enrolment: PathBuf,
}

impl Site {
    /// A site in a directory, which is made if it is missing. Nothing is started.
    ///
    /// # Errors
    /// The directory cannot be made, or its path is too long for sockets.
    pub fn open(layout: &Layout, binaries: &Binaries) -> Result<Self> {
        std::fs::create_dir_all(&layout.dir)
            .with_context(|| format!("cannot make {}", layout.dir.display()))?;
        let dir = layout.dir.canonicalize()?;
        let enrolment = dir.join("site.enroll.json");
        let [a, b, c] = layout.net;
        let agents: Vec<Agent> = (0..AGENTS)
            .map(|i| {
                let spec = Spec {
                    name: format!("node-{}", i + 1),
                    address: Ipv4Addr::new(a, b, c, FIRST + i),
                    zone: format!("rack-{}", i % ZONES + 1),
                };
                Agent::new(spec, &dir, &enrolment, binaries)
            })
            .collect();
        let longest = agents.iter().map(|a| a.socket().as_os_str().len()).max().unwrap_or_default();
        ensure!(
            longest <= SOCKET_BYTES,
            "{} is too deep: a socket's path has at most {SOCKET_BYTES} bytes; use a directory with a shorter path",
            dir.display()
        );
        let qb =
            Qb { program: binaries.qb.clone(), config: dir.join("config.toml"), roots: None, kubectl: None };
        Ok(Self { name: layout.name.clone(), qb, agents, enrolment, dir })
    }

    /// Whether `qb site create` was carried out here.
    pub fn is_created(&self) -> bool {
        self.qb.config.is_file()
    }

    /// Makes the site: key, charter, enrolment file, doors.
    ///
    /// # Errors
    /// `qb` refuses.
    pub fn create(&self) -> Result<()> {
        self.create_with(&[])
    }

    /// Makes the site with a relay that its charter trusts. It still has to be registered there.
    ///
    /// # Errors
    /// `qb` refuses.
    pub fn create_at(&self, relay: &Relay) -> Result<()> {
        self.create_with(&[format!("--relay={}", relay.url()), format!("--relay-key={}", relay.key)])
    }

    fn create_with(&self, more: &[String]) -> Result<()> {
        // Left by a creation that was cut short: the configuration is written last.
        for part in ["keys", "charters"] {
            remove_dir(&self.dir.join(part))?;
        }
        remove_file(&self.enrolment)?;
        let enrolment = self.enrolment.to_string_lossy().into_owned();
        let mut args: Vec<String> = [
            "site",
            "create",
            &self.name,
            "--admin",
            ADMIN,
            "--name",
            "Mira Okafor",
            "--no-passphrase",
            "--enroll",
            &enrolment,
        ]
        .map(str::to_owned)
        .to_vec();
        for seed in self.agents.iter().take(2) {
            args.push(format!("--seed={}:7444", seed.spec.address));
        }
        for agent in &self.agents {
            args.push(format!("--add-door=unix:{}", agent.socket().display()));
        }
        args.extend_from_slice(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.qb.ok(&args).map(drop)
    }

    /// Makes the site anew from its founder's key: with a relay in its charter, and an enrolment file
    /// without seeds, so that the relay is the only way in. Returns the charter's envelope.
    ///
    /// # Errors
    /// It is not created.
    pub fn trust_relay(&self, url: &str, key: PublicKey, seeds: bool) -> Result<Vec<u8>> {
        let path = self.dir.join("charters").join(format!("{}.charter.json", self.name));
        let held = Charter::verify(&std::fs::read(&path)?)?;
        let mut body = held.body().clone();
        body.relays = vec![CharterRelay { url: url.to_owned(), key }];
        let envelope = body.sign(&[self.founder()?.key()]).to_bytes();
        let site = Charter::verify(&envelope)?.site_id();
        std::fs::write(&path, &envelope)?;
        let config = std::fs::read_to_string(&self.qb.config)?;
        std::fs::write(&self.qb.config, config.replace(&held.site_id().to_string(), &site.to_string()))?;
        let mut enrolment: Value = serde_json::from_slice(&std::fs::read(&self.enrolment)?)?;
        enrolment["charter"] = serde_json::from_slice(&envelope)?;
        enrolment["relays"] = json!(body.relays);
        if !seeds {
            enrolment["seeds"] = json!([]);
        }
        // The charter's bytes, as they were signed: text of an object stays that text.
        let text = serde_json::to_string(&enrolment)?;
        std::fs::write(&self.enrolment, text)?;
        Ok(envelope)
    }

    /// The founder, with the key that `qb site create` made.
    ///
    /// # Errors
    /// There is none.
    pub fn founder(&self) -> Result<Signatory> {
        Signatory::of_file(ADMIN, &self.qb.keys().join(format!("{}.key", self.name)))
    }

    /// Fails if something else has a port that the agents need.
    ///
    /// # Errors
    /// Names the ports.
    pub fn ports_free(&self) -> Result<()> {
        let taken: Vec<String> = self.agents.iter().flat_map(Agent::taken_ports).collect();
        let Some(first) = taken.first() else { return Ok(()) };
        let more = taken.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        bail!("in use: {first}{more}; stop what listens there first: `ss -lntup` shows who it is")
    }

    /// Starts all agents and waits until every door answers.
    ///
    /// # Errors
    /// One does not come up.
    pub fn start(&mut self) -> Result<()> {
        for agent in &mut self.agents {
            agent.start()?;
        }
        (0..self.agents.len()).try_for_each(|i| self.wait_door(i))
    }

    /// Starts one agent and waits until its door answers.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_one(&mut self, name: &str) -> Result<()> {
        let at = self.position(name)?;
        self.agents[at].start()?;
        self.wait_door(at)
    }

    fn wait_door(&mut self, at: usize) -> Result<()> {
        let agent = &mut self.agents[at];
        let (name, socket) = (agent.spec.name.clone(), agent.socket());
        let mut ended = None;
        let answer = eventually(START_LIMIT, &format!("{name} answers"), || {
            ended = agent.ended();
            if ended.is_some() {
                return Ok(false);
            }
            http::get::<Value>(&socket, "/v1/sites").map(|_| true)
        })?;
        if answer {
            return Ok(());
        }
        let how = ended.map(|s| s.to_string()).unwrap_or_default();
        Err(anyhow!("{name} ended at its start ({how}):\n{}", agent.tail(5)))
    }

    /// Kills all agents at once, as a loss of power does.
    pub fn kill(&mut self) {
        self.agents.iter_mut().for_each(Agent::kill);
    }

    /// Asks all agents to end and waits for them; the ones that do not are killed.
    ///
    /// # Errors
    /// Some had to be killed, or failed; all of them are gone in any case.
    pub fn stop(&mut self) -> Result<()> {
        self.agents.iter_mut().for_each(Agent::terminate);
        let failed: Vec<String> =
            self.agents.iter_mut().filter_map(|a| a.stop().err().map(|e| format!("{e:#}"))).collect();
        ensure!(failed.is_empty(), "{}", failed.join("; "));
        Ok(())
    }

    fn position(&self, name: &str) -> Result<usize> {
        self.agents
            .iter()
            .position(|a| a.spec.name == name)
            .with_context(|| format!("no agent is called {name}"))
    }

    /// An agent by its host name.
    ///
    /// # Errors
    /// None has it.
    pub fn agent(&mut self, name: &str) -> Result<&mut Agent> {
        let at = self.position(name)?;
        Ok(&mut self.agents[at])
    }

    /// The socket of the first agent that runs.
    ///
    /// # Errors
    /// None runs.
    pub fn door(&mut self) -> Result<PathBuf> {
        let mut running = self.agents.iter_mut().filter_map(|a| a.is_running().then(|| a.socket()));
        running.next().context("no agent runs")
    }

    /// A path of the API below this site.
    pub fn path(&self, leaf: &str) -> String {
        format!("/v1/sites/{}{leaf}", self.name)
    }

    /// A document below this site, from the first agent that runs.
    ///
    /// # Errors
    /// It does not answer, or with a problem.
    pub fn get<T: DeserializeOwned>(&mut self, leaf: &str) -> Result<T> {
        http::get(&self.door()?, &self.path(leaf))
    }

    /// Sends bytes as an intent and waits for its outcome.
    ///
    /// # Errors
    /// No agent listens.
    pub fn send(&mut self, bytes: &[u8]) -> Result<Answer> {
        http::post(&self.door()?, &self.path("/intents?wait=10s"), bytes)
    }

    /// The site.
    ///
    /// # Errors
    /// No door answers.
    pub fn view(&mut self) -> Result<SiteView> {
        self.get("")
    }

    /// Where it stands.
    ///
    /// # Errors
    /// No door answers.
    pub fn head(&mut self) -> Result<Head> {
        self.get("/head")
    }

    /// All nodes by name.
    ///
    /// # Errors
    /// No door answers.
    pub fn nodes(&mut self) -> Result<Vec<Node>> {
        self.get("/nodes")
    }

    /// All clusters by name.
    ///
    /// # Errors
    /// No door answers.
    pub fn clusters(&mut self) -> Result<Vec<Cluster>> {
        self.get("/clusters")
    }

    /// A cluster.
    ///
    /// # Errors
    /// There is none, or no door answers.
    pub fn cluster(&mut self, name: &str) -> Result<Cluster> {
        self.get(&format!("/clusters/{name}"))
    }

    /// The leader's host name.
    ///
    /// # Errors
    /// None is known at the door that answers.
    pub fn leader(&mut self) -> Result<String> {
        let voters = self.view()?.voters;
        voters.into_iter().find(|v| v.leader).map(|v| v.host).context("no leader is known")
    }

    /// What admins made of the site: admins, clusters, nodes. Nothing that moves by itself is in it.
    ///
    /// # Errors
    /// No door answers.
    pub fn desired(&mut self) -> Result<Value> {
        let admins: Value = self.get("/admins")?;
        let clusters: Vec<Value> = self
            .clusters()?
            .iter()
            .map(|c| {
                let members: Vec<_> = c.members.iter().map(|m| json!([m.host, m.role])).collect();
                json!([c.name, c.generation, c.version, c.bundle, members])
            })
            .collect();
        let nodes: Vec<Value> = self
            .nodes()?
            .iter()
            .map(|n| json!([n.id, n.name, n.state, n.generation, n.cluster, n.role, n.labels]))
            .collect();
        Ok(json!({ "admins": admins, "clusters": clusters, "nodes": nodes }))
    }

    /// The last lines of every agent's log, for a failure.
    pub fn tails(&self, lines: usize) -> String {
        let tails = self.agents.iter().map(|a| format!("--- {}\n{}\n", a.log.display(), a.tail(lines)));
        tails.collect()
    }

    /// Processes that still run for this site.
    pub fn processes(&self) -> Vec<String> {
        process::below(&self.dir)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What did not end in time was killed, and there is nobody left to tell.
        let _ = self.stop();
    }
}

fn remove_dir(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
