//! Every role and stage of the rehearsal as text, compared with `golden/`. `QB_BLESS=1` rewrites
//! the files; the diff of a commit then shows what changes on a host.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use qb_drivers::{DriverError, Observed, Step, driver, names, render};
use qb_model::action::NodeRole;
use qb_model::assignment::{Assignment, Citation, Member, Stage};
use qb_model::ids::{Digest, Generation, NodeId, SiteId};
use qb_model::settings::Settings;

fn member(n: u8, role: NodeRole) -> Member {
    Member {
        node: NodeId([n; 32]),
        host: format!("lyon-r1-0{n}").parse().unwrap(),
        address: format!("127.0.1.{n}"),
        role,
        slot: u16::from(n) - 1,
    }
}

fn order(node: u8, stage: Stage) -> Assignment {
    let members = vec![
        member(1, NodeRole::ControlPlane),
        member(2, NodeRole::ControlPlane),
        member(3, NodeRole::Worker),
    ];
    let cites = Citation { digest: Digest([7; 32]), index: 12 };
    Assignment {
        site: SiteId(Digest([9; 32])),
        node: NodeId([node; 32]),
        generation: Generation(4),
        cluster: "clus100".parse().unwrap(),
        driver: "rehearsal".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
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

fn compile(order: &Assignment) -> Result<Vec<Step>, DriverError> {
    driver(&order.driver).unwrap().compile(order, &Observed::default())
}

#[test]
fn plans_are_the_golden_ones() {
    let cases = [
        ("first", 1, [Stage::Prepare, Stage::Initialize, Stage::Leave]),
        ("control-plane", 2, [Stage::Prepare, Stage::Join, Stage::Leave]),
        ("worker", 3, [Stage::Prepare, Stage::Join, Stage::Leave]),
    ];
    let mut wrong = Vec::new();
    for (role, node, stages) in cases {
        for stage in stages {
            let name = format!("rehearsal-{role}-{}.txt", stage.word());
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(&name);
            let text = render(&compile(&order(node, stage)).unwrap());
            if std::env::var_os("QB_BLESS").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            if std::fs::read_to_string(&path).unwrap_or_default() != text {
                wrong.push(name);
            }
        }
    }
    assert!(wrong.is_empty(), "plans differ from tests/golden: {wrong:?}; look, then QB_BLESS=1");
}

#[test]
fn steps_are_numbered_from_one_and_survive_serialization() {
    for stage in [Stage::Prepare, Stage::Initialize, Stage::Leave] {
        let steps = compile(&order(1, stage)).unwrap();
        assert!(steps.iter().zip(1..).all(|(step, id)| step.id == id));
        let text = serde_json::to_string(&steps).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Step>>(&text).unwrap(), steps);
    }
    let joins = compile(&order(2, Stage::Join)).unwrap();
    let text = serde_json::to_string(&joins).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Step>>(&text).unwrap(), joins);
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut Assignment), node, stage| {
        let mut order = order(node, stage);
        change(&mut order);
        driver(&"rehearsal".parse().unwrap()).unwrap().compile(&order, &Observed::default()).unwrap_err()
    };
    assert!(matches!(refused(|_| {}, 3, Stage::Initialize), DriverError::Stage { .. }));
    assert!(matches!(refused(|_| {}, 2, Stage::Initialize), DriverError::Stage { .. }));
    assert!(matches!(refused(|_| {}, 1, Stage::Join), DriverError::Stage { .. }));
    let version = |o: &mut Assignment| o.version = "2.0.0".parse().unwrap();
    assert!(matches!(refused(version, 1, Stage::Prepare), DriverError::Version { .. }));
    let other = |o: &mut Assignment| o.driver = "kubeadm".parse().unwrap();
    assert!(matches!(refused(other, 1, Stage::Prepare), DriverError::OtherDriver { .. }));
    let gone = |o: &mut Assignment| o.members.retain(|m| m.node.0[0] != 3);
    assert!(matches!(refused(gone, 3, Stage::Join), DriverError::NotAMember { .. }));
    let name = |o: &mut Assignment| o.members[0].address = "lyon;reboot".to_owned();
    assert!(matches!(refused(name, 3, Stage::Prepare), DriverError::Address { .. }));
}

#[test]
fn a_node_leaves_whatever_became_of_version_and_first_member() {
    let mut order = order(3, Stage::Leave);
    order.version = "2.0.0".parse().unwrap();
    order.members.retain(|m| m.node.0[0] == 3);
    assert_eq!(compile(&order).unwrap().len(), 3);
}

#[test]
fn every_driver_is_known_by_its_name() {
    for name in names() {
        assert_eq!(driver(&name.parse().unwrap()).unwrap().name(), *name);
    }
    assert!(driver(&"kubernetes".parse().unwrap()).is_none());
}
