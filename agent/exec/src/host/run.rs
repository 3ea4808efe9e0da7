//! Starts programs on the host: the only file of the helper that does. A program is of the cluster's
//! verified tree or of a fixed list of the system's; it gets an argument vector, an environment of our
//! own, a fixed directory, a limit of time, and its output is bounded and redacted.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use qb_drivers::RelPath;

use super::redact::Redactor;
use super::tell::Tell;
use crate::limits::{OUTPUT_BYTES, SAID_BYTES};
use crate::progress::StepError;

/// The system's directories of programs, in the order in which they are looked into.
const SYSTEM: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];
/// How long a program usually may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes that are read at a time.
const CHUNK: usize = 8 * 1024;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Of the tree that the cluster runs from: `current/bin/NAME`.
    Tree(&'static str),
    /// Of the system.
    System(SystemProgram),
}

/// The system's programs that may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SystemProgram {
    /// `iptables-save`
    IptablesSave,
    /// `iptables-restore`
    IptablesRestore,
    /// `ip6tables-save`
    Ip6tablesSave,
    /// `ip6tables-restore`
    Ip6tablesRestore,
    /// `modprobe`
    Modprobe,
    /// `nft`
    Nft,
    /// `iptables-legacy-save`
    IptablesLegacySave,
    /// `iptables-legacy-restore`
    IptablesLegacyRestore,
    /// `ip6tables-legacy-save`
    Ip6tablesLegacySave,
    /// `ip6tables-legacy-restore`
    Ip6tablesLegacyRestore,
}

impl SystemProgram {
    /// Its name, and the package that has it.
    pub(crate) fn of(self) -> (&'static str, &'static str) {
        match self {
            Self::IptablesSave => ("iptables-save", "iptables"),
            Self::IptablesRestore => ("iptables-restore", "iptables"),
            Self::Ip6tablesSave => ("ip6tables-save", "iptables"),
            Self::Ip6tablesRestore => ("ip6tables-restore", "iptables"),
            Self::Modprobe => ("modprobe", "kmod"),
            Self::Nft => ("nft", "nftables"),
            Self::IptablesLegacySave => ("iptables-legacy-save", "iptables"),
            Self::IptablesLegacyRestore => ("iptables-legacy-restore", "iptables"),
            Self::Ip6tablesLegacySave => ("ip6tables-legacy-save", "iptables"),
            Self::Ip6tablesLegacyRestore => ("ip6tables-legacy-restore", "iptables"),
        }
    }
}

/// A program with everything that it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) program: Program,
    /// Of which tree of the cluster's, if it is of a tree: none where it is the selected one.
    pub(crate) tree: Option<RelPath>,
    pub(crate) args: Vec<String>,
    /// Its standard input.
    pub(crate) input: Vec<u8>,
    /// How long it may take.
    pub(crate) limit: Duration,
    /// Bytes of its standard output; more is a failure.
    pub(crate) most: usize,
    /// Whether what it says is told while it runs.
    pub(crate) told: bool,
}

impl Call {
    /// A program with arguments: no input, the usual limits, nothing told.
    pub(crate) fn new<A: Into<String>>(program: Program, args: impl IntoIterator<Item = A>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self { program, tree: None, args, input: Vec::new(), limit: LIMIT, most: OUTPUT_BYTES, told: false }
    }

    /// The same of the system.
    pub(crate) fn system<A: Into<String>>(program: SystemProgram, args: impl IntoIterator<Item = A>) -> Self {
        Self::new(Program::System(program), args)
    }

    /// The same of the cluster's tree.
    pub(crate) fn tree<A: Into<String>>(program: &'static str, args: impl IntoIterator<Item = A>) -> Self {
        Self::new(Program::Tree(program), args)
    }

    /// The same of a tree that is not selected.
    pub(crate) fn of_tree(self, tree: Option<&RelPath>) -> Self {
        Self { tree: tree.cloned(), ..self }
    }

    /// With this on its standard input.
    pub(crate) fn input(self, input: impl Into<Vec<u8>>) -> Self {
        Self { input: input.into(), ..self }
    }

    /// With another limit of time.
    pub(crate) fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// With another bound of its standard output.
    pub(crate) fn most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Told while it runs.
    pub(crate) fn told(self) -> Self {
        Self { told: true, ..self }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        match self.program {
            Program::Tree(name) => name,
            Program::System(program) => program.of().0,
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Output {
    /// Its status; none if a signal ended it.
    pub(crate) status: Option<i32>,
    /// Its standard output as it came: for parsers, never to be shown.
    pub(crate) stdout: Vec<u8>,
    /// The end of both outputs, redacted: to be shown.
    pub(crate) said: String,
}

impl Output {
    /// Whether it says that it did it.
    pub(crate) fn is_ok(&self) -> bool {
        self.status == Some(0)
    }

    /// Its standard output, if it did it.
    ///
    /// # Errors
    /// What it said, `doing` that, with what to do.
    pub(crate) fn done(self, doing: &str, remedy: &str) -> Result<Vec<u8>, StepError> {
        if self.is_ok() {
            return Ok(self.stdout);
        }
        let status = self.status.map_or_else(|| "a signal".to_owned(), |status| format!("status {status}"));
        let said = self.said.trim();
        let said = if said.is_empty() { "and said nothing" } else { said };
        Err(StepError::new(format!("{doing} ended with {status}: {said}"), remedy))
    }
}

/// Starts programs; in tests a table of answers.
pub(crate) trait Programs: Send + Sync {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// It is not there, it cannot be started, it took too long or said too much. A status that is not 0
    /// is no error here.
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Output, StepError>>;
}

/// The host's programs.
pub(crate) struct HostPrograms {
    /// `/`
    pub(crate) root: PathBuf,
    /// `current/bin` of the cluster, absolute.
    pub(crate) bin: PathBuf,
    /// Where programs run.
    pub(crate) cwd: PathBuf,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) tell: Tell,
}

impl Programs for HostPrograms {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Output, StepError>> {
        Box::pin(async move {
            let program = self.find(&call)?;
            let name = call.name();
            let failed = |e: io::Error| {
                StepError::new(
                    format!("{} cannot be run: {e}", program.display()),
                    "look at the disk of this machine (`df -h`, `dmesg`)",
                )
            };
            let mut child = self.command(&program, &call).spawn().map_err(failed)?;
            match timeout(call.limit, self.attend(&mut child, &call)).await {
                Ok(Ok(output)) => Ok(output),
                Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => Err(StepError::new(
                    format!("{name} said more than {} bytes", call.most),
                    "the step is tried again; if it stays, `qb support bundle`",
                )),
                Ok(Err(error)) => Err(failed(error)),
                Err(_) => {
                    // Its whole group goes when the unit ends; the program itself now.
                    let _ = child.kill().await;
                    Err(StepError::new(
                        format!("{name} took more than {} s", call.limit.as_secs()),
                        "the step is tried again; look at the load and the disks of this machine",
                    ))
                }
            }
        })
    }
}

impl HostPrograms {
    fn find(&self, call: &Call) -> Result<PathBuf, StepError> {
        match call.program {
            Program::Tree(name) => {
                let path = self.bin_of(call).join(name);
                let missing = || {
                    StepError::new(
                        format!("the bundle has no program bin/{name}"),
                        "build the bundle again with it, and `qb bundle push` it",
                    )
                };
                if path.is_file() { Ok(path) } else { Err(missing()) }
            }
            Program::System(program) => {
                let (name, package) = program.of();
                let places = SYSTEM.iter().map(|dir| self.root.join(dir).join(name));
                places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
                    StepError::new(
                        format!("this machine has no program {name}"),
                        format!("install the package {package} of its distribution; the step is tried again"),
                    )
                })
            }
        }
    }

    /// Where programs of the call's tree lie.
    fn bin_of(&self, call: &Call) -> PathBuf {
        // Where programs run is the cluster's directory.
        call.tree.as_ref().map_or_else(|| self.bin.clone(), |tree| self.cwd.join(tree.as_str()).join("bin"))
    }

    fn command(&self, program: &Path, call: &Call) -> Command {
        let system = SYSTEM.map(|dir| format!("/{dir}")).join(":");
        let mut command = Command::new(program);
        command
            .args(&call.args)
            .env_clear()
            .env("PATH", format!("{}:{system}", self.bin_of(call).display()))
            .env("LC_ALL", "C")
            // kubectl keeps what it learns of a server below it.
            .env("HOME", &self.cwd)
            .env("ETCDCTL_API", "3")
            .current_dir(&self.cwd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Feeds it and hears it until it ends.
    async fn attend(&self, child: &mut Child, call: &Call) -> io::Result<Output> {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            let Some(mut stdin) = stdin else { return Ok(()) };
            match stdin.write_all(&call.input).await {
                // It does not read it: how it ends says more.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                written => written,
            }
        };
        let said = std::sync::Mutex::new(Tail::default());
        let hear = |bytes: &[u8]| {
            // Nothing panics while it is held.
            let mut said = said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            said.push(bytes);
            if call.told {
                self.tell.tell(&said.last_line(&self.redactor));
            }
        };
        let (_, stdout, _) = tokio::try_join!(feed, take(stdout, call.most, &hear), async {
            // Not kept whole: only its end is shown.
            drain(stderr, &hear).await
        })?;
        let status = child.wait().await?.code();
        let said = said.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Output { status, stdout, said: self.redactor.clean(&said.bytes) })
    }
}

/// The end of what was said.
#[derive(Default)]
struct Tail {
    bytes: zeroize::Zeroizing<Vec<u8>>,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let over = self.bytes.len().saturating_sub(SAID_BYTES);
        if over > 0 {
            // A whole line less, so that no secret is cut in its middle.
            let cut = self.bytes[over..].iter().position(|b| *b == b'\n').map_or(over, |at| over + at + 1);
            self.bytes.drain(..cut);
        }
    }

    /// The last line that is whole. All of it is cleaned: a secret may go over several lines.
    fn last_line(&self, redactor: &Redactor) -> String {
        let whole = self.bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0);
        let text = redactor.clean(&self.bytes[..whole]);
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
    }
}

async fn take(
    from: Option<impl AsyncRead + Unpin>,
    most: usize,
    hear: &impl Fn(&[u8]),
) -> io::Result<Vec<u8>> {
    let (mut all, mut chunk) = (Vec::new(), [0; CHUNK]);
    let Some(mut from) = from else { return Ok(all) };
    loop {
        match from.read(&mut chunk).await? {
            0 => return Ok(all),
            n => {
                hear(&chunk[..n]);
                all.extend_from_slice(&chunk[..n]);
            }
        }
        if all.len() > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

async fn drain(from: Option<impl AsyncRead + Unpin>, hear: &impl Fn(&[u8])) -> io::Result<()> {
    let mut chunk = [0; CHUNK];
    let Some(mut from) = from else { return Ok(()) };
    loop {
        match from.read(&mut chunk).await? {
            0 => return Ok(()),
            n => hear(&chunk[..n]),
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
