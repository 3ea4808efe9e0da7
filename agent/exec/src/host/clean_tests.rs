#![allow(clippy::unwrap_used)]
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;

use super::*;
use crate::dir::Dir;
use crate::host::run::{Output, Programs};
use crate::host::tell::Tell;
use crate::host::units::{HostUnit, HostUnits};

/// Answers of a host that has no program.
pub(crate) struct NoPrograms;

impl Programs for NoPrograms {
    fn run(&self, _: Call) -> BoxFuture<'_, Result<Output, StepError>> {
        Box::pin(async { Ok(Output { status: Some(0), ..Output::default() }) })
    }
}

/// Units that are only noted.
#[derive(Default, Clone)]
pub(crate) struct NotedUnits(Arc<Mutex<Vec<String>>>);

impl HostUnits for NotedUnits {
    fn look<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<HostUnit, StepError>> {
        Box::pin(async { Ok(HostUnit::default()) })
    }
    fn reload(&self) -> BoxFuture<'_, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
    fn enable<'a>(&'a self, _: &'a str, _: bool) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
    fn restart<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        self.0.lock().unwrap().push(name.to_owned());
        Box::pin(async { Ok(()) })
    }
}

/// A host whose root is a directory.
struct Place {
    _temp: tempfile::TempDir,
    root: PathBuf,
    host: Host,
}

fn place() -> Place {
    let temp = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(temp.path()).unwrap().join("root");
    for dir in ["proc/self", "proc/sys/net/ipv4", "etc/systemd/system", "etc/cni/net.d", "run/netns"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("proc/self/mountinfo"), "").unwrap();
    fs::write(root.join("proc/sys/net/ipv4/ip_forward"), "0\n").unwrap();
    let host = Host {
        cluster: "c1".parse().unwrap(),
        dir: Dir::create(&temp.path().join("cluster")).unwrap(),
        root: Dir::open(&root).unwrap(),
        programs: Box::new(NoPrograms),
        units: Box::<NotedUnits>::default(),
        tell: Tell::default(),
    };
    Place { _temp: temp, root, host }
}

impl Place {
    fn write(&self, at: &str, text: &str) {
        let path = self.root.join(at);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn has(&self, at: &str) -> bool {
        self.root.join(at).symlink_metadata().is_ok()
    }

    /// Those parts of a record that are files.
    fn record(&self) -> Record {
        let mut record = Record::new();
        record::take::files(self.host.root.path(), &mut record).unwrap();
        record
    }

    /// All that a cluster leaves in files.
    fn soil(&self) {
        self.write("etc/kubernetes/tmp/old/kube-apiserver.yaml", "x");
        self.write("var/lib/kubelet/config.yaml", "x");
        self.write("var/lib/qb/containerd/io.containerd/x", "x");
        self.write("var/log/pods/default_a/0.log", "x");
        self.write("run/netns/cni-1", "");
        self.write("etc/systemd/system/kubelet.service", "x");
        self.write("etc/systemd/system/kubelet.service.d/10-qb.conf", "x");
        self.write("proc/sys/net/ipv4/ip_forward", "1\n");
        fs::create_dir_all(self.root.join("etc/systemd/system/multi-user.target.wants")).unwrap();
        let wants = self.root.join("etc/systemd/system/multi-user.target.wants/kubelet.service");
        let _ = std::os::unix::fs::symlink("/etc/systemd/system/kubelet.service", wants);
        fs::create_dir_all(self.root.join("usr/libexec/kubernetes/kubelet-plugins/volume/exec")).unwrap();
        fs::create_dir_all(self.root.join("usr/lib/modules")).unwrap();
        fs::create_dir_all(self.root.join("run/containerd/runc/k8s.io")).unwrap();
        let path = crate::host::place::clean("etc/cni/net.d/10-qb.conflist").unwrap();
        let mut ours = Ours::open(&self.host.dir, &self.host.root).unwrap();
        ours.write(&path, b"conf", 0o644).unwrap();
    }

    async fn clean(&self, before: &Record) {
        trees::unmount_all(&self.host, before).unwrap();
        files(&self.host, before).await.unwrap();
        trees::remove_all(&self.host, before).unwrap();
        settings(&self.host, before);
    }
}

#[tokio::test]
async fn files_of_a_cluster_go_and_those_of_others_stay() {
    let place = place();
    // What was there, even in a cluster's own places, is not ours to delete.
    place.write("var/lib/etcd/others/db", "theirs");
    place.write("etc/systemd/system/foreign.service", "theirs");
    place.write("etc/cni/net.d/99-loopback.conf", "theirs");
    place.write("run/netns/theirs", "");
    let before = place.record();
    place.soil();
    place.write("var/lib/etcd/member/snap", "x");
    let found = compare(&before, &place.record());
    assert!(found.left.len() > 8, "{}", line(&found.left));
    // A second time there is nothing to do.
    for _ in 0..2 {
        place.clean(&before).await;
        let found = compare(&before, &place.record());
        assert_eq!((line(&found.left), line(&found.foreign)), (String::new(), String::new()));
    }
    assert!(place.has("var/lib/etcd/others/db") && place.has("run/netns/theirs"));
    assert!(place.has("etc/cni/net.d/99-loopback.conf") && !place.has("var/lib/etcd/member"));
    assert_eq!(sysctl(&place.root, "net.ipv4.ip_forward").unwrap(), "0");
}

#[tokio::test]
async fn half_of_it_is_taken_away_too() {
    let gone =
        ["etc/kubernetes", "etc/cni", "var/lib/kubelet", "etc/systemd/system/kubelet.service", "run/netns"];
    for missing in gone {
        let place = place();
        let before = place.record();
        place.soil();
        let path = place.root.join(missing);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        place.clean(&before).await;
        assert_eq!(line(&compare(&before, &place.record()).left), "", "without {missing}");
    }
}

#[tokio::test]
async fn what_others_put_into_shared_folders_stays() {
    let place = place();
    fs::remove_dir_all(place.root.join("etc/cni")).unwrap();
    let before = place.record();
    place.soil();
    place.write("etc/cni/net.d/others.conf", "theirs");
    place.clean(&before).await;
    assert!(place.has("etc/cni/net.d/others.conf") && !place.has("etc/cni/net.d/10-qb.conflist"));
}

#[test]
fn nothing_is_deleted_where_something_is_mounted() {
    let place = place();
    let before = place.record();
    place.write("var/lib/kubelet/pods/1/volumes/data/precious", "theirs");
    let point = place.root.join("var/lib/kubelet/pods/1/volumes/data");
    let mounts = format!("90 22 0:45 / {} rw - nfs server:/x rw\n", point.display());
    place.write("proc/self/mountinfo", &mounts);
    let error = trees::remove_all(&place.host, &before).unwrap_err();
    assert!(error.text.contains("is mounted there") && error.remedy.contains("umount"), "{error:?}");
    assert!(place.has("var/lib/kubelet/pods/1/volumes/data/precious"));
    // Not even where the place was there before.
    let mut before = place.record();
    before.put(Kind::Path, [("var/lib/kubelet".to_owned(), "folder".to_owned())], |_, _| true);
    assert!(trees::remove_all(&place.host, &before).is_err());
    assert!(place.has("var/lib/kubelet/pods/1/volumes/data/precious"));
}

#[test]
fn links_are_deleted_and_not_followed() {
    let place = place();
    let before = place.record();
    place.write("home/precious", "theirs");
    fs::create_dir_all(place.root.join("var/lib")).unwrap();
    std::os::unix::fs::symlink(place.root.join("home"), place.root.join("var/lib/kubelet")).unwrap();
    place.write("var/lib/etcd/x", "x");
    std::os::unix::fs::symlink(place.root.join("home"), place.root.join("var/lib/etcd/link")).unwrap();
    trees::remove_all(&place.host, &before).unwrap();
    assert!(place.has("home/precious") && !place.has("var/lib/kubelet") && !place.has("var/lib/etcd"));
}

#[test]
fn mounts_of_the_cluster_go_last_first() {
    let mount =
        |point: &str| crate::host::record::mounts::Mount { point: point.into(), kind: "tmpfs".into() };
    let mut before = Record::new();
    before.put(Kind::Mount, [("/var/lib/kubelet".to_owned(), "ext4".to_owned())], |_, _| true);
    let all =
        ["/", "/var/lib/kubelet", "/var/lib/kubelet/a", "/run/netns/cni-1", "/var/lib/kubelet/a/b", "/mnt"];
    assert_eq!(
        trees::mounts(all.map(mount).into(), Path::new("/"), &before),
        ["/var/lib/kubelet/a/b", "/run/netns/cni-1", "/var/lib/kubelet/a"].map(Path::new)
    );
}

#[test]
fn only_empty_tables_of_iptables_are_unused() {
    let tables =
        tables::parse("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [0:0]\nCOMMIT\n");
    let tables = tables.unwrap();
    for (name, unused) in [
        ("ip nat", true),
        ("ip filter", false),
        ("ip mangle", false),
        ("ip6 nat", false),
        ("inet nat", false),
        ("ip mine", false),
    ] {
        assert_eq!(is_unused(name, "ip", &tables), unused, "{name}");
    }
}

#[test]
fn groups_of_pods_go_and_those_of_others_stay() {
    let place = place();
    let top = "sys/fs/cgroup";
    for group in [
        "cpuset/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice",
        "freezer/kubepods/besteffort/pod2",
        "kubepods.slice/kubepods-pod3.slice",
        "cpuset/machine.slice/h1/kubepods.slice",
    ] {
        fs::create_dir_all(place.root.join(top).join(group)).unwrap();
    }
    std::os::unix::fs::symlink("cpuset", place.root.join(top).join("cpu,cpuset")).unwrap();
    // As a group is, that a process is still in: it cannot be removed.
    place.write("sys/fs/cgroup/pids/kubepods.slice/busy/process", "");
    for _ in 0..2 {
        groups::remove_all(&place.root).unwrap();
        for gone in ["cpuset/kubepods.slice", "freezer/kubepods", "kubepods.slice"] {
            assert!(!place.has(&format!("{top}/{gone}")), "{gone}");
        }
    }
    for stays in ["cpuset/machine.slice/h1/kubepods.slice", "pids/kubepods.slice/busy", "freezer"] {
        assert!(place.has(&format!("{top}/{stays}")), "{stays}");
    }
}

#[tokio::test]
async fn without_a_record_nothing_is_taken_away() {
    let place = place();
    place.soil();
    let error = apply(&place.host).await.unwrap_err();
    assert!(error.text.contains("no record"), "{error:?}");
    assert!(place.has("etc/kubernetes"));
    assert!(check(&place.host).await.unwrap());
}

#[cfg(feature = "lab")]
#[path = "clean_lab_tests.rs"]
mod lab;
