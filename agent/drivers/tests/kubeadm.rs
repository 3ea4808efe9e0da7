//! The driver `kubeadm`: every role and stage as text, compared with `golden/`, for a version of each form
//! of kubeadm's configuration. `QB_BLESS=1` rewrites the files; the diff of a commit then shows what
//! changes on a host.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;
use qb_drivers::bundle::{Artifact, ArtifactKind, Chunks, FORMAT, Manifest, Place};
use qb_drivers::host_step::{HostAction, HostPlace, HostUnit, KubeadmVerb};
use qb_drivers::kubeadm::upkeep;
use qb_drivers::{Driver, DriverError, Observed, Step, StepAction, driver, render};
use qb_model::action::NodeRole;
use qb_model::assignment::{Assignment, Citation, Member, Stage};
use qb_model::ids::{Digest, Generation, Millis, NodeId, SiteId};
use qb_model::settings::{ChosenSettings, Settings};

fn kubeadm() -> &'static dyn Driver {
    driver(&"kubeadm".parse().unwrap()).unwrap()
}

fn member(n: u8, slot: u16, role: NodeRole) -> Member {
    Member {
        node: NodeId([n; 32]),
        host: format!("lyon-r1-{n:02}").parse().unwrap(),
        address: format!("10.77.0.{n}"),
        slot,
        role,
    }
}

fn order(node: u8, stage: Stage, version: &str) -> Assignment {
    let members = vec![
        member(1, 0, NodeRole::ControlPlane),
        member(2, 1, NodeRole::ControlPlane),
        member(3, 4, NodeRole::ControlPlane),
        member(4, 2, NodeRole::Worker),
    ];
    let cites = Citation { digest: Digest([7; 32]), index: 12 };
    Assignment {
        site: SiteId(Digest([9; 32])),
        node: NodeId([node; 32]),
        generation: Generation(4),
        cluster: "c1".parse().unwrap(),
        driver: "kubeadm".parse().unwrap(),
        version: version.parse().unwrap(),
        bundle: Digest([8; 32]),
        settings: Settings::default(),
        role: members.iter().find(|m| m.node.0[0] == node).unwrap().role,
        stage,
        members,
        first: NodeId([1; 32]),
        cites,
        created_by: cites,
    }
}

/// How hosts of that version's time are: with the control groups of the first version once as well.
fn observed(version: &str) -> Observed {
    Observed {
        cgroup: Some(if version.starts_with("1.28.") { 2 } else { 1 }),
        nested: true,
        backup: Some(Digest([6; 32])),
        ..Observed::default()
    }
}

#[test]
fn plans_are_the_golden_ones() {
    let whole = [
        ("first", 1, vec![Stage::Prepare, Stage::Initialize, Stage::Upgrade, Stage::Leave]),
        ("control-plane", 2, vec![Stage::Prepare, Stage::Join, Stage::Upgrade, Stage::Leave, Stage::Restore]),
        ("worker", 4, vec![Stage::Prepare, Stage::Join, Stage::Upgrade, Stage::Leave]),
    ];
    let mut wrong = Vec::new();
    let mut compare = |name: String, text: String| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(&name);
        if std::env::var_os("QB_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(name);
        }
    };
    // One whose networks and endpoints are all of its own.
    let chosen = ChosenSettings {
        pods: Some("192.168.16.0/20".parse().unwrap()),
        services: Some("172.16.0.0/12".parse().unwrap()),
        endpoints: Some(vec!["k8s.example.com".parse().unwrap(), "203.0.113.9".parse().unwrap()]),
        port: Some(8443),
    };
    for version in ["1.20.2", "1.36.2"] {
        for (role, node, stage) in [("first", 1, Stage::Initialize), ("worker", 4, Stage::Prepare)] {
            let mut order = order(node, stage, version);
            order.settings = Settings::of(Some(&chosen)).unwrap();
            let name = format!("kubeadm-{version}-chosen-{role}-{}.txt", stage.word());
            compare(name, render(&kubeadm().compile(&order, &observed(version)).unwrap()));
        }
    }
    for version in ["1.20.2", "1.28.4", "1.36.2"] {
        let renewal = upkeep::renewal(&version.parse().unwrap(), "10.77.0.1:6443").unwrap();
        compare(format!("kubeadm-{version}-renewal.txt"), render(&renewal));
        for (role, node, stages) in &whole {
            for stage in stages {
                // What a node is brought to is the patch release after the one that it has.
                let version = match (stage, version) {
                    (Stage::Upgrade, "1.20.2") => "1.20.3",
                    (Stage::Upgrade, "1.28.4") => "1.28.5",
                    (Stage::Upgrade, _) => "1.36.3",
                    (_, version) => version,
                };
                let name = format!("kubeadm-{version}-{role}-{}.txt", stage.word());
                let order = order(*node, *stage, version);
                compare(name, render(&kubeadm().compile(&order, &observed(version)).unwrap()));
            }
        }
    }
    assert!(wrong.is_empty(), "plans differ from tests/golden: {wrong:?}; look, then QB_BLESS=1");
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut Assignment), node, stage| {
        let mut order = order(node, stage, "1.20.2");
        change(&mut order);
        kubeadm().compile(&order, &Observed::default()).unwrap_err()
    };
    let said = |error: DriverError, part: &str| {
        let text = error.to_string();
        assert!(text.contains(part), "{text}");
    };
    said(refused(|o| o.version = "1.19.0".parse().unwrap(), 1, Stage::Prepare), "versions 1.20 to 1.36");
    said(refused(|o| o.driver = "rehearsal".parse().unwrap(), 1, Stage::Prepare), "not kubeadm");
    said(refused(|o| o.members[1].address = "lyon".to_owned(), 1, Stage::Prepare), "not an IP address");
    said(refused(|o| drop(o.members.remove(0)), 1, Stage::Prepare), "does not list");
    said(refused(|_| (), 2, Stage::Initialize), "only the first member");
    said(refused(|_| (), 4, Stage::Initialize), "only a control plane node");
    said(refused(|_| (), 1, Stage::Join), "it initializes");
    said(refused(|_| (), 4, Stage::Restore), "only a control plane node");
    said(refused(|_| (), 1, Stage::Restore), "names a backup");
    // Leaving works whatever is left of the others.
    let mut leaving = order(4, Stage::Leave, "1.20.2");
    leaving.members[0].address = "gone".to_owned();
    assert!(kubeadm().compile(&leaving, &Observed::default()).is_ok());
}

/// A bundle of plain files.
fn bundle(version: &str, paths: &[&str]) -> Manifest {
    let file = |path: &str| Artifact {
        name: path.replace(['/', '.'], "-").parse().unwrap(),
        kind: ArtifactKind::File(Place { path: path.parse().unwrap(), executable: true }),
        sha256: Digest([1; 32]),
        size: 1,
        unpacked: 1,
    };
    Manifest {
        v: FORMAT,
        name: "kubeadm".parse().unwrap(),
        driver: "kubeadm".parse().unwrap(),
        version: version.parse().unwrap(),
        channel: "stable".parse().unwrap(),
        arch: "x86_64".to_owned(),
        created_ms: Millis(0),
        min_agent: "0.1.0".parse().unwrap(),
        chunks: Chunks { size: 32, sha256: Digest([2; 32]) },
        artifacts: paths.iter().map(|path| file(path)).collect(),
    }
}

#[test]
fn a_bundle_without_crictl_makes_no_old_control_plane_node() {
    let compile = |version: &str, node, paths: &[&str]| {
        let bundle = Some(bundle(version, paths));
        let observed = Observed { bundle, arch: "x86_64".to_owned(), ..Observed::default() };
        kubeadm().compile(&order(node, Stage::Prepare, version), &observed).map(drop)
    };
    let lacks = |result| matches!(result, Err(DriverError::Lacks { program: "bin/crictl", .. }));
    assert!(lacks(compile("1.20.2", 1, &["bin/kubeadm"])));
    assert!(lacks(compile("1.30.1", 2, &["bin/kubeadm"])));
    assert_eq!(compile("1.20.2", 1, &["bin/kubeadm", "bin/crictl"]), Ok(()));
    assert_eq!(compile("1.20.2", 4, &["bin/kubeadm"]), Ok(()), "a worker asks for no images");
    assert_eq!(compile("1.31.0", 1, &["bin/kubeadm"]), Ok(()), "kubeadm speaks to the runtime itself");
    // What an archive holds is not known before it is unpacked.
    let mut packed = bundle("1.20.2", &["bin/kubeadm"]);
    packed.artifacts[0].kind = ArtifactKind::Tar;
    let observed = Observed { bundle: Some(packed), ..Observed::default() };
    assert!(kubeadm().compile(&order(1, Stage::Prepare, "1.20.2"), &observed).is_ok());
}

#[test]
fn a_host_is_looked_at_and_written_down_before_it_is_touched() {
    let steps = kubeadm().compile(&order(1, Stage::Prepare, "1.20.2"), &Observed::default()).unwrap();
    let on_host: Vec<&HostAction> = steps
        .iter()
        .filter_map(|s| if let StepAction::Host { host } = &s.action { Some(host) } else { None })
        .collect();
    assert!(matches!(on_host[..2], [HostAction::Fit, HostAction::Record]), "{on_host:?}");
    for stage in [Stage::Prepare, Stage::Initialize] {
        let steps = kubeadm().compile(&order(1, stage, "1.20.2"), &Observed::default()).unwrap();
        let last = &steps.last().unwrap().action;
        assert!(matches!(last, StepAction::Host { host: HostAction::Sync }), "{last:?}");
    }
}

fn kubeadm_way_back(node: u8, stage: Stage) -> Option<HostAction> {
    kubeadm().way_back(&order(node, stage, "1.20.3")).unwrap()
}

#[test]
fn an_upgrade_changes_nothing_before_all_is_here_and_the_kubelet_last() {
    let at = |node: u8, wanted: fn(&StepAction) -> bool| {
        let steps = kubeadm().compile(&order(node, Stage::Upgrade, "1.20.3"), &Observed::default()).unwrap();
        steps.iter().position(|s| wanted(&s.action))
    };
    let verb = |action: &StepAction| match action {
        StepAction::Host { host: HostAction::Kubeadm(run) } => Some(run.verb),
        _ => None,
    };
    for (node, applies, rules) in [(1, true, true), (2, false, true), (4, false, false)] {
        let steps = kubeadm().compile(&order(node, Stage::Upgrade, "1.20.3"), &Observed::default()).unwrap();
        let verbs: Vec<KubeadmVerb> = steps.iter().filter_map(|s| verb(&s.action)).collect();
        let wanted = if applies { KubeadmVerb::UpgradeApply } else { KubeadmVerb::UpgradeNode };
        assert_eq!(verbs, [wanted], "node {node}");
        let unpack = at(node, |a| matches!(a, StepAction::Unpack { .. }));
        let images = at(node, |a| matches!(a, StepAction::Host { host: HostAction::Images { .. } }));
        let run = at(node, |a| matches!(a, StepAction::Host { host: HostAction::Kubeadm(_) }));
        let kubelet = at(node, |a| {
            matches!(a, StepAction::Host { host: HostAction::Start { unit: HostUnit::Kubelet } })
        });
        let ready = at(node, |a| matches!(a, StepAction::Host { host: HostAction::AwaitNode { .. } }));
        assert!(unpack.is_some(), "node {node}");
        let select = at(node, |a| matches!(a, StepAction::Host { host: HostAction::Select { .. } }));
        let kept = at(node, |a| matches!(a, StepAction::Host { host: HostAction::Keep { .. } }));
        assert!(unpack < kept && kept < images && images < run, "node {node}");
        assert!(run < select && select < kubelet && kubelet < ready, "node {node}");
        // Before anything is switched, images and kubeadm are taken from the new tree by name; the way
        // back knows the same tree.
        let mut trees = Vec::new();
        for step in &steps {
            match &step.action {
                StepAction::Host { host: HostAction::Images { tree, .. } } => {
                    trees.push(tree.clone().unwrap());
                }
                StepAction::Host { host: HostAction::Kubeadm(run) } => trees.push(run.tree.clone().unwrap()),
                StepAction::Host { host: HostAction::Select { tree } | HostAction::Keep { tree } } => {
                    trees.push(tree.clone());
                }
                _ => {}
            }
        }
        let back = kubeadm_way_back(node, Stage::Upgrade);
        let Some(HostAction::GoBack { tree, server, .. }) = back else { panic!("node {node}: no way back") };
        trees.push(tree);
        assert!(trees.len() == 5 && trees.windows(2).all(|two| two[0] == two[1]), "node {node}: {trees:?}");
        assert_eq!(server.is_some(), rules, "node {node}");
        for stage in [Stage::Prepare, Stage::Join, Stage::Leave] {
            assert_eq!(kubeadm_way_back(node, stage), None, "they are tried again and again");
        }
        let gate = at(node, |a| matches!(a, StepAction::Host { host: HostAction::AwaitApi { .. } }));
        assert_eq!(gate, rules.then_some(0), "node {node}");
    }
}

/// By itself it refuses them since 1.35, and the flag is told to no kubelet that might not know it.
#[test]
fn a_kubelet_starts_on_control_groups_of_the_first_version() {
    for (version, told) in [("1.30.1", false), ("1.34.0", false), ("1.35.0", true), ("1.36.2", true)] {
        for stage in [Stage::Prepare, Stage::Upgrade] {
            let steps = kubeadm().compile(&order(4, stage, version), &Observed::default()).unwrap();
            assert_eq!(render(&steps).contains(" --fail-cgroupv1=false "), told, "{version}");
        }
    }
}

/// Since 1.32 it would be brought to a cluster that has none, and its image would never come.
#[test]
fn an_upgrade_brings_no_dns_whose_image_the_bundle_does_not_hold() {
    let (with, without) = (["bin/crictl", "images/coredns.tar"], ["bin/crictl", "images/pause.tar"]);
    for (node, version, paths, left_out) in [
        (1, "1.31.4", without, false),
        (1, "1.32.0", without, true),
        (2, "1.32.0", without, true),
        (4, "1.32.0", without, false),
        (1, "1.36.3", with, false),
        (2, "1.36.3", with, false),
    ] {
        let bundle = Some(bundle(version, &paths));
        let observed = Observed { bundle, arch: "x86_64".to_owned(), ..Observed::default() };
        let steps = kubeadm().compile(&order(node, Stage::Upgrade, version), &observed).unwrap();
        let skipped = steps.iter().find_map(|s| match &s.action {
            StepAction::Host { host: HostAction::Kubeadm(run) } => Some(run.skip_phases.clone()),
            _ => None,
        });
        let wanted: &[&str] = if left_out { &["addon/coredns"] } else { &[] };
        assert_eq!(skipped.unwrap(), wanted, "node {node} to {version}");
    }
}

/// kubeadm 1.29 writes it to clusters that come from 1.28; later ones do so only at `init`.
#[test]
fn an_upgrade_leaves_no_credential_that_nobody_could_revoke() {
    for (node, version, removed) in [
        (1, "1.28.5", false),
        (1, "1.29.3", true),
        (2, "1.29.3", false),
        (4, "1.29.3", false),
        (1, "1.30.1", false),
    ] {
        let steps = kubeadm().compile(&order(node, Stage::Upgrade, version), &Observed::default()).unwrap();
        let at = |wanted: fn(&HostAction) -> bool| {
            steps.iter().position(|s| matches!(&s.action, StepAction::Host { host } if wanted(host)))
        };
        let run = at(|host| matches!(host, HostAction::Kubeadm(_)));
        let gone = at(|host| {
            let HostAction::Remove { places } = host else { return false };
            places == &[HostPlace::Kubernetes("super-admin.conf".parse().unwrap())]
        });
        assert_eq!(gone.is_some(), removed, "node {node} to {version}");
        assert!(gone.is_none() || gone > run, "node {node} to {version}");
    }
}

proptest! {
    #[test]
    fn any_cluster_compiles_to_the_same_numbered_steps(
        control in 1u8..=5, workers in 0u8..=20, at in 0u8..=24, minor in 20u32..=36, nested: bool,
    ) {
        let roles = (0..control).map(|_| NodeRole::ControlPlane).chain((0..workers).map(|_| NodeRole::Worker));
        let members: Vec<Member> =
            (1..).zip(roles).map(|(n, role)| member(n, u16::from(n) * 3, role)).collect();
        let mut order = order(1, Stage::Prepare, &format!("1.{minor}.0"));
        let node = &members[usize::from(at) % members.len()];
        (order.node, order.role) = (node.node, node.role);
        order.members = members;
        let observed = Observed { nested, cgroup: Some(1 + minor as u8 % 2), ..Observed::default() };
        for stage in [Stage::Prepare, Stage::Initialize, Stage::Join, Stage::Upgrade, Stage::Leave] {
            order.stage = stage;
            let Ok(steps) = kubeadm().compile(&order, &observed) else {
                prop_assert!(matches!(stage, Stage::Initialize | Stage::Join));
                continue;
            };
            prop_assert_eq!(&kubeadm().compile(&order, &observed).unwrap(), &steps);
            prop_assert!(steps.iter().zip(1..).all(|(step, id)| step.id == id));
            let text = serde_json::to_string(&steps).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Vec<Step>>(&text).unwrap(), &steps);
            let titles: BTreeSet<&str> = steps.iter().map(|s| s.title.as_str()).collect();
            prop_assert!(titles.len() + 1 >= steps.len(), "steps of one title: {titles:?}");
            prop_assert!(!render(&steps).contains("PRIVATE KEY"));
        }
    }
}
