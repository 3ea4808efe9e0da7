//! One child process: an argument vector, an empty environment, a process group of its own, a
//! bounded log.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use qb_drivers::{RelPath, StandIn};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::dir::Dir;

/// Bytes of a log before it becomes the old log, which is kept once.
const LOG_BYTES: u64 = 64 * 1024;
/// Bytes of a process record.
const RECORD_BYTES: u64 = 1024;
/// Bytes of `/proc/PID/stat`.
const STAT_BYTES: usize = 4096;

/// A process, on disk: its number alone may mean another process later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pid: u32,
    /// Start time in clock ticks since boot.
    started: u64,
}

/// A child process, killed when dropped; or none, where there is nothing to stop.
pub(super) struct Process {
    child: Option<Child>,
}

impl Process {
    /// No process: ended already.
    pub(super) fn none() -> Self {
        Self { child: None }
    }

    /// Starts a stand-in in the cluster's directory, after one that an earlier life left behind
    /// was killed.
    pub(super) fn spawn(program: &Path, dir: &Dir, stand_in: StandIn, config: &RelPath) -> io::Result<Self> {
        for name in ["log", "run"] {
            dir.make_dirs(&name.parse().map_err(io::Error::other)?)?;
        }
        kill_leftover(dir, stand_in)?;
        let log = dir.append(&path("log", stand_in, "log")?)?;
        let child = Command::new(program)
            .args(["stand-in", stand_in.name(), "--config", config.as_str()])
            .args(["--parent", &std::process::id().to_string()])
            .env_clear()
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let process = Self { child: Some(child) };
        let pid = process.id();
        if let Some(started) = started(pid) {
            let bytes = serde_json::to_vec(&Record { pid, started })?;
            dir.write(&path("run", stand_in, "pid")?, &bytes, 0o600)?;
        }
        Ok(process)
    }

    /// Its number; 0 for none.
    pub(super) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        match &mut self.child {
            None => Some(ExitStatus::default()),
            // An error means that there is no such child any more.
            Some(child) => child.try_wait().unwrap_or(Some(ExitStatus::default())),
        }
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.as_ref().and_then(|child| group(child.id())) {
            // It may have ended meanwhile, which is what is wanted.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Deletes its record.
    pub(super) fn forget(&self, dir: &Dir, stand_in: StandIn) {
        if let Ok(at) = path("run", stand_in, "pid") {
            let _ = dir.remove(&at);
        }
    }

    /// Moves the log away when it is full: the newest lines are always there, the disk never fills.
    pub(super) fn bound_log(&self, dir: &Dir, stand_in: StandIn) {
        let bound = || -> io::Result<()> {
            let at = path("log", stand_in, "log")?;
            let log = dir.append(&at)?;
            if log.metadata()?.len() > LOG_BYTES {
                let old = dir.read(&at, LOG_BYTES * 16)?.unwrap_or_default();
                let keep = old.len().saturating_sub(LOG_BYTES as usize);
                dir.write(&path("log", stand_in, "old")?, &old[keep..], 0o600)?;
                log.set_len(0)?;
            }
            Ok(())
        };
        if let Err(error) = bound() {
            tracing::debug!(unit = stand_in.name(), %error, "log cannot be bounded");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take()
            && matches!(child.try_wait(), Ok(None))
        {
            if let Some(pid) = group(child.id()) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.wait();
        }
    }
}

/// Kills a process that was recorded and still is the one that was recorded.
fn kill_leftover(dir: &Dir, stand_in: StandIn) -> io::Result<()> {
    let at = path("run", stand_in, "pid")?;
    let Some(bytes) = dir.read(&at, RECORD_BYTES)? else {
        return Ok(());
    };
    // A record that cannot be read names no process.
    if let Ok(record) = serde_json::from_slice::<Record>(&bytes)
        && started(record.pid) == Some(record.started)
        && let Some(pid) = group(record.pid)
    {
        tracing::info!(unit = stand_in.name(), pid = record.pid, "a process of an earlier life is killed");
        let _ = kill_process_group(pid, Signal::KILL);
    }
    dir.remove(&at)
}

fn group(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// When a process began, in ticks since boot; none if there is none. A zombie counts as none.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(stat.get(..stat.len().min(STAT_BYTES))?).into_owned();
    // The name in parentheses may hold anything; what follows it does not.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(18)?.parse().ok() }
}

fn path(folder: &str, stand_in: StandIn, suffix: &str) -> io::Result<RelPath> {
    format!("{folder}/{}.{suffix}", stand_in.name()).parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::started;

    #[test]
    fn a_process_is_known_by_its_start() {
        let me = started(std::process::id());
        assert!(me.is_some_and(|ticks| ticks > 0));
        assert_eq!(me, started(std::process::id()));
        assert_eq!(started(u32::MAX), None);
    }
}
