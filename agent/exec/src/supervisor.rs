//! Keeps units running: starts, restarts with a pause, stops. As children of this process, where there
//! is no root and no init system, or by systemd, where they live on when the executor ends.

mod children;
mod process;
mod systemd;
mod unit;

use std::path::PathBuf;
use std::sync::Arc;

use qb_drivers::config::UnitDefaults;
use qb_drivers::{RelPath, StandIn};
use qb_model::ids::{Digest, Millis, Name};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::dir::Dir;
use crate::progress::StepError;
use children::Children;
pub(crate) use systemd::Systemd;

/// Who keeps units running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// This process: they die with it. Needs neither root nor an init system.
    Children,
    /// systemd, asked over D-Bus: they live on when this process ends, and are found again.
    Systemd,
}

/// Which unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnitKey {
    pub(crate) cluster: Name,
    pub(crate) stand_in: StandIn,
}

/// A unit as it is recorded on disk: it is started again with the executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnitRecord {
    /// 1.
    pub(crate) v: u16,
    /// What runs.
    pub(crate) stand_in: StandIn,
    /// Its configuration, in the cluster's directory.
    pub(crate) config: RelPath,
    /// Digest of the configuration and of what else it reads at start: another one is another unit.
    pub(crate) inputs: Digest,
    /// How it is restarted and stopped.
    pub(crate) defaults: UnitDefaults,
}

impl UnitRecord {
    /// What marks a unit that runs by this very record.
    pub(crate) fn mark(&self) -> Digest {
        // A struct of numbers and texts has a form.
        Digest(Sha256::digest(serde_json::to_vec(self).unwrap_or_default()).into())
    }
}

/// Whether a unit runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitState {
    /// Its process runs.
    Running,
    /// It ended and is started again after a pause.
    Restarting,
    /// It was asked to stop.
    Stopping,
}

/// One unit as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitHealth {
    /// `api-server`, for instance.
    pub name: String,
    /// Whether it runs.
    pub state: UnitState,
    /// How often it was started again by itself.
    pub restarts: u32,
    /// Since when it is in this state.
    pub since: Millis,
    /// Its process, if it runs.
    pub pid: Option<u32>,
}

/// Keeps units running.
pub(crate) enum Supervisor {
    Children(Children),
    Systemd(Systemd),
}

impl Supervisor {
    /// A supervisor of a kind. `program` contains the stand-ins.
    pub(crate) fn start(units: Units, program: PathBuf) -> std::io::Result<Self> {
        Ok(match units {
            Units::Children => Self::Children(Children::start(program)?),
            Units::Systemd => Self::Systemd(Systemd::new(program)),
        })
    }

    /// Runs a unit from now on. One with the same record is left alone, one with another is replaced.
    pub(crate) async fn run(&self, key: UnitKey, dir: Arc<Dir>, record: UnitRecord) -> Result<(), StepError> {
        match self {
            Self::Children(children) => {
                children.run(key, dir, record);
                Ok(())
            }
            Self::Systemd(systemd) => Ok(systemd.run(&key, &dir, &record).await?),
        }
    }

    /// Stops a unit; returns when its processes are gone.
    pub(crate) async fn stop(&self, key: UnitKey) -> Result<(), StepError> {
        match self {
            Self::Children(children) => {
                children.stop(key).await;
                Ok(())
            }
            Self::Systemd(systemd) => Ok(systemd.stop(&key).await?),
        }
    }

    /// The units of a cluster, each with the mark of the record that it runs by.
    pub(crate) async fn look(&self, cluster: &Name) -> Result<Vec<(UnitHealth, Digest)>, StepError> {
        match self {
            Self::Children(children) => Ok(children.look(cluster).await),
            Self::Systemd(systemd) => Ok(systemd.look(cluster).await?),
        }
    }

    /// systemd, where units are kept by it.
    pub(crate) fn systemd(&self) -> Option<&Systemd> {
        match self {
            Self::Children(_) => None,
            Self::Systemd(systemd) => Some(systemd),
        }
    }

    /// Ends: children are stopped, an init system's units go on.
    pub(crate) async fn close(&self) {
        if let Self::Children(children) = self {
            children.close().await;
        }
    }
}
