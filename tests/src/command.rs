//! Running `qb`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::process::Process;
use crate::signals;

/// How long any command may take: longer than all that is waited for here.
const LIMIT: Duration = Duration::from_secs(90);
/// Pause between two looks at a command that runs.
const PAUSE: Duration = Duration::from_millis(2);

/// `qb` with a configuration.
#[derive(Debug, Clone)]
pub struct Qb {
    /// The program.
    pub program: PathBuf,
    /// Its `config.toml`.
    pub config: PathBuf,
    /// Issuers that this computer trusts, PEM, where a relay has a certificate; else the machine's own.
    pub roots: Option<PathBuf>,
    /// The kubectl that `qb kubectl` runs; else the one of the PATH.
    pub kubectl: Option<PathBuf>,
}

/// How a run of `qb` ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command line.
    pub line: String,
    /// The exit code; 255 if a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said besides.
    pub stderr: String,
}

impl Ran {
    /// The printed JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("{}: no JSON: {}", self.line, self.stdout))
    }

    /// Goes on if it ended with this code.
    ///
    /// # Errors
    /// Another code; says what it printed.
    pub fn ended(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "{} ended with {}, not {code}: {} {}",
            self.line,
            self.code,
            self.stderr.trim(),
            self.stdout.trim()
        );
        Ok(self)
    }
}

impl Qb {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for name in ["QB_SITE", "QB_DOOR", "QB_KEY", "QB_OUTPUT", "QB_WAIT"] {
            command.env_remove(name);
        }
        if let Some(roots) = &self.roots {
            command.env("SSL_CERT_FILE", roots);
        }
        if let Some(kubectl) = &self.kubectl {
            command.env("KUBECTL", kubectl);
        }
        command.args(args).env("QB_CONFIG", &self.config).env("QB_NO_INPUT", "1").stdin(Stdio::null());
        command
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// It cannot be started, hangs, or this program was asked to end.
    pub fn run(&self, args: &[&str]) -> Result<Ran> {
        let line = format!("qb {}", args.join(" "));
        let mut child = self
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let stdout = reader(child.stdout.take());
        let stderr = reader(child.stderr.take());
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if signals::asked() || begun.elapsed() >= LIMIT {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                signals::check()?;
                bail!("{line} hangs: stopped after {} s", LIMIT.as_secs());
            }
            std::thread::sleep(PAUSE);
        };
        Ok(Ran { line, code: status.code().unwrap_or(255), stdout: text(stdout), stderr: text(stderr) })
    }

    /// Runs it and expects success.
    ///
    /// # Errors
    /// It failed.
    pub fn ok(&self, args: &[&str]) -> Result<Ran> {
        self.run(args)?.ended(0)
    }

    /// Runs it with `-o json` and expects success and a document.
    ///
    /// # Errors
    /// It failed, or printed no JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        self.ok(&[args, &["-o", "json"]].concat())?.json()
    }

    /// Runs it with its output going where this program's goes.
    ///
    /// # Errors
    /// It failed, or this program was asked to end.
    pub fn show(&self, args: &[&str]) -> Result<()> {
        let status = self.command(args).status().context("cannot start qb")?;
        signals::check()?;
        ensure!(status.success(), "qb {} ended with {status}", args.join(" "));
        Ok(())
    }

    /// Starts it and lets it run; what it prints goes to a file.
    ///
    /// # Errors
    /// The system refuses.
    pub fn start(&self, args: &[&str], log: &Path) -> Result<Process> {
        let config = self.config.to_string_lossy();
        let set = format!("QB_CONFIG={config}");
        let program = self.program.to_string_lossy();
        let through = [set.as_str(), "QB_NO_INPUT=1", &program];
        Process::spawn(Path::new("/usr/bin/env"), through.iter().chain(args), log)
    }

    /// The directory of keys.
    pub fn keys(&self) -> PathBuf {
        self.config.parent().unwrap_or(Path::new(".")).join("keys")
    }
}

type Reader = std::thread::JoinHandle<String>;

fn reader(pipe: Option<impl Read + Send + 'static>) -> Option<Reader> {
    let mut pipe = pipe?;
    Some(std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error counts.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }))
}

fn text(reader: Option<Reader>) -> String {
    reader.and_then(|r| r.join().ok()).unwrap_or_default()
}
