//! Programs of this machine, run to their end with a deadline; and what this machine must have.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};

use crate::command::Ran;
use crate::signals;

/// How long a small tool may take: `ip`, `nft` and the like take milliseconds.
pub(crate) const TOOL: Duration = Duration::from_secs(30);
/// Pause between two looks at a program that runs.
const PAUSE: Duration = Duration::from_millis(2);
/// Where programs are looked for: root's tools too, whoever's PATH this is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What must be installed.
const TOOLS: [&str; 9] =
    ["debootstrap", "ip", "mount", "nft", "nsenter", "setpriv", "setsid", "systemd-nspawn", "unshare"];
/// `statfs` of an overlay: no overlay has its upper layer there.
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// What a program left behind, bytes as they came.
#[derive(Debug)]
pub(crate) struct Done {
    pub line: String,
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    pub(crate) fn ok(self) -> Result<Self> {
        let said = self.stderr.trim();
        ensure!(self.code == 0, "{} ended with {}: {said}", self.line, self.code);
        Ok(self)
    }

    pub(crate) fn ran(self) -> Ran {
        let stdout = String::from_utf8_lossy(&self.stdout).into_owned();
        Ran { line: self.line, code: self.code, stdout, stderr: self.stderr }
    }
}

/// A program of root's, found whatever the PATH of the caller is.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", PATH);
    command
}

/// Runs a program with this input to its end. At the deadline it is killed with its process group.
pub(crate) fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<Done> {
    let line = shown(&command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {line}"))?;
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let stdin = child.stdin.take();
    let input = input.to_vec();
    // A program that reads no further closes the pipe, which is its right.
    std::thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(&input)));
    let begun = Instant::now();
    let status = loop {
        // Whatever it left running may hold the pipes open: only both ends make an end.
        if let Some(status) = child.try_wait()?
            && stdout.is_finished()
            && stderr.is_finished()
        {
            break status;
        }
        if signals::asked() || begun.elapsed() >= limit {
            kill_group(&mut child);
            signals::check()?;
            let said = stderr.join().unwrap_or_default();
            bail!(
                "{line}: not done after {} s: {}",
                limit.as_secs_f32(),
                String::from_utf8_lossy(&said).trim()
            );
        }
        std::thread::sleep(PAUSE);
    };
    let stderr = stderr.join().unwrap_or_default();
    Ok(Done {
        line,
        code: status.code().unwrap_or(255),
        stdout: stdout.join().unwrap_or_default(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Runs one of root's tools and expects success.
pub(crate) fn tool<S: AsRef<OsStr>>(
    name: &str,
    args: impl IntoIterator<Item = S>,
    input: &str,
) -> Result<Done> {
    let mut command = program(name);
    command.args(args);
    run(command, input.as_bytes(), TOOL)?.ok()
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn kill_group(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended just now.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error counts.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Kills a process; it may have ended.
pub(crate) fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Whoever has this file has it alone, until it is dropped. Waits for others.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// The same without waiting: nothing, if somebody has it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = lock_file(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn lock_file(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

/// Goes on where a laboratory can be: as root, with the tools, on a kernel and a disk that can do it.
///
/// # Errors
/// What is missing, and the remedy.
pub fn require(dir: &Path) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a laboratory needs root (namespaces, mounts, control groups): run this as root, for instance with sudo -E"
    );
    let missing: Vec<_> = TOOLS.into_iter().filter(|tool| find(tool).is_none()).collect();
    ensure!(missing.is_empty(), "missing: {}: run .ci/setup lab", missing.join(", "));
    let kinds = fs::read_to_string("/proc/filesystems").context("cannot read /proc/filesystems")?;
    ensure!(
        kinds.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay"),
        "this kernel has no overlay file system: modprobe overlay, or use another machine"
    );
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let stat = rustix::fs::statfs(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    ensure!(
        u64::try_from(stat.f_type).ok() != Some(OVERLAYFS_MAGIC),
        "{} lies on an overlay file system, which cannot hold the disks of hosts: set {} to a folder on a disk",
        dir.display(),
        super::place::DIR
    );
    Ok(())
}

fn find(tool: &str) -> Option<PathBuf> {
    PATH.split(':').map(|dir| Path::new(dir).join(tool)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = program("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_goes_in_comes_out() {
        let done = run(shell("cat; echo said >&2; exit 3"), b"\0bytes", TOOL).expect("it runs");
        assert_eq!((done.code, done.stdout.as_slice(), done.stderr.as_str()), (3, &b"\0bytes"[..], "said\n"));
        assert!(done.ok().is_err());
    }

    #[test]
    fn the_deadline_ends_children_too() {
        let limit = Duration::from_millis(50);
        let told = run(shell("sleep 600 & echo why >&2; wait"), b"", limit).expect_err("it hangs");
        assert!(told.to_string().contains("not done after 0.05 s: why"), "{told}");
    }

    #[test]
    fn a_lock_is_held_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deeper/lock");
        let held = lock(&path).expect("free");
        assert!(try_lock(&path).expect("it can be asked").is_none());
        drop(held);
        assert!(try_lock(&path).expect("it can be asked").is_some());
    }
}
