//! `qb-agent reset`: the machine forgets who it was and starts anew, for a site that may be another.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::config::Options;
use crate::files;

/// State of the executor, where it is a process of its own.
pub const EXEC_STATE: &str = "/var/lib/qb/exec";
/// Its socket.
const EXEC_SOCKET: &str = "/run/qb/exec/exec.sock";
/// What the executor holds of a site: which one, its seal key, how far it has come.
const EXEC_FILES: [&str; 3] = ["seal.key", "site.json", "floor.json"];
/// What goes first: without its keys the rest is worth nothing, if this is cut short.
const FIRST: [&str; 2] = ["identity", "membership"];

/// What is to be forgotten.
#[derive(Debug)]
pub struct Reset {
    state: PathBuf,
    exec: PathBuf,
    socket: PathBuf,
}

impl Reset {
    /// What these options name.
    pub fn new(options: &Options, exec: Option<PathBuf>) -> Self {
        Self {
            state: options.state_dir(),
            exec: exec.unwrap_or_else(|| PathBuf::from(EXEC_STATE)),
            socket: PathBuf::from(EXEC_SOCKET),
        }
    }

    /// What a person agrees to.
    pub fn question(&self) -> String {
        format!(
            "This deletes the identity and all state of the agent below {} and {}.\nThe site goes on to list the node until \
             `qb node revoke NAME`.",
            self.state.display(),
            self.exec.display()
        )
    }

    /// Forgets. Nothing is stopped for it.
    ///
    /// # Errors
    /// An agent or an executor runs, a cluster is on this machine, or something cannot be deleted:
    /// in the first cases nothing was changed.
    pub fn run(&self) -> Result<String> {
        if files::owner(&self.state)?.is_none() {
            return Ok(format!("there is nothing in {}", self.state.display()));
        }
        let _lock = files::lock(&self.state)?;
        if UnixStream::connect(&self.socket).is_ok() {
            bail!("the executor runs: systemctl stop qb-agent qb-exec, then again");
        }
        for clusters in [self.exec.join("clusters"), self.state.join("exec/clusters")] {
            if let Some(name) = files::names(&clusters)?.unwrap_or_default().first() {
                bail!(
                    "this machine is in cluster {name} ({}): detach it first, `qb cluster detach {name} NODE`",
                    clusters.display()
                );
            }
        }
        // The agent's keys first: then nobody can speak for the node any more.
        files::empty_dir(&self.state, &FIRST)?;
        for name in EXEC_FILES {
            files::remove(&self.exec.join(name))?;
        }
        Ok("the machine starts anew: systemctl start qb-agent, then compare the new words, qb-agent id"
            .to_owned())
    }
}

/// Whether a person's answer agrees.
pub fn agrees(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn put(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }

    #[test]
    fn a_machine_that_serves_or_runs_is_not_reset() {
        let dir = std::env::temp_dir().join(format!("qb-reset-{}", std::process::id()));
        let (state, exec, socket) = (dir.join("agent"), dir.join("exec"), dir.join("exec.sock"));
        let reset = Reset { state: state.clone(), exec: exec.clone(), socket: socket.clone() };
        assert!(reset.run().unwrap().contains("there is nothing"));
        let all = [
            state.join("identity/node.key"),
            state.join("raft/a"),
            exec.join("seal.key"),
            exec.join("site.json"),
        ];
        all.iter().for_each(|path| put(path));
        let refused = |part: &str| {
            let why = reset.run().unwrap_err().to_string();
            assert!(why.contains(part), "{why}");
            assert!(all.iter().all(|path| path.exists()), "{part}: nothing was changed");
        };
        let lock = files::lock(&state).unwrap();
        refused(&format!("(process {})", std::process::id()));
        drop(lock);
        let executor = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        refused("the executor runs");
        drop(executor);
        for clusters in [exec.join("clusters"), state.join("exec/clusters")] {
            put(&clusters.join("blue/x"));
            refused("qb cluster detach blue NODE");
            std::fs::remove_dir_all(clusters).unwrap();
        }
        put(&exec.join("versions/x"));
        assert!(reset.run().unwrap().contains("qb-agent id"));
        assert!(all.iter().all(|path| !path.exists()));
        assert!(state.is_dir() && exec.join("versions/x").exists(), "what the package owns stays");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_a_yes_agrees() {
        for (answer, want) in
            [("y\n", true), ("YES", true), ("", false), ("no", false), ("yes please", false)]
        {
            assert_eq!(agrees(answer), want, "{answer:?}");
        }
    }
}
