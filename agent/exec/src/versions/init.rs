//! Who starts the two units again: systemd, asked over D-Bus.

use super::state::Program;
use crate::exec::Exec;

/// Who starts units again.
pub(super) enum Init {
    /// systemd, by the connection that the units of clusters are kept by.
    Systemd(Exec),
    /// A world of the tests' own.
    #[cfg(test)]
    Fake(std::sync::Arc<super::tests::World>),
}

/// The unit of a program.
fn unit(which: Program) -> String {
    format!("{}.service", which.name())
}

const NO_SYSTEMD: &str = "this executor does not ask systemd";

impl Init {
    /// Asks for a restart, without waiting for it. An agent that was stopped stays stopped: its next start
    /// picks its version.
    pub(super) async fn restart(&self, which: Program) -> Result<(), String> {
        match self {
            Self::Systemd(exec) => {
                let systemd = exec.0.supervisor.systemd().ok_or(NO_SYSTEMD)?;
                systemd.restart(&unit(which), which == Program::Agent).await.map_err(|e| e.to_string())
            }
            #[cfg(test)]
            Self::Fake(world) => world.restart(which),
        }
    }

    /// The process that the agent's unit runs.
    pub(super) async fn agent_pid(&self) -> Result<Option<u32>, String> {
        match self {
            Self::Systemd(exec) => {
                let systemd = exec.0.supervisor.systemd().ok_or(NO_SYSTEMD)?;
                let fate = systemd.fate(&unit(Program::Agent)).await.map_err(|e| e.to_string())?;
                Ok(fate.and_then(|fate| fate.pid))
            }
            #[cfg(test)]
            Self::Fake(world) => Ok(world.agent_pid()),
        }
    }

    /// How a unit fared, in words; empty if there is nothing to tell.
    pub(super) async fn fate(&self, which: Program) -> String {
        match self {
            Self::Systemd(exec) => {
                let Some(systemd) = exec.0.supervisor.systemd() else { return String::new() };
                match systemd.fate(&unit(which)).await {
                    Ok(Some(fate)) => fate.to_string(),
                    Ok(None) => "its unit is not loaded".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
            #[cfg(test)]
            Self::Fake(world) => world.fate(which),
        }
    }
}
