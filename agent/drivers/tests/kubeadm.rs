//! The driver `kubeadm`: every role and stage as text, compared with `golden/`, for a version of each form
//! of kubeadm's configuration. `QB_BLESS=1` rewrites the files; the diff of a commit then shows what
//! changes on a host.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;
use qb_drivers::host_step::HostAction;
use qb_drivers::{Driver, DriverError, Observed, Step, StepAction, driver, render};
use qb_model::action::NodeRole;
use qb_model::assignment::{Assignment, Citation, Member, Stage};
use qb_model::ids::{Digest, Generation, NodeId, SiteId};

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
    Observed { cgroup: Some(if version == "1.28.4" { 2 } else { 1 }), nested: true, ..Observed::default() }
}

#[test]
fn plans_are_the_golden_ones() {
    let whole = [
        ("first", 1, vec![Stage::Prepare, Stage::Initialize, Stage::Leave]),
        ("control-plane", 2, vec![Stage::Prepare, Stage::Join, Stage::Leave]),
        ("worker", 4, vec![Stage::Prepare, Stage::Join, Stage::Leave]),
    ];
    let mut wrong = Vec::new();
    for version in ["1.20.2", "1.28.4", "1.36.2"] {
        for (role, node, stages) in &whole {
            for stage in stages {
                let name = format!("kubeadm-{version}-{role}-{}.txt", stage.word());
                let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(&name);
                let order = order(*node, *stage, version);
                let text = render(&kubeadm().compile(&order, &observed(version)).unwrap());
                if std::env::var_os("QB_BLESS").is_some() {
                    std::fs::write(&path, &text).unwrap();
                }
                if std::fs::read_to_string(&path).unwrap_or_default() != text {
                    wrong.push(name);
                }
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
    // Leaving works whatever is left of the others.
    let mut leaving = order(4, Stage::Leave, "1.20.2");
    leaving.members[0].address = "gone".to_owned();
    assert!(kubeadm().compile(&leaving, &Observed::default()).is_ok());
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
        for stage in [Stage::Prepare, Stage::Initialize, Stage::Join, Stage::Leave] {
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
