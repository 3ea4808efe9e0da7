//! A machine: a real executor's versions, two units that are played by the rules of an init system, and
//! programs that behave as a test says.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use qb_model::agent_order::AgentOrder;
use zeroize::Zeroizing;

use super::signed::{Built, Signed, node};
use crate::bundle::{Spool, TakeError};
use crate::versions::*;
use crate::{Exec, ExecConfig, SealSecret, SiteSource, Units};

/// How the two programs of a version behave: an agent is well, hangs, crashes, is well once, or its unit
/// does not start it (absent); an executor is well or crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plays {
    pub(crate) agent: &'static str,
    pub(crate) exec: &'static str,
}

/// What the init system was asked, and what it runs.
#[derive(Default)]
pub(crate) struct World(Mutex<Running>);

#[derive(Default)]
struct Running {
    asked: VecDeque<Program>,
    agent: Option<u32>,
    pids: u32,
}

impl World {
    pub(crate) fn restart(&self, which: Program) -> Result<(), String> {
        self.0.lock().unwrap().asked.push_back(which);
        Ok(())
    }

    pub(crate) fn agent_pid(&self) -> Option<u32> {
        self.0.lock().unwrap().agent
    }

    pub(crate) fn fate(&self, _: Program) -> String {
        "its unit is played".to_owned()
    }
}

pub(crate) struct Machine {
    pub(crate) site: Signed,
    _temp: tempfile::TempDir,
    home: PathBuf,
    places: Places,
    packaged: Version,
    world: Arc<World>,
    exec: Exec,
    versions: Option<Versions>,
    keeper: Option<tokio::task::JoinHandle<()>>,
    /// The version of the agent that runs, and whether it confirmed since its start.
    agent: (String, bool),
    exec_version: String,
    plays: BTreeMap<String, Plays>,
    /// Versions by the directory that they lie in.
    known: BTreeMap<String, String>,
}

impl Machine {
    /// A machine where a package of this version was installed and started.
    pub(crate) async fn new(packaged: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().to_owned();
        let site = Signed::new();
        let exec = Exec::open(ExecConfig {
            root: home.join("exec"),
            hold: home.join("hold"),
            node: Some(node()),
            site: SiteSource::Told(site.id()),
            seal_secret: SealSecret::from_bytes(Zeroizing::new([4; 32])),
            stand_in: home.join("none"),
            units: Units::Children,
        });
        let at = |name: &str| home.join(name);
        let mut machine = Self {
            places: Places { root: at("exec"), agent: at("qb-agent"), exec: at("qb-exec"), links: at("bin") },
            exec: exec.await.unwrap(),
            site,
            _temp: temp,
            packaged: packaged.parse().unwrap(),
            world: Arc::default(),
            versions: None,
            keeper: None,
            agent: (String::new(), false),
            exec_version: String::new(),
            plays: BTreeMap::new(),
            known: BTreeMap::new(),
            home,
        };
        machine.package(packaged);
        machine.boot().await;
        machine
    }

    /// Installs a package.
    pub(crate) fn package(&mut self, version: &str) {
        self.packaged = version.parse().unwrap();
        self.plays(version, super::GOOD);
    }

    pub(crate) fn plays(&mut self, version: &str, plays: Plays) {
        self.plays.insert(version.to_owned(), plays);
    }

    /// Upgrades to a version that is good.
    pub(crate) async fn upgraded(&mut self, version: &str) {
        let built = self.site.build(version, 50);
        self.plays(version, super::GOOD);
        let order = self.site.order(1, &built);
        self.ask(&order, &built).await.unwrap();
        self.settled().await;
        assert_eq!(self.runs(), (version.to_owned(), version.to_owned()));
    }

    pub(crate) fn versions(&self) -> Versions {
        self.versions.clone().unwrap()
    }

    pub(crate) fn view(&self) -> VersionsView {
        self.versions().view().unwrap()
    }

    /// Versions of the agent and of the executor that run.
    pub(crate) fn runs(&self) -> (String, String) {
        (self.agent.0.clone(), self.exec_version.clone())
    }

    pub(crate) fn agent_pid(&self) -> Option<u32> {
        self.world.agent_pid()
    }

    pub(crate) fn hold(&self, held: bool) {
        let file = self.home.join("hold");
        if held { std::fs::write(file, "").unwrap() } else { std::fs::remove_file(file).unwrap() }
    }

    /// Hands an order over as the agent does. Its grounds are those of the bundle and version that its
    /// intent names.
    pub(crate) async fn ask(
        &mut self,
        order: &AgentOrder,
        built: &Built,
    ) -> Result<VersionsView, UpgradeError> {
        let name = qb_drivers::bundle::directory_name(&built.digest);
        self.known.insert(name, built.version.to_string());
        let signed = [&built.version, &order.version]
            .into_iter()
            .map(|version| self.site.grounds(order.bundle, version))
            .find(|grounds| {
                let envelope = qb_model::envelope::Envelope::parse(&grounds.upgrade.0).unwrap();
                envelope.digest() == order.cites.digest
            });
        let grounds = signed.unwrap_or_else(|| self.site.grounds(order.bundle, &built.version));
        let asked = Upgrade {
            order: order.clone(),
            grounds,
            own: self.site.record(self.exec.seal_key()),
            bundle: built.bytes.len() as u64,
        };
        let versions = self.versions();
        match versions.verify(asked)? {
            Begun::Known(view) => Ok(view),
            Begun::Send(verified) => {
                let (publishers, size) = (verified.publishers().to_vec(), built.bytes.len() as u64);
                let taken = Spool::new(self.exec.root(), publishers, order.bundle, size)
                    .and_then(|mut spool| spool.take(&built.bytes).and_then(|()| spool.finish()));
                match taken {
                    Ok(bundle) => versions.install(&verified, &bundle),
                    Err(TakeError::Bundle(error)) => Err(error.into()),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Power on: both units start.
    pub(crate) async fn boot(&mut self) {
        self.world.0.lock().unwrap().asked.clear();
        self.start_exec().await;
        self.start_agent();
    }

    /// SIGKILL for the executor; its unit starts it again.
    pub(crate) async fn kill_exec(&mut self) {
        self.start_exec().await;
    }

    /// One round: the init system does what it was asked, the agent says how it is, time passes.
    pub(crate) async fn step(&mut self) {
        let asked = self.world.0.lock().unwrap().asked.pop_front();
        match asked {
            Some(Program::Exec) => self.start_exec().await,
            Some(Program::Agent) => self.start_agent(),
            None => {}
        }
        let (version, said) = self.agent.clone();
        let plays = self.plays[&version].agent;
        if plays == "well" || (plays == "once" && !said) {
            let pid = self.world.agent_pid();
            // Only what is on trial is heard.
            let _ = self.versions().confirm(pid, &version.parse().unwrap()).await;
            self.agent.1 = true;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Goes on until nothing is on trial, and what was started is what is to run.
    pub(crate) async fn settled(&mut self) {
        for _ in 0..1_000 {
            self.step().await;
            let state = self.versions().0.store.read().unwrap();
            let settled = Some(state.settled());
            if state.trial.is_none() && state.started.agent == settled && state.started.exec == settled {
                return;
            }
        }
        panic!("it never settles: {:?}", self.versions().0.store.read());
    }

    /// Directories of versions.
    pub(crate) fn trees(&self) -> usize {
        let all = std::fs::read_dir(self.places.root.join("versions")).unwrap();
        all.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }

    /// Every file below the versions, with its content.
    pub(crate) fn listing(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut all, mut open) = (BTreeMap::new(), vec![self.places.root.join("versions")]);
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    all.insert(path.clone(), std::fs::read(path).unwrap());
                }
            }
        }
        all
    }

    /// What the link of a unit leads to, after what runs before each start of it.
    fn pick(&self, which: Program) -> String {
        before(&self.places, &self.packaged, which).unwrap();
        let file = std::fs::read_link(self.places.links.join(which.name())).unwrap();
        let name = file.parent().and_then(Path::file_name).unwrap().to_string_lossy().into_owned();
        self.known.get(&name).cloned().unwrap_or_else(|| self.packaged.to_string())
    }

    async fn start_exec(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
            // Cancelled: that is what was asked for.
            let _ = keeper.await;
        }
        // One that crashes is started again; that this ends is what is tested.
        let version = loop {
            let version = self.pick(Program::Exec);
            if self.plays[&version].exec == "well" {
                break version;
            }
        };
        let own = version.parse().unwrap();
        let versions = Versions::with(self.exec.clone(), Init::Fake(self.world.clone()), own).unwrap();
        let running = versions.clone();
        self.keeper = Some(tokio::spawn(async move { running.run(CancellationToken::new()).await }));
        (self.versions, self.exec_version) = (Some(versions), version);
    }

    fn start_agent(&mut self) {
        let version = loop {
            if let Some(next) = self.absent() {
                self.agent = (next, true);
                return;
            }
            let version = self.pick(Program::Agent);
            if self.plays[&version].agent != "crashes" {
                break version;
            }
        };
        self.agent = (version, false);
        let mut world = self.world.0.lock().unwrap();
        world.pids += 1;
        world.agent = Some(1_000 + world.pids);
    }

    /// A unit that is stopped is not started by asking for a restart: the agent stays as it was.
    fn absent(&self) -> Option<String> {
        let state = self.versions().0.store.read().unwrap();
        let trial = state.trial?;
        let absent = self.plays[trial.of.version.as_str()].agent == "absent";
        absent.then(|| self.agent.0.clone())
    }
}
