//! Child processes that cannot outlive this one: killed when dropped, and by the system if this
//! program is killed itself.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};

/// The word with which this program starts itself, to become a child that dies with its parent.
const GUARDED: &str = "__guarded";
/// A program beside a test's, which starts itself so in its place: tests have a `main` of their own.
const STAND_BY: &str = "qb-smoke";
/// Pause between two looks at a child that ends.
const PAUSE: Duration = Duration::from_millis(4);

/// Bytes of a log that are looked through for its last lines.
const TAIL_BYTES: u64 = 32 * 1024;

static ENTERED: AtomicBool = AtomicBool::new(false);

/// The first thing in `main`: where this program was started as `__guarded PARENT PROGRAM ARGS`, asks
/// the system to kill it together with its parent and becomes that program.
pub fn enter() {
    ENTERED.store(true, Ordering::SeqCst);
    let mut args = std::env::args_os().skip(1);
    if args.next().as_deref() != Some(OsStr::new(GUARDED)) {
        return;
    }
    let parent = args.next().and_then(|p| p.to_str()?.parse::<i32>().ok());
    let (Some(parent), Some(program)) = (parent, args.next()) else {
        eprintln!("{GUARDED} takes PARENT PROGRAM ARGS");
        std::process::exit(2);
    };
    let guarded = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let orphan = rustix::process::getppid().map(|p| p.as_raw_nonzero().get()) != Some(parent);
    if guarded.is_err() || orphan {
        eprintln!("the program that started this is gone");
        std::process::exit(1);
    }
    let why = Command::new(&program).args(args).exec();
    eprintln!("cannot run {}: {why}", program.to_string_lossy());
    std::process::exit(1);
}

/// The program that becomes a guarded child: this one, or the one that stands by for tests.
fn guard() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    if ENTERED.load(Ordering::SeqCst) {
        return Ok(own);
    }
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join(STAND_BY)).find(|path| path.is_file());
    beside.with_context(|| format!("{STAND_BY} is missing: cargo build -p qb-tests --bins"))
}

/// A running child. Start it on a thread that lives as long: it dies with the thread that started it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a program in a process group of its own, so that a Ctrl-C at the terminal reaches this
    /// program alone; its output is appended to `log`.
    ///
    /// # Errors
    /// The log cannot be opened, or the program cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = S>,
        log: &Path,
    ) -> Result<Self> {
        let log_file = || File::options().create(true).append(true).open(log);
        let (out, err) = (log_file(), log_file());
        let child = Command::new(guard()?)
            .arg(GUARDED)
            .arg(std::process::id().to_string())
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.with_context(|| format!("cannot write {}", log.display()))?)
            .stderr(err.with_context(|| format!("cannot write {}", log.display()))?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, ended: None })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap_or_default();
        }
        self.ended
    }

    /// Asks it to end.
    pub fn terminate(&mut self) {
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw)
        {
            // It may end at this moment, which is what is wanted.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }

    /// Ends it as a loss of power would, and waits until the system has taken it away.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            // Both fail only if it has ended.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It does not, in time.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if begun.elapsed() >= limit {
                bail!("process {} still runs after {} s", self.id(), limit.as_secs_f32());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log, or why it cannot be read.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = end_of(log).unwrap_or_else(|e| format!("cannot read {}: {e}", log.display()));
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Processes whose working directory or command line is below a directory, as `PID COMMAND`. None is
/// left when a site is stopped.
pub fn below(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit())) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let inside = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        let named = command.split(' ').any(|word| Path::new(word).starts_with(dir));
        if pid != own && (inside || named) && !command.is_empty() {
            found.push(format!("{pid} {}", command.trim_end()));
        }
    }
    found
}
