//! Against a systemd of our own making, which keeps the rules of the real one's interface: jobs end by a
//! signal, a unit that is there cannot be started once more, one that is gone is unknown.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex as StdMutex};

use qb_drivers::config::UnitDefaults;
use zbus::object_server::SignalEmitter;
use zbus::{OwnedVariant, connection, interface};

use super::*;

/// A unit that runs: what it was started with.
#[derive(Debug, Clone)]
struct Running {
    environment: Vec<String>,
    argv: Vec<String>,
    folder: String,
    names: Vec<String>,
}

#[derive(Default)]
struct World {
    units: BTreeMap<String, Running>,
    /// Names in the order of what was done with them.
    done: Vec<String>,
    jobs: u32,
}

#[derive(Clone, Default)]
struct Fake(Arc<StdMutex<World>>);

fn object(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("/org/freedesktop/systemd1/unit/{}", name.chars().map(plain).collect::<String>())
}

/// Errors by the names that systemd gives them.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum Fault {
    #[zbus(error)]
    Bus(zbus::Error),
    NoSuchUnit(String),
    UnitExists(String),
}

fn no_such_unit(name: &str) -> Fault {
    Fault::NoSuchUnit(format!("Unit {name} not loaded."))
}

impl Fake {
    fn asked(&self, what: &str, name: String, mode: &str) -> Result<OwnedObjectPath, Fault> {
        assert_eq!(mode, "replace");
        let mut world = self.0.lock().unwrap();
        if !world.units.contains_key(&name) {
            return Err(no_such_unit(&name));
        }
        world.done.push(format!("{what} {name}"));
        Ok("/org/freedesktop/systemd1/job/9".try_into().unwrap())
    }

    async fn job(
        &self,
        emitter: &SignalEmitter<'_>,
        what: &str,
        name: &str,
        result: &str,
    ) -> OwnedObjectPath {
        let id = {
            let mut world = self.0.lock().unwrap();
            world.done.push(format!("{what} {name}"));
            world.jobs += 1;
            world.jobs
        };
        let job: OwnedObjectPath = format!("/org/freedesktop/systemd1/job/{id}").try_into().unwrap();
        Self::job_removed(emitter, id, job.clone(), name.to_owned(), result.to_owned()).await.unwrap();
        job
    }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Fake {
    async fn subscribe(&self) {}

    async fn start_transient_unit(
        &self,
        name: String,
        mode: String,
        properties: Vec<(String, OwnedVariant)>,
        _aux: Vec<(String, Vec<(String, OwnedVariant)>)>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
        #[zbus(object_server)] server: &zbus::ObjectServer,
    ) -> Result<OwnedObjectPath, Fault> {
        assert_eq!(mode, "fail");
        if self.0.lock().unwrap().units.contains_key(&name) {
            return Err(Fault::UnitExists(format!("Unit {name} was already loaded")));
        }
        let names = properties.iter().map(|(name, _)| name.clone()).collect();
        let all: HashMap<String, OwnedVariant> = properties.into_iter().collect();
        let take = |name: &str| all[name].try_clone().unwrap();
        let exec: Vec<(String, Vec<String>, bool)> = take("ExecStart").try_into().unwrap();
        let running = Running {
            environment: take("Environment").try_into().unwrap(),
            argv: exec[0].1.clone(),
            folder: match all.get("WorkingDirectory") {
                Some(folder) => folder.try_clone().unwrap().try_into().unwrap(),
                None => String::new(),
            },
            names,
        };
        let result = if running.argv[0].ends_with("missing") { "failed" } else { "done" };
        if result == "done" {
            server.at(object(&name), FakeUnit).await?;
            server.at(object(&name), FakeService(running.environment.clone())).await?;
            self.0.lock().unwrap().units.insert(name.clone(), running);
        }
        Ok(self.job(&emitter, "start", &name, result).await)
    }

    async fn stop_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
        #[zbus(object_server)] server: &zbus::ObjectServer,
    ) -> Result<OwnedObjectPath, Fault> {
        if self.0.lock().unwrap().units.remove(&name).is_none() {
            return Err(no_such_unit(&name));
        }
        server.remove::<FakeUnit, _>(object(&name)).await?;
        server.remove::<FakeService, _>(object(&name)).await?;
        Ok(self.job(&emitter, "stop", &name, "done").await)
    }

    async fn restart_unit(&self, name: String, mode: String) -> Result<OwnedObjectPath, Fault> {
        self.asked("restart", name, &mode)
    }

    async fn try_restart_unit(&self, name: String, mode: String) -> Result<OwnedObjectPath, Fault> {
        self.asked("try-restart", name, &mode)
    }

    async fn reset_failed_unit(&self, name: String) -> Result<(), Fault> {
        Err(no_such_unit(&name))
    }

    async fn get_unit(&self, name: String) -> Result<OwnedObjectPath, Fault> {
        if self.0.lock().unwrap().units.contains_key(&name) {
            Ok(object(&name).try_into().unwrap())
        } else {
            Err(no_such_unit(&name))
        }
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

struct FakeUnit;

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl FakeUnit {
    #[zbus(property)]
    async fn active_state(&self) -> String {
        "active".to_owned()
    }
    #[zbus(property)]
    async fn state_change_timestamp(&self) -> u64 {
        5_000_000
    }
}

struct FakeService(Vec<String>);

#[interface(name = "org.freedesktop.systemd1.Service")]
impl FakeService {
    #[zbus(property, name = "NRestarts")]
    async fn n_restarts(&self) -> u32 {
        3
    }
    #[zbus(property, name = "MainPID")]
    async fn main_pid(&self) -> u32 {
        42
    }
    #[zbus(property)]
    async fn result(&self) -> String {
        "watchdog".to_owned()
    }
    #[zbus(property)]
    async fn exec_main_status(&self) -> i32 {
        6
    }
    #[zbus(property)]
    async fn status_text(&self) -> String {
        format!("waits\n{}", "x".repeat(1_000))
    }
    #[zbus(property)]
    async fn environment(&self) -> Vec<String> {
        self.0.clone()
    }
}

/// A systemd, the other end's connection to it, which must live on, and what it knows.
async fn systemd(fake: &Fake, program: &str) -> (Systemd, Connection) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let guid = zbus::Guid::generate();
    let server = connection::Builder::unix_stream(theirs)
        .server(guid)
        .p2p()
        .serve_at("/org/freedesktop/systemd1", fake.clone());
    let client = connection::Builder::unix_stream(ours).p2p();
    let (server, client) = tokio::join!(server.build(), client.build());
    let systemd =
        Systemd { program: program.into(), bus: Mutex::new(Some(client.unwrap())), reconnects: false };
    (systemd, server.unwrap())
}

fn record(inputs: u8) -> UnitRecord {
    UnitRecord {
        v: 1,
        stand_in: StandIn::ApiServer,
        config: "config/api-server.json".parse().unwrap(),
        inputs: Digest([inputs; 32]),
        defaults: UnitDefaults { restart_first_ms: 100, restart_most_ms: 5_000, stop_ms: 2_000 },
    }
}

fn key() -> UnitKey {
    UnitKey { cluster: "clus-100".parse().unwrap(), stand_in: StandIn::ApiServer }
}

const NAME: &str = r"qb-clus\x2d100-api-server.service";

#[tokio::test]
async fn a_unit_is_adopted_replaced_and_stopped() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::create(temp.path()).unwrap();
    let fake = Fake::default();
    let (first, _bus) = systemd(&fake, "/usr/lib/qb/qb-exec").await;
    let cluster = key().cluster;
    assert!(first.look(&cluster).await.unwrap().is_empty());
    first.stop(&key()).await.unwrap();
    first.run(&key(), &dir, &record(1)).await.unwrap();
    let running = fake.0.lock().unwrap().units[NAME].clone();
    assert_eq!(running.folder, temp.path().to_str().unwrap());
    let argv = "/usr/lib/qb/qb-exec stand-in api-server --config config/api-server.json --parent 1";
    assert_eq!(running.argv.join(" "), argv);
    for name in ["NoNewPrivileges", "ProtectSystem", "ReadWritePaths", "Restart", "Slice", "TimeoutStopUSec"]
    {
        assert!(running.names.iter().any(|n| n == name), "{name}");
    }
    let seen = first.look(&cluster).await.unwrap();
    let (health, mark) = &seen[0];
    assert_eq!((*mark, health.state, health.restarts), (record(1).mark(), UnitState::Running, 3));
    assert_eq!((health.since, health.pid), (Millis(5_000), Some(42)));

    // Another life of the executor: what runs as it should is not touched, what does not is replaced.
    drop(first);
    let second = systemd(&fake, "/usr/lib/qb/qb-exec").await;
    // The fake's units are objects of the first bus: the second one has them as well.
    let running = fake.0.lock().unwrap().units[NAME].environment.clone();
    second.1.object_server().at(object(NAME), FakeUnit).await.unwrap();
    second.1.object_server().at(object(NAME), FakeService(running)).await.unwrap();
    second.0.run(&key(), &dir, &record(1)).await.unwrap();
    assert_eq!(fake.0.lock().unwrap().done, [format!("start {NAME}")]);
    second.0.run(&key(), &dir, &record(2)).await.unwrap();
    let done = fake.0.lock().unwrap().done.clone();
    assert_eq!(done, [format!("start {NAME}"), format!("stop {NAME}"), format!("start {NAME}")]);
    assert_eq!(second.0.look(&cluster).await.unwrap()[0].1, record(2).mark());
    second.0.stop(&key()).await.unwrap();
    assert!(second.0.look(&cluster).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_helper_runs_with_the_whole_host_and_is_found_by_its_mark() {
    use crate::host::runner::{HelperUnit, Helpers};
    let fake = Fake::default();
    let (systemd, _bus) = systemd(&fake, "/run/qb/bin/qb-exec").await;
    let name = "qb-host-order.service";
    let unit = HelperUnit {
        name: name.to_owned(),
        title: "files, cluster c1".to_owned(),
        file: "/var/lib/qb/exec/host/order.json".into(),
        mark: Digest([7; 32]),
        limit: Duration::from_secs(60),
    };
    assert_eq!(systemd.running(name).await, Ok(None));
    assert_eq!(Helpers::run(&systemd, &unit).await, Ok("done".to_owned()));
    let started = fake.0.lock().unwrap().units[name].clone();
    assert_eq!(started.argv.join(" "), "/run/qb/bin/qb-exec host /var/lib/qb/exec/host/order.json");
    for has in ["TimeoutStartUSec", "KillMode", "NoNewPrivileges", "Slice", "CollectMode", "LimitCORE"] {
        assert!(started.names.iter().any(|n| n == has), "{has}");
    }
    // Whatever gives it a view of its own would hide its mounts from the host.
    let own = ["Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "Mount", "Root", "Bind"];
    assert!(started.names.iter().all(|n| !own.iter().any(|own| n.starts_with(own))), "{:?}", started.names);
    // The fake's units never end: one of an earlier life is found like this.
    assert_eq!(systemd.running(name).await, Ok(Some(Some(unit.mark))));
    Helpers::stop(&systemd, name).await.unwrap();
    assert_eq!(systemd.running(name).await, Ok(None));
    systemd.ended(name).await.unwrap();
}

#[tokio::test]
async fn a_service_is_restarted_without_waiting_and_its_fate_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::create(temp.path()).unwrap();
    let fake = Fake::default();
    let (systemd, _bus) = systemd(&fake, "/usr/lib/qb/qb-exec").await;
    let refused = systemd.restart("qb-agent.service", true).await.unwrap_err().to_string();
    assert!(refused.contains("NoSuchUnit"), "{refused}");
    assert!(systemd.fate("qb-agent.service").await.unwrap().is_none());
    systemd.run(&key(), &dir, &record(1)).await.unwrap();
    systemd.restart(NAME, true).await.unwrap();
    systemd.restart(NAME, false).await.unwrap();
    let done = fake.0.lock().unwrap().done.clone();
    assert_eq!(done[1..], [format!("try-restart {NAME}"), format!("restart {NAME}")]);
    let fate = systemd.fate(NAME).await.unwrap().unwrap();
    assert_eq!(fate.pid, Some(42));
    let text = fate.to_string();
    let want = "its unit ended with watchdog, status 6, was started again 3 times, says: waitsxxx";
    assert!(text.starts_with(want) && text.len() < 300, "{text}");
}

#[tokio::test]
async fn a_job_that_fails_and_a_bus_that_is_gone_say_what_helps() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::create(temp.path()).unwrap();
    let fake = Fake::default();
    let (systemd, bus) = systemd(&fake, "/missing").await;
    let failed = StepError::from(systemd.run(&key(), &dir, &record(1)).await.unwrap_err());
    assert!(failed.text.contains("ended as failed") && failed.remedy.contains("journalctl -u"), "{failed:?}");
    bus.close().await.unwrap();
    let gone = StepError::from(systemd.run(&key(), &dir, &record(1)).await.unwrap_err());
    assert!(gone.text.contains("D-Bus") && gone.remedy.contains("systemctl start dbus"), "{gone:?}");
}

#[test]
fn names_are_escaped_as_systemd_does() {
    assert_eq!(unit_name(&key()), NAME);
    let cases = [
        ("blue", "blue"),
        ("a-b", r"a\x2db"),
        (".a", r"\x2ea"),
        ("a.b", "a.b"),
        ("ä/%", r"\xc3\xa4\x2f\x25"),
    ];
    for (text, want) in cases {
        assert_eq!(escaped(text), want);
    }
}
