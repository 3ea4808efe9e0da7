//! Taking other nodes out, and who the members are: what a caller can say, and what is made of it.

use qb_exec::{Peers, ReleaseRequest, StepProgress};
use qb_model::assignment::{Member, Stage};
use qb_model::ids::{Generation, NodeId};
use tokio::sync::watch;

use crate::orders::carry_out;
use crate::program::Program;
use crate::signed::{Signed, node};

/// The order of node 2 to leave.
fn leaving(site: &Signed) -> ReleaseRequest {
    ReleaseRequest { order: site.assignment(2, Stage::Leave, 3), grounds: site.grounds(Stage::Leave) }
}

async fn refused(program: &Program, request: ReleaseRequest, want: &str) {
    let (progress, _shown) = watch::channel(Vec::<StepProgress>::new());
    let why = program.remote.release(request, &progress).await.unwrap_err().to_string();
    assert!(why.contains(want), "{why}, not {want}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_taken_out_without_a_signed_intent_that_says_so() {
    let site = Signed::new(97, 1);
    let temp = tempfile::tempdir().unwrap();
    let program = Program::start(temp.path(), &site).await;
    let seal = program.remote.about().await.unwrap().seal_key;
    refused(&program, leaving(&site), "not known yet").await;
    let order = site.order(1, Stage::Prepare, 1, seal);
    carry_out(&program, order, Some(&site.bundle)).await.unwrap();
    // An order to join, with its grounds, or called one to leave.
    let mut joins = leaving(&site);
    joins.order.stage = Stage::Join;
    refused(&program, joins, "for another node").await;
    let attach = ReleaseRequest { grounds: site.grounds(Stage::Join), ..leaving(&site) };
    refused(&program, attach, "intent does not stand").await;
    let mut attach = leaving(&site);
    attach.order.cites = site.assignment(2, Stage::Join, 2).cites;
    attach.grounds = site.grounds(Stage::Join);
    refused(&program, attach, "neither a detach nor a revoke").await;
    // Somebody whom the intent does not name, or by a node that does not rule.
    let mut other = leaving(&site);
    other.order.node = node(3);
    refused(&program, other, "does not name").await;
    let mut ruled = leaving(&site);
    ruled.order.members.retain(|m| m.node != node(1));
    refused(&program, ruled, "no control plane member").await;
    // It stands; but the rehearsal's nodes leave by themselves.
    refused(&program, leaving(&site), "driver rehearsal takes nobody out").await;
    // Numbers of others do not count here.
    let mut old = leaving(&site);
    old.order.generation = Generation(1);
    refused(&program, old, "driver rehearsal takes nobody out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_noted_for_clusters_that_are_here_and_have_a_place_each() {
    let site = Signed::new(98, 1);
    let temp = tempfile::tempdir().unwrap();
    let program = Program::start(temp.path(), &site).await;
    let seal = program.remote.about().await.unwrap().seal_key;
    let members = site.assignment(1, Stage::Prepare, 1).members;
    let tell = async |members: Vec<Member>| {
        let told = program.remote.peers(Peers { cluster: "blue".parse().unwrap(), members }).await;
        told.map_err(|e| e.to_string())
    };
    assert!(tell(members.clone()).await.unwrap_err().contains("not known yet"));
    let order = site.order(1, Stage::Prepare, 1, seal);
    carry_out(&program, order, Some(&site.bundle)).await.unwrap();
    // A cluster without a pod network has nothing to note.
    tell(members.clone()).await.unwrap();
    let wrong: [fn(&mut Vec<Member>); 4] = [
        |all| all[1].slot = all[0].slot,
        |all| all[1].slot = 256,
        |all| all[1].address = "lyon-r1-02".to_owned(),
        |all| {
            let one = all[0].clone();
            all.extend((0..256u16).map(|n| Member {
                node: NodeId([u8::try_from(n % 256).unwrap(); 32]),
                slot: n,
                ..one.clone()
            }));
        },
    ];
    for (n, change) in wrong.into_iter().enumerate() {
        let mut members = members.clone();
        change(&mut members);
        let why = tell(members).await.unwrap_err();
        assert!(why.contains("no slot of its own") || why.contains("at most 256"), "{n}: {why}");
    }
}
