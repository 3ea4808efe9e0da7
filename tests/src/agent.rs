//! One agent: its directories, its process, its log.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::binaries::Binaries;
use crate::process::{self, Process};

/// TCP ports of an agent and of what it runs: mesh, knocks, API; API server, node service.
const TCP_PORTS: [u16; 5] = [7443, 7444, 8443, 6443, 10250];
/// UDP port of the node service.
const UDP_PORT: u16 = 8472;
/// How long an agent may take to end when it is asked to.
pub const STOP_LIMIT: Duration = Duration::from_secs(15);

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its host name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its failure domain.
    pub zone: String,
}

/// An agent, running or not.
#[derive(Debug)]
pub struct Agent {
    /// What it is told.
    pub spec: Spec,
    /// Its state directory.
    pub state: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// The file that holds it while it exists.
    pub hold: PathBuf,
    /// Further options.
    pub options: Vec<String>,
    /// The executor's program, where it is a process of its own beside the agent.
    pub executor: Option<PathBuf>,
    program: PathBuf,
    enrolment: PathBuf,
    process: Option<Process>,
    executing: Option<Process>,
}

impl Agent {
    /// An agent below a site's directory. Nothing is started.
    pub fn new(spec: Spec, dir: &Path, enrolment: &Path, binaries: &Binaries) -> Self {
        let name = &spec.name;
        Self {
            state: dir.join(name),
            log: dir.join("log").join(format!("{name}.log")),
            hold: dir.join("hold").join(name),
            options: Vec::new(),
            executor: None,
            program: binaries.agent.clone(),
            enrolment: enrolment.to_owned(),
            process: None,
            executing: None,
            spec,
        }
    }

    /// The socket of its API.
    pub fn socket(&self) -> PathBuf {
        self.state.join("agent.sock")
    }

    /// Its door over TLS.
    pub fn url(&self) -> String {
        format!("https://{}:8443", self.spec.address)
    }

    /// Starts it, unless it runs.
    ///
    /// # Errors
    /// The system refuses.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        for dir in [self.log.parent(), self.hold.parent()].into_iter().flatten() {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        self.start_executor()?;
        let path = |p: &Path| p.to_string_lossy().into_owned();
        let args = [
            "run".to_owned(),
            format!("--state={}", path(&self.state)),
            format!("--enroll={}", path(&self.enrolment)),
            format!("--address={}", self.spec.address),
            format!("--host-name={}", self.spec.name),
            format!("--zone={}", self.spec.zone),
            format!("--hold={}", path(&self.hold)),
        ];
        let apart = self.executor.as_ref().map(|_| format!("--exec-socket={}", path(&self.exec_socket())));
        let args = args.iter().chain(&apart).chain(&self.options);
        self.process = Some(Process::spawn(&self.program, args, &self.log)?);
        Ok(())
    }

    /// Where its executor answers, if it is a process of its own.
    fn exec_socket(&self) -> PathBuf {
        self.state.join("exec.sock")
    }

    /// Starts its executor, if that is a process of its own and does not run.
    ///
    /// # Errors
    /// The system refuses.
    pub fn start_executor(&mut self) -> Result<()> {
        let Some(program) = &self.executor else { return Ok(()) };
        if self.executing.as_mut().is_some_and(|p| p.ended().is_none()) {
            return Ok(());
        }
        for dir in [Some(self.state.as_path()), self.log.parent()].into_iter().flatten() {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let path = |p: &Path| p.to_string_lossy().into_owned();
        let args = [
            "serve".to_owned(),
            format!("--root={}", path(&self.state.join("exec"))),
            format!("--socket={}", path(&self.exec_socket())),
            format!("--hold={}", path(&self.hold)),
            format!("--enroll={}", path(&self.enrolment)),
            format!("--agent-user={}", rustix::process::geteuid().as_raw()),
            "--units=children".to_owned(),
        ];
        let log = self.log.with_extension("exec.log");
        self.executing = Some(Process::spawn(program, args, &log)?);
        Ok(())
    }

    /// SIGKILL for its executor alone.
    pub fn kill_executor(&mut self) {
        self.executing = None;
    }

    /// Whether its process lives.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|p| p.ended().is_none())
    }

    /// How its process ended by itself; none while it runs, or after it was stopped.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.ended()
    }

    /// Its process's number.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        self.process.as_ref().map(Process::id).with_context(|| format!("{} does not run", self.spec.name))
    }

    /// SIGKILL: what a loss of power is to it. Its stand-ins die with it.
    pub fn kill(&mut self) {
        self.process = None;
        self.executing = None;
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&mut self) {
        if let Some(process) = &mut self.process {
            process.terminate();
        }
        if let Some(process) = &mut self.executing {
            process.terminate();
        }
    }

    /// SIGTERM, and waits; SIGKILL if that does not help.
    ///
    /// # Errors
    /// It had to be killed, or ended with a failure.
    pub fn stop(&mut self) -> Result<()> {
        self.terminate();
        let parts = [self.process.take(), self.executing.take()];
        for mut process in parts.into_iter().flatten() {
            let status =
                process.wait(STOP_LIMIT).with_context(|| format!("{} does not end", self.spec.name))?;
            if !status.success() {
                bail!("{} ended with {status}", self.spec.name);
            }
        }
        Ok(())
    }

    /// Waits until its process ended by itself.
    ///
    /// # Errors
    /// It runs on.
    pub fn wait_ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let process = self.process.as_mut().with_context(|| format!("{} was not started", self.spec.name))?;
        process.wait(limit)
    }

    /// Keeps it from carrying out any step, or lets it go on.
    ///
    /// # Errors
    /// The file cannot be made or removed.
    pub fn set_held(&self, held: bool) -> Result<()> {
        let changed = if held { std::fs::write(&self.hold, "") } else { std::fs::remove_file(&self.hold) };
        changed.with_context(|| format!("cannot change {}", self.hold.display()))
    }

    /// The ports of its address that something else has.
    pub fn taken_ports(&self) -> Vec<String> {
        let address = IpAddr::V4(self.spec.address);
        let tcp = TCP_PORTS.into_iter().filter(|p| TcpListener::bind((address, *p)).is_err());
        let udp = [UDP_PORT].into_iter().filter(|p| UdpSocket::bind((address, *p)).is_err());
        tcp.map(|p| format!("{address}:{p}")).chain(udp.map(|p| format!("{address}:{p}/udp"))).collect()
    }

    /// The directories of clusters that it still has.
    pub fn cluster_dirs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.state.join("exec/clusters"));
        entries.map(|all| all.flatten().map(|e| e.path()).collect()).unwrap_or_default()
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        process::tail(&self.log, lines)
    }
}
