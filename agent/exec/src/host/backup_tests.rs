//! Backups with an etcdctl that is played.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use qb_model::limits::DAY_MS;

use super::super::clean::tests::NotedUnits;
use super::super::run::{Output, Programs};
use super::super::tell::Tell;
use super::*;

/// What was asked of etcdctl, and whether its snapshots can be read.
#[derive(Clone, Default)]
struct Played {
    asked: Arc<Mutex<Vec<String>>>,
    torn: Arc<Mutex<bool>>,
}

impl Programs for Played {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Output, StepError>> {
        let args: Vec<String> = call.args.iter().filter(|a| !a.starts_with("--")).cloned().collect();
        self.asked.lock().unwrap().push(format!("{} {} {}", call.name(), args[0], args[1]));
        let mut output = Output { status: Some(0), ..Output::default() };
        if args[1] == "save" {
            assert!(call.args.iter().all(|a| !a.starts_with("--command-timeout")), "{:?}", call.args);
            fs::write(&args[2], "a snapshot").unwrap();
            fs::set_permissions(&args[2], fs::Permissions::from_mode(0o644)).unwrap();
        } else if *self.torn.lock().unwrap() {
            output = Output { status: Some(1), said: "invalid database".into(), ..output };
        } else {
            output.stdout = br#"{"hash":1,"revision":41,"totalKey":12,"totalSize":20480}"#.to_vec();
        }
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

fn machine() -> Machine {
    let temp = tempfile::tempdir().unwrap();
    let base = fs::canonicalize(temp.path()).unwrap();
    let root = base.join("root");
    write(&root.join(STORE), "the store");
    write(&root.join(SERVER), "spec:\n  containers:\n  - image: k8s.gcr.io/kube-apiserver:v1.20.2\n");
    for file in kube::FILES {
        write(&root.join(format!("etc/kubernetes/pki/{}", file.path)), &format!("content of {}", file.path));
    }
    let played = Played::default();
    let host = Host {
        cluster: "c1".parse().unwrap(),
        dir: Dir::create(&base.join("cluster")).unwrap(),
        root: Dir::open(&root).unwrap(),
        programs: Box::new(played.clone()),
        units: Box::<NotedUnits>::default(),
        tell: Tell::default(),
    };
    write(&base.join("cluster/tree/bin/etcdctl"), "");
    host.dir.point(&clean("current").unwrap(), "tree").unwrap();
    Machine { _temp: temp, base, host, played }
}

fn of_day(day: u64, asked: Option<u8>) -> Backup {
    Backup { taken: Millis(day * DAY_MS), asked: asked.map(|n| Digest([n; 32])) }
}

#[tokio::test]
async fn a_backup_is_whole_private_and_known_by_its_record() {
    let machine = machine();
    let backup = of_day(20_000, None);
    assert!(!is_taken(&machine.host, &backup).unwrap());
    take(&machine.host, &backup).await.unwrap();
    assert!(is_taken(&machine.host, &backup).unwrap());
    assert_eq!(*machine.played.asked.lock().unwrap(), ["etcdctl snapshot save", "etcdctl snapshot status"]);
    let [record] = &records(&machine.host.dir).unwrap()[..] else { panic!() };
    assert_eq!((record.revision, record.keys, record.bytes, record.version.as_str()), (41, 12, 10, "1.20.2"));
    assert_eq!(record.digest, Digest(Sha256::digest(b"a snapshot").into()));
    let folder = machine.base.join("cluster/backups").join(backup_name(backup.taken));
    for name in [SNAPSHOT, IDENTITY, RECORD] {
        assert_eq!(fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let identity = fs::read_to_string(folder.join(IDENTITY)).unwrap();
    for file in kube::FILES {
        assert!(identity.contains(&format!("content of {}", file.path)), "{}", file.path);
    }
    assert!(!fs::read_to_string(folder.join(RECORD)).unwrap().contains("content of"));
}

#[tokio::test]
async fn one_that_cannot_be_read_is_none_and_pushes_nothing_out() {
    let machine = machine();
    for day in 1..=7 {
        take(&machine.host, &of_day(day, None)).await.unwrap();
    }
    *machine.played.torn.lock().unwrap() = true;
    let error = take(&machine.host, &of_day(8, None)).await.unwrap_err();
    assert!(error.text.contains("invalid database"), "{error:?}");
    assert_eq!(records(&machine.host.dir).unwrap().len(), 7);
    *machine.played.torn.lock().unwrap() = false;
    take(&machine.host, &of_day(8, None)).await.unwrap();
    take(&machine.host, &of_day(9, Some(1))).await.unwrap();
    let days: Vec<u64> = records(&machine.host.dir).unwrap().iter().map(|r| r.taken.0 / DAY_MS).collect();
    assert_eq!(days, [9, 8, 7, 6, 5, 4, 3, 2]);
    assert!(!machine.base.join("cluster/backups/taking").exists());
}

#[tokio::test]
async fn snapshots_are_read_by_the_program_that_the_bundle_has() {
    let machine = machine();
    write(&machine.base.join("cluster/tree/bin/etcdutl"), "");
    take(&machine.host, &of_day(1, None)).await.unwrap();
    assert_eq!(*machine.played.asked.lock().unwrap(), ["etcdctl snapshot save", "etcdutl snapshot status"]);
    fs::remove_file(
        machine.base.join("root").join(kube::FILES[1].path.replace("ca.key", "etc/kubernetes/pki/ca.key")),
    )
    .unwrap();
    let error = take(&machine.host, &of_day(2, None)).await.unwrap_err();
    assert!(error.text.contains("pki/ca.key"), "{error:?}");
    assert_eq!(records(&machine.host.dir).unwrap().len(), 1);
}
