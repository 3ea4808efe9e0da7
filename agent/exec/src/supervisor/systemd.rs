//! Units as transient services of systemd, asked over D-Bus: in a slice of their own, with their output
//! in the journal, started again by systemd itself. They live on when the executor ends; the next one
//! finds them by what marks them, and leaves alone what runs as it should.

mod helper;
mod host;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use qb_drivers::StandIn;
use qb_model::ids::{Digest, Millis, Name};
use tokio::sync::Mutex;
use tokio::time::timeout;
use zbus::{Connection, OwnedObjectPath, Variant};

use super::{UnitHealth, UnitKey, UnitRecord, UnitState};
use crate::dir::Dir;
use crate::progress::StepError;

/// The slice that all units of clusters are in: `systemctl status qb-workloads.slice` shows them.
const SLICE: &str = "qb-workloads.slice";
/// What marks a unit with the record that it runs by, in its environment.
const MARK: &str = "QB_UNIT";
/// How long systemd may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a job may take besides the unit's own time to stop.
const JOB: Duration = Duration::from_secs(30);
/// Characters of what a service says of itself that are told on.
const SAYS: usize = 160;
/// The number of systemd: no process outlives it.
const INIT: &str = "1";

type Properties<'a> = Vec<(&'a str, Variant<'a>)>;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn try_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload(&self) -> zbus::Result<()>;
    fn get_unit_file_state(&self, name: &str) -> zbus::Result<String>;
    fn enable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
        force: bool,
    ) -> zbus::Result<(bool, Vec<(String, String, String)>)>;
    fn disable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
    ) -> zbus::Result<Vec<(String, String, String)>>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String);
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn state_change_timestamp(&self) -> zbus::Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn fragment_path(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn need_daemon_reload(&self) -> zbus::Result<bool>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Service {
    #[zbus(property(emits_changed_signal = "false"), name = "NRestarts")]
    fn n_restarts(&self) -> zbus::Result<u32>;
    #[zbus(property(emits_changed_signal = "false"), name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn environment(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn result(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_status(&self) -> zbus::Result<i32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn status_text(&self) -> zbus::Result<String>;
}

/// Why systemd did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemdError {
    /// It cannot be asked.
    #[error("systemd cannot be asked over D-Bus: {0}")]
    Bus(zbus::Error),
    /// It does not answer.
    #[error("systemd does not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It refuses.
    #[error("systemd refuses {unit}: {why}")]
    Refused {
        /// The unit.
        unit: String,
        /// Its words.
        why: String,
    },
    /// The job did not end well.
    #[error("the job of {unit} ended as {result}")]
    Job {
        /// The unit.
        unit: String,
        /// Its word.
        result: String,
    },
}

impl From<SystemdError> for StepError {
    fn from(error: SystemdError) -> Self {
        let remedy = match &error {
            SystemdError::Bus(_) | SystemdError::Late(_) => {
                "install and start D-Bus: `apt-get install dbus` or `dnf install dbus`, then `systemctl start dbus`; it is tried again by itself".to_owned()
            }
            SystemdError::Refused { unit, .. } | SystemdError::Job { unit, .. } => {
                format!("`systemctl status '{unit}'` and `journalctl -u '{unit}'` show why; it is tried again")
            }
        };
        Self::new(error.to_string(), remedy)
    }
}

/// The units of systemd.
pub(crate) struct Systemd {
    program: PathBuf,
    /// The connection, until it breaks.
    bus: Mutex<Option<Connection>>,
    #[cfg(test)]
    reconnects: bool,
}

/// How a service fares, for people.
#[derive(Debug)]
pub(crate) struct Fate {
    /// Its main process, if it runs.
    pub(crate) pid: Option<u32>,
    result: String,
    status: i32,
    restarts: u32,
    says: String,
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ended = self.result != "success";
        if ended {
            write!(f, "its unit ended with {}, status {}", self.result, self.status)?;
        } else {
            write!(f, "its unit {}", if self.pid.is_some() { "runs" } else { "does not run" })?;
        }
        if self.restarts > 0 {
            write!(f, ", was started again {} times", self.restarts)?;
        }
        let says: String = self.says.chars().filter(|c| !c.is_control()).take(SAYS).collect();
        if says.is_empty() { Ok(()) } else { write!(f, ", says: {says}") }
    }
}

/// A unit as systemd has it.
#[derive(Debug)]
struct Seen {
    health: UnitHealth,
    /// The mark in its environment.
    mark: Option<Digest>,
    active: String,
}

impl Systemd {
    /// Nothing is asked yet. `program` contains the stand-ins.
    pub(crate) fn new(program: PathBuf) -> Self {
        Self {
            program,
            bus: Mutex::new(None),
            #[cfg(test)]
            reconnects: true,
        }
    }

    /// Runs a unit from now on. One that runs by the same record is adopted as it is.
    pub(super) async fn run(
        &self,
        key: &UnitKey,
        dir: &Dir,
        record: &UnitRecord,
    ) -> Result<(), SystemdError> {
        let name = unit_name(key);
        if let Some(seen) = self.seen(key.stand_in.name(), &name).await? {
            let lives = matches!(seen.active.as_str(), "active" | "activating" | "reloading");
            if lives && seen.mark == Some(record.mark()) {
                tracing::info!(unit = name, "it runs already, and is left as it is");
                return Ok(());
            }
            self.stop_named(&name).await?;
        }
        let properties = properties(&self.program, key, dir.path(), record);
        let manager = self.manager().await?;
        self.job(&name, &manager, manager.start_transient_unit(&name, "fail", &properties, &[])).await
    }

    /// Stops a unit; returns when its processes are gone.
    pub(super) async fn stop(&self, key: &UnitKey) -> Result<(), SystemdError> {
        self.stop_named(&unit_name(key)).await
    }

    /// Asks for a restart and does not wait for it: it may be this program's own. With `if_up` a unit that
    /// was stopped stays so.
    pub(crate) async fn restart(&self, name: &str, if_up: bool) -> Result<(), SystemdError> {
        let manager = self.manager().await?;
        let ask = async {
            match if_up {
                true => manager.try_restart_unit(name, "replace").await,
                false => manager.restart_unit(name, "replace").await,
            }
        };
        match timeout(ANSWER, ask).await {
            Err(_) => Err(SystemdError::Late(ANSWER)),
            Ok(Err(error)) => Err(self.broken(name, error).await),
            Ok(Ok(_)) => Ok(()),
        }
    }

    /// How a service fares; none if it is not loaded.
    pub(crate) async fn fate(&self, name: &str) -> Result<Option<Fate>, SystemdError> {
        let manager = self.manager().await?;
        let bus = manager.inner().connection().clone();
        let ask = async {
            let service = ServiceProxy::builder(&bus).path(manager.get_unit(name).await?).build().await?;
            Ok(Fate {
                pid: Some(service.main_pid().await?).filter(|pid| *pid != 0),
                result: service.result().await?,
                status: service.exec_main_status().await?,
                restarts: service.n_restarts().await?,
                says: service.status_text().await?,
            })
        };
        match timeout(ANSWER, ask).await {
            Err(_) => Err(SystemdError::Late(ANSWER)),
            Ok(Err(error)) if is_no_such_unit(&error) => Ok(None),
            Ok(Err(error)) => Err(self.broken(name, error).await),
            Ok(Ok(fate)) => Ok(Some(fate)),
        }
    }

    async fn stop_named(&self, name: &str) -> Result<(), SystemdError> {
        let manager = self.manager().await?;
        match self.job(name, &manager, manager.stop_unit(name, "replace")).await {
            Err(SystemdError::Refused { why, .. }) if why.contains(NO_SUCH_UNIT) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                // One that failed is kept to be looked at, which would be in the way of its successor.
                // It is gone in most cases.
                let _ = manager.reset_failed_unit(name).await;
                Ok(())
            }
        }
    }

    /// The units of a cluster.
    pub(super) async fn look(&self, cluster: &Name) -> Result<Vec<(UnitHealth, Digest)>, SystemdError> {
        let mut all = Vec::new();
        for stand_in in [StandIn::ApiServer, StandIn::NodeService] {
            let key = UnitKey { cluster: cluster.clone(), stand_in };
            let seen = self.seen(stand_in.name(), &unit_name(&key)).await?;
            all.extend(seen.and_then(|seen| Some((seen.health, seen.mark?))));
        }
        Ok(all)
    }

    /// How units of the host are, those that run or are started again.
    pub(crate) async fn health(&self, names: &[&str]) -> Result<Vec<UnitHealth>, SystemdError> {
        let mut all = Vec::new();
        for name in names {
            let label = name.strip_suffix(".service").unwrap_or(name);
            all.extend(self.seen(label, name).await?.map(|seen| seen.health));
        }
        Ok(all)
    }

    /// A unit, unless it is not there or has ended for good.
    async fn seen(&self, label: &str, name: &str) -> Result<Option<Seen>, SystemdError> {
        let manager = self.manager().await?;
        let bus = manager.inner().connection().clone();
        let ask = async {
            let path = match manager.get_unit(name).await {
                Err(error) if is_no_such_unit(&error) => return Ok(None),
                path => path?,
            };
            let unit = UnitProxy::builder(&bus).path(path.clone()).build().await?;
            let service = ServiceProxy::builder(&bus).path(path).build().await?;
            let active = unit.active_state().await?;
            let state = match active.as_str() {
                "active" | "reloading" => UnitState::Running,
                "activating" => UnitState::Restarting,
                "deactivating" => UnitState::Stopping,
                _ => return Ok(None),
            };
            let health = UnitHealth {
                name: label.to_owned(),
                state,
                restarts: service.n_restarts().await?,
                since: Millis(unit.state_change_timestamp().await? / 1_000),
                pid: Some(service.main_pid().await?).filter(|pid| *pid != 0),
            };
            let environment = service.environment().await?;
            let mark =
                environment.iter().find_map(|line| line.strip_prefix(MARK)?.strip_prefix('=')?.parse().ok());
            Ok(Some(Seen { health, mark, active }))
        };
        let asked = timeout(ANSWER, ask).await.map_err(|_| SystemdError::Late(ANSWER));
        match asked {
            // It ended between two questions.
            Ok(Err(error)) if is_no_such_unit(&error) => Ok(None),
            Ok(Err(error)) => Err(self.broken(name, error).await),
            Ok(Ok(seen)) => Ok(seen),
            Err(late) => Err(late),
        }
    }

    /// Waits for the end of the job that a call begins; it must end well.
    async fn job(
        &self,
        name: &str,
        manager: &ManagerProxy<'_>,
        begin: impl Future<Output = zbus::Result<OwnedObjectPath>>,
    ) -> Result<(), SystemdError> {
        match self.job_within(name, manager, begin, JOB).await? {
            result if result == "done" => Ok(()),
            result => Err(SystemdError::Job { unit: name.to_owned(), result }),
        }
    }

    /// Waits for the end of the job that a call begins: systemd's word for how it ended.
    async fn job_within(
        &self,
        name: &str,
        manager: &ManagerProxy<'_>,
        begin: impl Future<Output = zbus::Result<OwnedObjectPath>>,
        limit: Duration,
    ) -> Result<String, SystemdError> {
        let wait = async {
            // Before the job is begun: it may end at once.
            let mut removed = manager.receive_job_removed().await?;
            let job = begin.await?;
            while let Some(signal) = removed.next().await {
                let args = signal.args()?;
                if *args.job() == job {
                    return Ok(Some(args.result().clone()));
                }
            }
            Ok(None)
        };
        match timeout(limit, wait).await {
            Err(_) => Err(SystemdError::Late(limit)),
            Ok(Err(error)) => Err(self.broken(name, error).await),
            Ok(Ok(result)) => Ok(result.unwrap_or_else(|| "lost: the bus ended".to_owned())),
        }
    }

    /// What an error means. A connection that broke is made anew by the next question.
    async fn broken(&self, name: &str, error: zbus::Error) -> SystemdError {
        match error {
            zbus::Error::MethodError(code, text, _) => {
                let why = format!("{code}: {}", text.unwrap_or_default());
                SystemdError::Refused { unit: name.to_owned(), why }
            }
            // The bus says no; it is well itself.
            zbus::Error::FDO(error) => {
                SystemdError::Refused { unit: name.to_owned(), why: error.to_string() }
            }
            error => {
                #[cfg(test)]
                if !self.reconnects {
                    return SystemdError::Bus(error);
                }
                *self.bus.lock().await = None;
                SystemdError::Bus(error)
            }
        }
    }

    async fn manager(&self) -> Result<ManagerProxy<'static>, SystemdError> {
        let mut held = self.bus.lock().await;
        let bus = match &*held {
            Some(bus) => bus.clone(),
            None => {
                let made = timeout(ANSWER, Connection::system()).await;
                let made = made.map_err(|_| SystemdError::Late(ANSWER))?.map_err(SystemdError::Bus)?;
                let manager = ManagerProxy::new(&made).await.map_err(SystemdError::Bus)?;
                // systemd tells of jobs those who ask for it.
                manager.subscribe().await.map_err(SystemdError::Bus)?;
                held.insert(made).clone()
            }
        };
        ManagerProxy::new(&bus).await.map_err(SystemdError::Bus)
    }
}

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

fn is_no_such_unit(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::MethodError(code, _, _) => code.as_str() == NO_SUCH_UNIT,
        // An object of a unit that was unloaded is unknown as well.
        zbus::Error::FDO(error) => matches!(**error, zbus::fdo::Error::UnknownObject(_)),
        _ => false,
    }
}

/// `qb-CLUSTER-UNIT.service`, escaped as systemd does it: everything but letters, digits, `:`, `_` and
/// `.` becomes `\xNN`, so that two clusters never share a name.
fn unit_name(key: &UnitKey) -> String {
    format!("qb-{}-{}.service", escaped(&key.cluster.to_string()), key.stand_in.name())
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for (at, byte) in text.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b":_".contains(&byte) || (byte == b'.' && at > 0);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// What the unit is. systemd escapes what it writes of it.
fn properties<'a>(program: &Path, key: &UnitKey, dir: &Path, record: &UnitRecord) -> Properties<'a> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let micros = |millis: u32| Variant::U64(u64::from(millis) * 1_000);
    let mut argv = vec![text(program), "stand-in".to_owned(), key.stand_in.name().to_owned()];
    argv.extend(["--config".to_owned(), record.config.to_string(), "--parent".to_owned(), INIT.to_owned()]);
    let exec = vec![(text(program), argv, false)];
    let word = |word: &str| Variant::from(word.to_owned());
    vec![
        ("Description", Variant::from(format!("qb: {} of cluster {}", key.stand_in.name(), key.cluster))),
        ("Type", word("exec")),
        ("ExecStart", Variant::from(exec)),
        ("WorkingDirectory", Variant::from(text(dir))),
        ("Environment", Variant::from(vec![format!("{MARK}={}", record.mark())])),
        ("Slice", word(SLICE)),
        ("Restart", word("always")),
        ("RestartUSec", micros(record.defaults.restart_first_ms)),
        // Slowed, never given up: what it waits for may come back.
        ("StartLimitIntervalUSec", Variant::U64(0)),
        ("TimeoutStopUSec", micros(record.defaults.stop_ms)),
        ("StandardOutput", word("journal")),
        ("StandardError", word("journal")),
        ("NoNewPrivileges", Variant::Bool(true)),
        ("ProtectSystem", word("strict")),
        ("ReadWritePaths", Variant::from(vec![text(dir)])),
        ("LimitCORE", Variant::U64(0)),
        ("CollectMode", word("inactive-or-failed")),
    ]
}

#[cfg(test)]
#[path = "systemd_tests.rs"]
mod tests;
