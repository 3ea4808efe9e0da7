//! Whole lives of nodes: real processes on loopback addresses, one subnet for each test.
#![allow(clippy::unwrap_used)]

mod faults;
mod life;
mod refusals;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qb_drivers::bundle::{Unsigned, manifest_digest};
use qb_model::action::NodeRole;
use qb_model::assignment::{Assignment, Citation, Member, Stage};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::ids::{Digest, Generation, Millis, Name, NodeId, SealKey, SiteId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::join::Recipient;
use crate::stage::Run;
use crate::{
    Exec, ExecConfig, SealSecret, SealedSecret, SiteSource, StageDone, StageError, StepProgress, Supplies,
    Units,
};

const ALL: [NodeRole; 3] = [NodeRole::ControlPlane, NodeRole::ControlPlane, NodeRole::Worker];

/// One machine's agent, as far as the executor goes.
struct Node {
    root: PathBuf,
    id: NodeId,
    exec: Exec,
}

/// A site on 127.0.`net`.0/24 whose first member is node 1.
struct Site {
    _temp: tempfile::TempDir,
    /// The nodes' directories lie here.
    home: PathBuf,
    members: Vec<Member>,
    manifest: Unsigned,
    artifacts: Vec<u8>,
}

impl Site {
    fn new(net: u8, roles: &[NodeRole]) -> Self {
        let member = |(n, role): (u8, &NodeRole)| Member {
            node: NodeId([n; 32]),
            host: format!("lyon-r1-0{n}").parse().unwrap(),
            address: format!("127.0.{net}.{n}"),
            role: *role,
            slot: u16::from(n) - 1,
        };
        let (manifest, artifacts) =
            qb_drivers::build_rehearsal_bundle(&"1.0.0".parse().unwrap(), Millis(1)).unwrap();
        let temp = tempfile::tempdir().unwrap();
        Self {
            home: temp.path().to_owned(),
            _temp: temp,
            members: (1..).zip(roles).map(member).collect(),
            manifest,
            artifacts,
        }
    }

    fn cluster() -> Name {
        "clus100".parse().unwrap()
    }

    async fn open(&self, n: u8) -> Node {
        let root = self.home.join(n.to_string());
        let config = ExecConfig {
            root: root.clone(),
            hold: self.home.join("hold"),
            node: Some(NodeId([n; 32])),
            site: SiteSource::Told(SiteId(Digest([9; 32]))),
            seal_secret: seal_secret(n),
            stand_in: stand_in(),
            units: Units::Children,
        };
        Node { root, id: NodeId([n; 32]), exec: Exec::open(config).await.unwrap() }
    }

    fn order(&self, n: u8, stage: Stage) -> Assignment {
        let generation = match stage {
            Stage::Prepare => 1,
            Stage::Initialize | Stage::Join => 2,
            Stage::Leave | Stage::Upgrade | Stage::Restore => 3,
        };
        let cites = Citation { digest: Digest([7; 32]), index: 12 };
        Assignment {
            site: SiteId(Digest([9; 32])),
            node: NodeId([n; 32]),
            generation: Generation(generation),
            cluster: Self::cluster(),
            driver: "rehearsal".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            bundle: manifest_digest(&self.manifest.manifest),
            settings: qb_model::settings::Settings::default(),
            role: self.members[usize::from(n) - 1].role,
            stage,
            members: self.members.clone(),
            first: NodeId([1; 32]),
            cites,
            created_by: cites,
        }
    }

    fn supplies(&self, join: Option<SealedSecret>) -> Supplies {
        let mut bytes = self.manifest.sign(&[&publisher()]);
        bytes.extend_from_slice(&self.artifacts);
        Supplies { bundle: Some(crate::file_of(&bytes).unwrap()), join }
    }

    fn mint(&self, n: u8) -> Recipient {
        Recipient {
            site: SiteId(Digest([9; 32])),
            cluster: Self::cluster(),
            real: false,
            generation: Generation(2),
            member: self.members[usize::from(n) - 1].clone(),
            seal_key: seal_key(n),
            seal_seq: 1,
        }
    }

    /// Runs a stage to its end.
    async fn run(&self, node: &Node, stage: Stage, join: Option<SealedSecret>) -> StageDone {
        let order = self.order(node.id.0[0], stage);
        run(&node.exec, order, self.supplies(join), None).await.unwrap()
    }

    /// Prepares and initializes node 1.
    async fn first(&self) -> Node {
        let node = self.open(1).await;
        self.run(&node, Stage::Prepare, None).await;
        self.run(&node, Stage::Initialize, None).await;
        node
    }

    /// Prepares a node and joins it.
    async fn join(&self, first: &Node, n: u8) -> Node {
        let node = self.open(n).await;
        self.run(&node, Stage::Prepare, None).await;
        let sealed = first.exec.mint_for(self.mint(n)).await.unwrap();
        self.run(&node, Stage::Join, Some(sealed)).await;
        node
    }
}

fn publisher() -> SecretKey {
    SecretKey::from_bytes(&[5; 32])
}

fn seal_secret(n: u8) -> SealSecret {
    SealSecret::from_bytes(Zeroizing::new([n; 32]))
}

fn seal_key(n: u8) -> SealKey {
    seal_secret(n).public()
}

/// `target/debug/qb-stand-in`, beside `target/debug/deps/<this test>`.
fn stand_in() -> PathBuf {
    let path = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("qb-stand-in");
    assert!(path.exists(), "{} is missing: run `cargo test -p qb-exec` without --lib once", path.display());
    path
}

async fn run(
    exec: &Exec,
    order: Assignment,
    supplies: Supplies,
    points_left: Option<usize>,
) -> Result<StageDone, StageError> {
    let (progress, watched) = watch::channel(Vec::<StepProgress>::new());
    let cancel = CancellationToken::new();
    let publishers = vec![publisher().public_key()];
    let run =
        Run { order, publishers, backup: None, supplies, progress, cancel: cancel.clone(), points_left };
    let result = exec.run_order(run, cancel).await;
    if result.is_ok() {
        assert!(watched.borrow().iter().all(|step| step.state == crate::StepState::Done));
    }
    result
}

/// Every path below a directory with its kind and permission bits.
fn listing(root: &Path) -> BTreeMap<PathBuf, u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let (mut all, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let meta = std::fs::symlink_metadata(entry.path()).unwrap();
            if meta.is_dir() {
                open.push(entry.path());
            }
            all.insert(entry.path().strip_prefix(root).unwrap().to_owned(), meta.permissions().mode());
        }
    }
    all
}

/// Waits until something holds; fails after half a minute.
async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok(), "never: {what}");
}

/// Whether node `n` of a net takes connections on a port.
async fn listens(net: u8, n: u8, port: u16) -> bool {
    tokio::net::TcpStream::connect((format!("127.0.{net}.{n}"), port)).await.is_ok()
}
