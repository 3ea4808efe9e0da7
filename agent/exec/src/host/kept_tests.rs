#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;

use super::*;
use crate::dir::Dir;
use crate::host::run::{Output, Programs};
use crate::host::tell::Tell;
use crate::host::units::{HostUnit as Seen, HostUnits};

const MANIFEST: &str = "etc/kubernetes/manifests/kube-apiserver.yaml";
const CONFIG: &str = "var/lib/kubelet/config.yaml";
const UNIT: &str = "etc/systemd/system/kubelet.service";

/// A tree's kubelet says what the tree is of, and a node is what its kubelet says, unless it is not well.
struct Tools {
    dir: PathBuf,
    well: bool,
}

impl Programs for Tools {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Output, StepError>> {
        let version = fs::read_to_string(self.dir.join("current/version")).unwrap();
        let out = match call.name() {
            "kubelet" => format!("Kubernetes v{version}\n"),
            "kubectl" => {
                let status = if self.well { "True" } else { "False" };
                format!(
                    r#"{{"status":{{"conditions":[{{"type":"Ready","status":"{status}"}}],"nodeInfo":{{"kubeletVersion":"v{version}"}}}}}}"#
                )
            }
            other => panic!("{other}"),
        };
        Box::pin(async move { Ok(Output { status: Some(0), stdout: out.into_bytes(), ..Output::default() }) })
    }
}

/// Units that are as they should be; what is started is noted.
#[derive(Clone, Default)]
struct Started(Arc<Mutex<Vec<String>>>);

impl HostUnits for Started {
    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Seen, StepError>> {
        let seen = Seen {
            active: "active".into(),
            file: format!("/etc/systemd/system/{name}"),
            enabled: "enabled".into(),
            ..Seen::default()
        };
        Box::pin(async move { Ok(seen) })
    }
    fn reload(&self) -> BoxFuture<'_, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
    fn enable<'a>(&'a self, _: &'a str, _: bool) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
    fn restart<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        self.0.lock().unwrap().push(name.to_owned());
        Box::pin(async { Ok(()) })
    }
    fn stop<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}

struct Node {
    temp: tempfile::TempDir,
    host: Host,
    started: Started,
}

fn tree(version: &str) -> RelPath {
    format!("bundle/{version}").parse().unwrap()
}

/// A worker or control plane node at 1.20.2 that has 1.20.3 unpacked.
fn node(well: bool) -> Node {
    let temp = tempfile::tempdir().unwrap();
    let base = fs::canonicalize(temp.path()).unwrap();
    fs::create_dir_all(base.join("root")).unwrap();
    let dir = Dir::create(&base.join("cluster")).unwrap();
    for version in ["1.20.2", "1.20.3"] {
        let tree = base.join("cluster/bundle").join(version);
        fs::create_dir_all(tree.join("cni")).unwrap();
        fs::write(tree.join("version"), version).unwrap();
        fs::write(tree.join("cni/bridge"), version).unwrap();
    }
    let started = Started::default();
    let host = Host {
        cluster: "c1".parse().unwrap(),
        root: Dir::open(&base.join("root")).unwrap(),
        programs: Box::new(Tools { dir: base.join("cluster"), well }),
        units: Box::new(started.clone()),
        tell: Tell::default(),
        dir,
    };
    let node = Node { temp, host, started };
    place::select(&node.host, &tree("1.20.2")).unwrap();
    place::place_plugins(&node.host).unwrap();
    node.write("root", MANIFEST, "image: x:v1.20.2");
    node.write("root", CONFIG, "old");
    node.write("cluster", "config/containerd.toml", "old");
    node.ours(UNIT, "old");
    node
}

impl Node {
    fn at(&self, below: &str, path: &str) -> PathBuf {
        self.temp.path().join(below).join(path)
    }

    fn write(&self, below: &str, path: &str, text: &str) {
        let at = self.at(below, path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
    }

    fn ours(&self, path: &str, text: &str) {
        let mut ours = Ours::open(&self.host.dir, &self.host.root).unwrap();
        ours.write(&path.parse().unwrap(), text.as_bytes(), 0o644).unwrap();
    }

    /// What an upgrade to 1.20.3 changes.
    fn upgrade(&self) {
        self.write("root", MANIFEST, "image: x:v1.20.3");
        self.write("root", CONFIG, "new");
        self.write("root", "var/lib/kubelet/instance-config.yaml", "new");
        self.write("cluster", "config/containerd.toml", "new");
        self.write("cluster", UPGRADED, "v1.20.3");
        self.ours(UNIT, "new");
        place::select(&self.host, &tree("1.20.3")).unwrap();
        place::place_plugins(&self.host).unwrap();
    }

    /// Everything that an upgrade changes, as text.
    fn looks(&self) -> Vec<String> {
        let read = |below: &str, path: &str| {
            fs::read_to_string(self.at(below, path)).unwrap_or_else(|_| "absent".into())
        };
        vec![
            read("root", MANIFEST),
            read("root", CONFIG),
            read("root", "var/lib/kubelet/instance-config.yaml"),
            read("root", UNIT),
            read("root", "opt/cni/bin/bridge"),
            read("cluster", "config/containerd.toml"),
            read("cluster", UPGRADED),
            read("cluster", "current/version"),
        ]
    }

    async fn back(&self, version: &str) -> Result<(), StepError> {
        go_back(&self.host, &tree(version), &"lyon-1".parse().unwrap(), None, 0).await
    }
}

#[tokio::test]
async fn a_node_goes_back_to_all_that_was_before() {
    let node = node(true);
    let before = node.looks();
    assert!(!is_kept(&node.host, &tree("1.20.3")).unwrap());
    keep(&node.host, &tree("1.20.3")).unwrap();
    assert!(is_kept(&node.host, &tree("1.20.3")).unwrap());
    node.upgrade();
    assert!(node.looks().iter().zip(&before).all(|(now, was)| now != was));
    node.back("1.20.3").await.unwrap();
    assert_eq!(node.looks(), before);
    assert!(is_back(&node.host, &tree("1.20.3")).unwrap());
    let started = node.started.0.lock().unwrap().clone();
    assert_eq!(started, ["qb-containerd.service", "kubelet.service"]);
}

#[tokio::test]
async fn half_of_an_upgrade_and_half_of_the_way_back_go_back_too() {
    let node = node(true);
    let before = node.looks();
    keep(&node.host, &tree("1.20.3")).unwrap();
    // kubeadm failed at its first file; nothing was selected.
    node.write("root", MANIFEST, "");
    node.back("1.20.3").await.unwrap();
    assert_eq!(node.looks(), before);
    // A helper that was killed on the way back begins it again.
    keep(&node.host, &tree("1.20.3")).unwrap();
    node.upgrade();
    let half = kept(&node.host, &tree("1.20.3")).unwrap().unwrap();
    put_back(&node.host, &half.files[1]).unwrap();
    node.back("1.20.3").await.unwrap();
    assert_eq!(node.looks(), before);
}

#[tokio::test]
async fn what_was_kept_for_another_upgrade_is_left_alone() {
    let node = node(true);
    keep(&node.host, &tree("1.20.3")).unwrap();
    node.upgrade();
    let done = node.looks();
    // The next order fails before it keeps anything.
    node.back("1.20.4").await.unwrap();
    assert_eq!(node.looks(), done);
    assert!(node.started.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_node_that_is_not_well_is_not_back() {
    let node = node(false);
    keep(&node.host, &tree("1.20.3")).unwrap();
    node.upgrade();
    let error = node.back("1.20.3").await.unwrap_err();
    assert!(error.text.contains("not ready"), "{}", error.text);
    assert!(is_kept(&node.host, &tree("1.20.3")).unwrap(), "it is gone back to again");
}
