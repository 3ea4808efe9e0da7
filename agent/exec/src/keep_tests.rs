#![allow(clippy::unwrap_used)]

use qb_model::action::Label;
use qb_model::dsse::SecretKey;
use qb_model::ids::{Digest, NodeId};
use qb_model::intent::{Anchor, Intent};

use super::*;
use crate::people::tests::{Machine, charter, cluster};

fn request(intents: Vec<CitedIntent>) -> KeepRequest {
    let grounds = TrustGrounds { charter: charter().1, trust_log: Vec::new() };
    KeepRequest { cluster: cluster(), grounds, intents }
}

/// An intent as a key signs it.
fn signed(seed: u8, action: Action) -> CitedIntent {
    let site = charter().0.site_id();
    let intent = Intent {
        v: 1,
        site,
        id: "01J8ZQ6K3V5T7W9X1Y3Z5A7B9C".parse().unwrap(),
        by: "olga".parse().unwrap(),
        issued_ms: Millis(1_000),
        expires_ms: Millis(3_600_000),
        anchor: Anchor { index: 1, hash: Digest([1; 32]) },
        after: None,
        expect: Vec::new(),
        action,
        note: None,
    };
    let envelope = intent.sign(&[&SecretKey::from_bytes(&[seed; 32])]).unwrap().to_bytes();
    CitedIntent { envelope, cites: Citation { digest: intent.digest(), index: 5 }, at: Millis(2_000) }
}

fn set(cluster: Name) -> Action {
    Action::ClusterAddonSet { cluster, addon: "dns".parse().unwrap(), manifest: vec!["kind: Service".into()] }
}

fn label() -> Action {
    Action::ClusterLabel {
        cluster: cluster(),
        node: NodeId([9; 32]),
        host: "n1".parse().unwrap(),
        labels: vec![Label { key: "disk".into(), value: "ssd".into() }],
        taints: Vec::new(),
    }
}

#[tokio::test]
async fn what_admins_signed_is_kept() {
    let machine = Machine::new().await;
    let remove = Action::ClusterAddonRemove { cluster: cluster(), addon: "old".parse().unwrap() };
    let all = [set(cluster()), label(), remove].map(|action| signed(1, action)).to_vec();
    let verified = machine.exec.verify_keep(&request(all)).unwrap();
    let addon = |name: &str, manifest| Keep::Addon(Addon { name: name.parse().unwrap(), manifest });
    let labels = vec![Label { key: "disk".into(), value: "ssd".into() }];
    let marks = NodeMarks { host: "n1".parse().unwrap(), labels, taints: Vec::new() };
    let wanted = [addon("dns", Some(vec!["kind: Service".into()])), Keep::Marks(marks), addon("old", None)];
    assert_eq!(verified.things, wanted);
}

#[tokio::test]
async fn nothing_is_kept_that_no_admin_signed() {
    let machine = Machine::new().await;
    let refused = |intent: CitedIntent| {
        let error = machine.exec.verify_keep(&request(vec![signed(1, label()), intent])).unwrap_err();
        error.to_string()
    };
    let stranger = refused(signed(2, set(cluster())));
    assert!(stranger.contains("the intent is refused"), "{stranger}");
    let mut other = signed(1, set(cluster()));
    other.cites.digest = Digest([3; 32]);
    assert!(refused(other).contains("not the one cited"));
    let mut changed = signed(1, set(cluster()));
    changed.envelope[60] ^= 1;
    assert!(refused(changed).contains("the intent is refused"));
    let mut late = signed(1, set(cluster()));
    late.at = Millis(4_000_000);
    assert!(refused(late).contains("the intent is refused"));
    let elsewhere = refused(signed(1, set("red".parse().unwrap())));
    assert!(elsewhere.contains("says nothing that is kept in clus100"), "{elsewhere}");
    let detach = Action::ClusterDetach { cluster: cluster(), nodes: vec![NodeId([9; 32])] };
    assert!(refused(signed(1, detach)).contains("says nothing that is kept"));
    let many = request(vec![signed(1, label()); KEEP_INTENTS + 1]);
    assert!(machine.exec.verify_keep(&many).unwrap_err().to_string().contains("at most 16"));
    let mut forged = request(vec![signed(1, label())]);
    forged.grounds.charter = b"{}".to_vec();
    assert!(machine.exec.verify_keep(&forged).unwrap_err().to_string().contains("trust log does not stand"));
}

#[tokio::test]
async fn where_it_cannot_be_done_it_is_said_with_what_to_do() {
    let machine = Machine::new().await;
    let refused = async |name: Name| {
        let verified = VerifiedKeep { cluster: name, things: Vec::new() };
        machine.exec.keep(verified, &CancellationToken::new()).await.unwrap_err()
    };
    let elsewhere = refused("clus200".parse().unwrap()).await;
    assert!(elsewhere.text.contains("does not lie on this machine"), "{}", elsewhere.text);
    let children = refused(cluster()).await;
    assert!(children.remedy.contains("qb-agent package"), "{}", children.remedy);
    std::fs::write(&machine.exec.0.config.hold, "").unwrap();
    assert!(refused(cluster()).await.text.contains("held on this machine"));
}
