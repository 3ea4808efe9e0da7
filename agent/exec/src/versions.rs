//! Other versions of qb's own two programs, which came over the mesh: installed by a signed order, tried
//! out, kept or left. See ARCHITECTURE for the way of an upgrade through the site.
//!
//! | file | what |
//! |---|---|
//! | `state.rs` | what is written down; under one lock, of the executor and of each start |
//! | `pick.rs`, `start.rs` | which program a unit starts: decided, then done |
//! | `trial.rs` | what comes next in an upgrade: decided |
//! | `files.rs` | files of versions, links to them |
//! | `init.rs` | who starts the units again |
//! | `keeper.rs` | for how long something lasts, what was asked for |
//!
//! Who decides what: an order says which version, by [`Versions::install`]. The new agent says that it is
//! well, by [`Versions::confirm`]; its executor, once it runs, hears so again. `pick` counts starts. Every
//! step is written down before it is done, and what was started is compared with what is to run.

mod files;
mod init;
mod keeper;
mod pick;
mod start;
mod state;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use qb_drivers::agent::{AgentBundle, Host};
use qb_drivers::bundle::BundleError;
use qb_model::agent_order::{AgentGrounds, AgentOrder, VerifiedAgentOrder};
use qb_model::ids::{Digest, Version};
use qb_model::statement::SignedBytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::bundle::Bundle;
use crate::errors::OrderError;
use crate::exec::Exec;
use init::Init;
use keeper::Keeper;
use state::{State, Store, Trial};
use trial::{Act, Phase};

pub use start::{Places, Start, before};
pub use state::{Ended, Program, StoreError, Target};

/// Pauses between two looks at what is written down: while something is on trial, and else. Starts of
/// units change it too.
const LOOK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// An order to bring in another version, with what it rests on. Nothing of it is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// The order.
    pub order: AgentOrder,
    /// What it rests on.
    pub grounds: AgentGrounds,
    /// The node's seal key record, for the executor's own key: proof that the caller has the node's key.
    pub own: SignedBytes,
    /// Bytes of its bundle.
    pub bundle: u64,
}

/// How it stands with versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionsView {
    /// The executor's version.
    pub runs: String,
    /// What is on trial.
    pub trial: Option<OnTrial>,
    /// How the last trial ended.
    pub ended: Option<Ended>,
}

/// A version on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnTrial {
    /// Digest of the order that began it.
    pub order: Digest,
    /// The version.
    pub version: Version,
    /// Whether its agent said that it is well.
    pub confirmed: bool,
}

/// Why no other version is brought in. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Somebody on this machine holds it.
    #[error("this node is held on this machine: rm {0}, then order the upgrade again")]
    Held(String),
    /// The order is not signed as it must be.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// Another order with this generation was begun.
    #[error("another agent order with generation {0} was begun before: qb audit verify")]
    Another(u64),
    /// The package is as new, or newer.
    #[error(
        "the package on this machine has version {packaged}, the order is for {version}: order a newer one"
    )]
    Packaged {
        /// The package's.
        packaged: Version,
        /// The order's.
        version: Version,
    },
    /// It runs already.
    #[error("this very bundle was installed before and runs: nothing to do")]
    Runs,
    /// The bundle is not one that may be installed.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It cannot be unpacked.
    #[error("the version cannot be unpacked: {0}; check the disk, then order the upgrade again")]
    Unpack(#[source] std::io::Error),
    /// What is written down cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The executor was not started by its unit.
    #[error(
        "this executor was not started by its unit, which picks the version: systemctl restart qb-exec, then order the upgrade again"
    )]
    NotPicked,
    /// Somebody who is not the agent on trial says that it is well.
    #[error("the caller is not the agent on trial: {0}")]
    NotOnTrial(String),
}

/// What an order came to before its bundle is there.
pub(crate) enum Begun {
    /// It, or another one, is on its way, or it ended.
    Known(VersionsView),
    /// Its bundle may come.
    Send(Box<VerifiedAgentOrder>),
}

/// Versions on this machine. Clones share everything.
#[derive(Clone)]
pub struct Versions(Arc<Inner>);

struct Inner {
    exec: Exec,
    store: Store,
    init: Init,
    own: Version,
    wake: Notify,
}

impl Versions {
    /// Those of an executor under systemd; none where it keeps its units by itself, and nobody would start
    /// another version. `own` is the version of this program.
    ///
    /// # Errors
    /// The directory of versions cannot be made.
    pub fn open(exec: &Exec, own: Version) -> Result<Option<Self>, StoreError> {
        if exec.0.supervisor.systemd().is_none() {
            return Ok(None);
        }
        Self::with(exec.clone(), Init::Systemd(exec.clone()), own).map(Some)
    }

    fn with(exec: Exec, init: Init, own: Version) -> Result<Self, StoreError> {
        let store = Store::open(exec.0.root.path())?;
        Ok(Self(Arc::new(Inner { exec, store, init, own, wake: Notify::new() })))
    }

    /// How it stands.
    ///
    /// # Errors
    /// What is written down cannot be read.
    pub fn view(&self) -> Result<VersionsView, StoreError> {
        Ok(self.view_of(&self.0.store.read()?))
    }

    fn view_of(&self, state: &State) -> VersionsView {
        let trial = state.trial.as_ref().map(|trial| OnTrial {
            order: trial.order,
            version: trial.of.version.clone(),
            confirmed: trial.confirmed,
        });
        VersionsView { runs: self.0.own.to_string(), trial, ended: state.ended.clone() }
    }

    /// Verifies an order against the signed intent that it rests on, and against what this machine
    /// remembers. One that is known already is not begun again.
    pub(crate) fn verify(&self, asked: Upgrade) -> Result<Begun, UpgradeError> {
        let exec = &self.0.exec;
        let state = self.0.store.read()?;
        let digest = asked.order.digest();
        let verified = exec.verify_agent_order(&asked.own, asked.order, &asked.grounds, state.generation)?;
        let order = verified.order();
        if state.order.is_some_and(|begun| order.generation == state.generation && begun != digest) {
            return Err(UpgradeError::Another(order.generation.0));
        }
        if state.trial.is_some() || state.ended.as_ref().is_some_and(|ended| ended.order == digest) {
            return Ok(Begun::Known(self.view_of(&state)));
        }
        self.fits(&state, order)?;
        Ok(Begun::Send(Box::new(verified)))
    }

    /// What can be told of an order without its bundle.
    fn fits(&self, state: &State, order: &AgentOrder) -> Result<(), UpgradeError> {
        if self.0.exec.is_held() {
            return Err(UpgradeError::Held(self.0.exec.0.config.hold.display().to_string()));
        }
        let packaged = state.packaged.clone().ok_or(UpgradeError::NotPicked)?;
        if state.started.exec.is_none() {
            return Err(UpgradeError::NotPicked);
        }
        if !packaged.precedence(&order.version).is_lt() {
            return Err(UpgradeError::Packaged { packaged, version: order.version.clone() });
        }
        if state.current.as_ref().is_some_and(|current| current.digest == order.bundle) {
            return Err(UpgradeError::Runs);
        }
        Ok(())
    }

    /// Verifies the bundle of a verified order, unpacks it and begins its trial. From here on whoever is
    /// killed, it ends.
    pub(crate) fn install(
        &self,
        verified: &VerifiedAgentOrder,
        bundle: &Bundle,
    ) -> Result<VersionsView, UpgradeError> {
        let order = verified.order();
        // Under the lock: nobody tidies up, nor begins another trial, meanwhile.
        let begun = self.0.store.change(|state| {
            if state.trial.is_some() {
                return Ok(self.view_of(state));
            }
            self.fits(state, order)?;
            let host = Host { arch: std::env::consts::ARCH, agent: &self.0.own };
            let fit = AgentBundle::fit(bundle.head().clone(), order, &host, &state.floors)?;
            let of = files::install(&self.0.store, &fit, bundle).map_err(UpgradeError::Unpack)?;
            let mut floors = state.floors.clone();
            floors.raise(&of.publisher, fit.head().manifest());
            let trial = Trial {
                of,
                order: order.digest(),
                agent_starts: 0,
                exec_starts: 0,
                confirmed: false,
                floors,
            };
            tracing::info!(version = %order.version, "installed for a trial: the agent is started again");
            state.try_out(trial, order.generation, verified.publishers());
            Ok::<_, UpgradeError>(self.view_of(state))
        })??;
        self.0.wake.notify_one();
        Ok(begun)
    }

    /// The agent with this process number says that it is well. The first time its executor is started
    /// next; said to that one, the trial is over.
    pub(crate) async fn confirm(
        &self,
        pid: Option<u32>,
        version: &Version,
    ) -> Result<VersionsView, UpgradeError> {
        let before = self.0.store.read()?;
        let Some(trial) = &before.trial else { return Ok(self.view_of(&before)) };
        self.is_on_trial(&before, pid, version).await?;
        let (order, on_trial) = (trial.order, trial.of.target());
        let state = self.0.store.change(|state| {
            let mine = state.started.exec == Some(on_trial) && self.0.own == *version;
            match &mut state.trial {
                Some(trial) if trial.order == order && !trial.confirmed => trial.confirmed = true,
                Some(trial) if trial.order == order && mine => state.complete(),
                _ => {}
            }
            state.clone()
        })?;
        if state.trial.is_none() && before.trial.is_some() {
            tracing::info!("version {version} runs: its trial is over");
            self.0.store.sweep()?;
        }
        self.0.wake.notify_one();
        Ok(self.view_of(&state))
    }

    /// The caller must be the main process of the agent's unit, and that must have been started, by its
    /// unit, as the version on trial: the link is root's, and the one before has ended by then.
    async fn is_on_trial(
        &self,
        state: &State,
        pid: Option<u32>,
        version: &Version,
    ) -> Result<(), UpgradeError> {
        let not = |why: String| Err(UpgradeError::NotOnTrial(why));
        let Some(trial) = &state.trial else { return Ok(()) };
        if *version != trial.of.version {
            return not(format!("it is of version {version}, {} is on trial", trial.of.version));
        }
        if state.started.agent != Some(trial.of.target()) {
            return not("it was started before the trial began".to_owned());
        }
        match self.0.init.agent_pid().await {
            Ok(Some(main)) if pid == Some(main) => Ok(()),
            Ok(main) => not(format!("it is process {pid:?}, the agent's unit runs {main:?}")),
            Err(why) => not(why),
        }
    }

    /// Looks after upgrades for as long as the executor runs.
    pub async fn run(&self, stop: CancellationToken) {
        if let Err(error) = self.0.store.sweep() {
            tracing::warn!("{error}");
        }
        let mut keeper = Keeper::default();
        loop {
            let pause = match self.0.store.read() {
                Ok(state) => {
                    self.turn(&state, &mut keeper).await;
                    if state.trial.is_some() { LOOK.0 } else { LOOK.1 }
                }
                Err(error) => {
                    keeper.note(error.to_string());
                    LOOK.1
                }
            };
            tokio::select! {
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn turn(&self, state: &State, keeper: &mut Keeper) {
        let waited = keeper.waited(Phase::of(state));
        let act = trial::next(state, self.0.exec.is_held(), waited);
        match act {
            Act::Nothing => keeper.nothing_asked(),
            Act::RestartAgent | Act::RestartSelf => {
                let which = if act == Act::RestartAgent { Program::Agent } else { Program::Exec };
                if keeper.due(which)
                    && let Err(why) = self.0.init.restart(which).await
                {
                    keeper.note(format!("{} cannot be started again: {why}", which.name()));
                }
            }
            Act::GiveUp => self.give_up(state, keeper).await,
        }
    }

    async fn give_up(&self, state: &State, keeper: &Keeper) {
        let Some(phase) = Phase::of(state) else { return };
        let which = if phase.confirmed { Program::Exec } else { Program::Agent };
        let parts = [phase.missed(state), self.0.init.fate(which).await, keeper.trouble().to_owned()];
        let why: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let why = format!("{}; `journalctl -u {}` on that machine shows more", why.join(": "), which.name());
        tracing::error!("back to the version before: {why}");
        // Unless it went on in this very moment.
        let given_up = self.0.store.change(|state| {
            if Phase::of(state) == Some(phase) {
                state.give_up(why);
            }
        });
        if let Err(error) = given_up.and_then(|()| self.0.store.sweep()) {
            tracing::error!("{error}");
        }
        self.0.wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
