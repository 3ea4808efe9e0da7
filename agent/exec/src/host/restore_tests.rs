//! A restore with programs that are played: what runs follows from the manifests that are there.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use qb_drivers::host_step::HostAction;
use qb_drivers::kubeadm::upkeep::BackupRecord;
use qb_model::ids::Millis;
use sha2::{Digest as _, Sha256};

use super::super::clean::tests::NotedUnits;
use super::super::run::{Output, Programs};
use super::super::tell::Tell;
use super::super::{apply, check};
use super::*;
use crate::dir::Dir;

const SNAPSHOT_TEXT: &str = "a snapshot";

#[derive(Clone, Default)]
struct Played {
    root: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    /// Control plane nodes that the API knows.
    nodes: Arc<Mutex<Vec<String>>>,
    /// Whether etcdctl is killed before it is done.
    killed: Arc<Mutex<bool>>,
}

impl Played {
    fn answer(&self, call: &Call) -> Output {
        let args: Vec<&str> =
            call.args.iter().map(String::as_str).filter(|a| !a.starts_with("--kube")).collect();
        let ok =
            |text: &str| Output { status: Some(0), stdout: text.as_bytes().to_vec(), ..Output::default() };
        let there = |part: &str| self.root.join(format!("{MANIFESTS}/{part}.yaml")).exists();
        match (call.name(), args.as_slice()) {
            ("ctr", [.., "containers", "list", "-q", filter]) => ok(filter.rsplit("==").next().unwrap()),
            ("ctr", [.., "tasks", "list"]) => {
                ok(&PARTS.iter().filter(|p| there(p)).map(|p| format!("{p} 1 RUNNING\n")).collect::<String>())
            }
            ("etcdctl", ["snapshot", "status", ..]) => ok(r#"{"revision":41,"totalKey":12}"#),
            ("etcdctl", ["snapshot", "restore", file, rest @ ..]) => {
                assert!(PARTS.iter().all(|p| !there(p)), "something runs");
                assert_eq!(fs::read_to_string(file).unwrap(), SNAPSHOT_TEXT);
                self.asked.lock().unwrap().push(rest[1..].join(" "));
                let data = self.root.join(RESTORING).join("member");
                fs::create_dir_all(&data).unwrap();
                if std::mem::take(&mut *self.killed.lock().unwrap()) {
                    return Output::default();
                }
                fs::write(data.join("db"), "restored").unwrap();
                ok("")
            }
            ("kubectl", [_, "get", "nodes", ..]) => ok(&self.nodes.lock().unwrap().join(" ")),
            ("kubectl", [_, "delete", "node", name, ..]) => {
                self.nodes.lock().unwrap().retain(|n| n != name);
                ok("")
            }
            ("kubectl", [_, "get", "configmap", ..]) => {
                ok(r#"{"metadata":{"resourceVersion":"7"},"data":{}}"#)
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Programs for Played {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Output, StepError>> {
        let output = self.answer(&call);
        Box::pin(async move { Ok(output) })
    }
}

struct Machine {
    _temp: tempfile::TempDir,
    base: PathBuf,
    host: Host,
    played: Played,
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn digest() -> Digest {
    Digest(Sha256::digest(SNAPSHOT_TEXT).into())
}

fn machine() -> Machine {
    let temp = tempfile::tempdir().unwrap();
    let base = fs::canonicalize(temp.path()).unwrap();
    let root = base.join("root");
    for part in PARTS {
        write(&root.join(format!("{MANIFESTS}/{part}.yaml")), &format!("the {part}"));
    }
    write(&root.join(DATA).join("db"), "before");
    write(&root.join("etc/kubernetes/admin.conf"), "x");
    let backup = BackupRecord {
        v: 1,
        cluster: "c1".parse().unwrap(),
        taken: Millis(7),
        asked: None,
        version: "1.20.2".parse().unwrap(),
        digest: digest(),
        bytes: 10,
        revision: 41,
        keys: 12,
    };
    let folder = base.join("cluster/backups").join(backup_name(Millis(7)));
    write(&folder.join("record.json"), &serde_json::to_string(&backup).unwrap());
    write(&folder.join(SNAPSHOT), SNAPSHOT_TEXT);
    write(&base.join("cluster/tree/bin/etcdctl"), "");
    let played = Played { root: root.clone(), ..Played::default() };
    let host = Host {
        cluster: "c1".parse().unwrap(),
        dir: Dir::open(&base.join("cluster")).unwrap(),
        root: Dir::open(&root).unwrap(),
        programs: Box::new(played.clone()),
        units: Box::<NotedUnits>::default(),
        tell: Tell::default(),
    };
    host.dir.point(&clean("current").unwrap(), "tree").unwrap();
    Machine { _temp: temp, base, host, played }
}

fn steps(order: u64) -> Vec<HostAction> {
    let (backup, order, name) = (digest(), Generation(order), "h1".parse::<HostName>().unwrap());
    vec![
        HostAction::CheckBackup { backup },
        HostAction::Park { order, limit_s: 5 },
        HostAction::RestoreStore { backup, order, name: name.clone(), address: "10.77.0.1".into() },
        HostAction::Unpark,
        HostAction::OnlyControlPlane { name, version: "1.20.2".parse().unwrap() },
    ]
}

impl Machine {
    async fn run(&self, order: u64) -> Result<(), StepError> {
        for action in steps(order) {
            if !check(&self.host, &action).await? {
                apply(&self.host, &action).await?;
                let once = matches!(action, HostAction::CheckBackup { .. });
                assert!(once || check(&self.host, &action).await?, "{action:?}");
            }
        }
        Ok(())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.base.join("root").join(path)).unwrap_or_default()
    }
}

#[tokio::test]
async fn a_store_of_one_member_takes_the_place_of_the_old_one() {
    let machine = machine();
    machine.played.nodes.lock().unwrap().extend(["h1", "h2", "h3"].map(str::to_owned));
    machine.run(9).await.unwrap();
    let wanted = "--name=h1 --initial-cluster=h1=https://10.77.0.1:2380 --initial-advertise-peer-urls=https://10.77.0.1:2380";
    assert_eq!(*machine.played.asked.lock().unwrap(), [wanted]);
    assert_eq!(
        (machine.read("var/lib/etcd/member/db"), machine.read("var/lib/etcd/before-9/db")),
        ("restored".into(), "before".into())
    );
    for part in PARTS {
        assert_eq!(machine.read(&format!("{MANIFESTS}/{part}.yaml")), format!("the {part}"));
    }
    assert_eq!(*machine.played.nodes.lock().unwrap(), ["h1"]);
    // The same order once more changes nothing; another one does it again.
    machine.run(9).await.unwrap();
    assert_eq!(machine.played.asked.lock().unwrap().len(), 1);
    machine.run(10).await.unwrap();
    assert_eq!(machine.played.asked.lock().unwrap().len(), 2);
    assert!(!machine.base.join("root/var/lib/etcd/before-9").exists(), "one is enough");
    assert_eq!(machine.read("var/lib/etcd/before-10/db"), "restored");
}

#[tokio::test]
async fn one_that_was_cut_off_goes_on_and_keeps_the_data_of_before() {
    let machine = machine();
    machine.played.nodes.lock().unwrap().push("h1".into());
    *machine.played.killed.lock().unwrap() = true;
    assert!(machine.run(9).await.is_err());
    assert_eq!(machine.read("var/lib/etcd/member/db"), "before");
    assert!(machine.base.join("cluster/parked/etcd").exists());
    // As if it had ended after the new data was in place, and before that was noted.
    fs::rename(
        machine.base.join("root/var/lib/etcd/member"),
        machine.base.join("root/var/lib/etcd/before-9"),
    )
    .unwrap();
    write(&machine.base.join("root/var/lib/etcd/member/db"), "half");
    machine.run(9).await.unwrap();
    assert_eq!(
        (machine.read("var/lib/etcd/member/db"), machine.read("var/lib/etcd/before-9/db")),
        ("restored".into(), "before".into())
    );
}

#[tokio::test]
async fn nothing_is_stopped_for_a_backup_that_is_not_there_or_not_whole() {
    let machine = machine();
    let folder = machine.base.join("cluster/backups").join(backup_name(Millis(7)));
    fs::write(folder.join(SNAPSHOT), "another").unwrap();
    let error = machine.run(9).await.unwrap_err();
    assert!(error.text.contains("is not what it was"), "{error:?}");
    fs::remove_dir_all(folder).unwrap();
    let error = machine.run(9).await.unwrap_err();
    assert!(
        error.text.contains("keeps no backup") && error.remedy.contains("qb cluster show c1"),
        "{error:?}"
    );
    assert_eq!(machine.read(&format!("{MANIFESTS}/etcd.yaml")), "the etcd");
}
