//! S71: the agent's process is in the wrong hands. Whatever it hands over, nothing runs.

use qb_exec::{BindingsRequest, Order, RemoteError, TrustGrounds};
use qb_model::action::{Action, NodeRole};
use qb_model::assignment::Stage;
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::ids::{Digest, Generation, NodeId, SealKey};

use crate::orders::carry_out;
use crate::program::Program;
use crate::signed::{Signed, key, node};

/// Hands an order over and asks that it is refused before anything is done.
async fn refused(program: &Program, order: Order, bundle: Option<&[u8]>, want: &str) {
    let before = program.clusters();
    match carry_out(program, order, bundle).await {
        Err(RemoteError::Refused(why)) => assert!(why.contains(want), "{why}, not {want}"),
        other => panic!("{other:?}, not {want}"),
    }
    assert_eq!(program.clusters(), before, "{want}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_compromised_agent_hands_over_does_not_run() {
    let mut site = Signed::new(92, 1);
    let other = Signed::new(92, 2);
    let temp = tempfile::tempdir().unwrap();
    let mut program = Program::start(temp.path(), &site).await;
    let seal = program.remote.about().await.unwrap().seal_key;
    let good = site.order(1, Stage::Prepare, 5, seal);
    let bundle = site.bundle.clone();

    type Change = fn(&mut Order);
    let changes: [(Change, &str); 9] = [
        // Another driver, version, bundle, stage, role, cluster or node than was signed.
        (|o| o.assignment.bundle = Digest([1; 32]), "no signed intent implies"),
        (|o| o.assignment.version = "9.9.9".parse().unwrap(), "no signed intent implies"),
        (|o| o.assignment.cluster = "green".parse().unwrap(), "no signed intent implies"),
        (|o| o.assignment.role = NodeRole::Worker, "the role is not the member's"),
        (|o| o.assignment.stage = Stage::Leave, "leaving needs an intent"),
        (|o| o.assignment.node = node(2), "another node or site"),
        // Intents and trust that nobody signed.
        (|o| o.grounds.order.0 = o.grounds.create.0.clone(), "digest is not the one cited"),
        (|o| o.grounds.trust_log[0].envelope[40] ^= 1, "trust log does not stand"),
        (|o| o.grounds.charter[60] ^= 1, "trust log does not stand"),
    ];
    for (change, want) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        refused(&program, bad, Some(&bundle), want).await;
    }
    // Another site, whole and well signed: the machine is bound to its own.
    refused(&program, other.order(1, Stage::Prepare, 9, seal), Some(&bundle), "for another site").await;
    let mut mixed = other.order(1, Stage::Prepare, 9, seal);
    mixed.own = site.record(1, seal);
    refused(&program, mixed, Some(&bundle), "another node or site").await;
    // Another node's order: the caller has no key of that node, nor one over another executor's key.
    let mut stolen = site.order(2, Stage::Prepare, 5, seal);
    stolen.own = site.record(1, seal);
    refused(&program, stolen, Some(&bundle), "another node or site").await;
    let mut stolen = site.order(2, Stage::Prepare, 5, seal);
    stolen.own = site.record(2, SealKey([7; 32]));
    refused(&program, stolen, Some(&bundle), "another seal key").await;
    let mut stolen = site.order(2, Stage::Prepare, 5, seal);
    stolen.own.key = key(101).public_key();
    refused(&program, stolen, Some(&bundle), "does not prove").await;

    // Bundles: another one than the order's, one with a byte changed.
    let (unsigned, artifacts) =
        qb_drivers::build_rehearsal_bundle(&"1.0.1".parse().unwrap(), qb_model::ids::Millis(1)).unwrap();
    for (by, want) in [(9, "no publisher"), (50, "the order names")] {
        let mut wrong = unsigned.sign(&[&SecretKey::from_bytes(&[by; 32])]);
        wrong.extend_from_slice(&artifacts);
        refused(&program, good.clone(), Some(&wrong), want).await;
    }
    let mut damaged = bundle.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    refused(&program, good.clone(), Some(&damaged), "chunk 0 of the bundle").await;
    assert!(program.clusters().is_empty());
    refused(&program, good.clone(), Some(&vec![0; (9 << 20) + 1]), "is damaged").await;
    let large = qb_exec::file_of(b"").unwrap();
    large.set_len(qb_exec::limits::BUNDLE_BYTES + (1 << 20)).unwrap();
    let (progress, _) = tokio::sync::watch::channel(Vec::new());
    let stopped = program.remote.carry_out(good.clone(), Some(large), &progress).await.unwrap_err();
    assert!(stopped.to_string().contains("at most"), "{stopped}");

    // The good one, and then everything older than it.
    carry_out(&program, good.clone(), Some(&bundle)).await.unwrap();
    refused(&program, site.order(1, Stage::Prepare, 4, seal), Some(&bundle), "generation 4").await;
    refused(&program, site.order(2, Stage::Prepare, 9, seal), Some(&bundle), "this machine is node").await;
    let older = site.trust.clone();
    site.trusts(Action::PublisherRemove { key: key(50).public_key() });
    let newer = site.order(1, Stage::Prepare, 6, seal);
    // The publisher was removed: its bundle is not taken any more, whoever hands it over.
    let stopped = carry_out(&program, newer, Some(&bundle)).await.unwrap_err().to_string();
    assert!(stopped.contains("no publisher"), "{stopped}");
    // Truncated: the trust log from before, which would bring the publisher back. Also after a restart.
    program.again().await;
    site.trust = older;
    refused(&program, site.order(1, Stage::Prepare, 7, seal), Some(&bundle), "does not contain the one")
        .await;
    site.trust.clear();
    refused(&program, site.order(1, Stage::Prepare, 7, seal), Some(&bundle), "does not contain the one")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn join_secrets_are_made_for_those_who_are_ordered_to_join_here() {
    let site = Signed::new(93, 1);
    let temp = tempfile::tempdir().unwrap();
    let program = Program::start(temp.path(), &site).await;
    let seal = program.remote.about().await.unwrap().seal_key;
    let theirs = SealKey([3; 32]);
    let refused = async |request: qb_exec::MintRequest, want: &str| {
        let why = program.remote.mint_join(request).await.unwrap_err().to_string();
        assert!(why.contains(want), "{why}, not {want}");
    };
    refused(site.mint(theirs), "not known yet").await;
    for (stage, generation) in [(Stage::Prepare, 1), (Stage::Initialize, 2)] {
        let order = site.order(1, stage, generation, seal);
        carry_out(&program, order, Some(&site.bundle)).await.unwrap();
    }
    let good = site.mint(theirs);
    // Somebody whom no intent names.
    let mut unnamed = good.clone();
    unnamed.order.node = node(3);
    unnamed.seal = site.record(3, theirs);
    refused(unnamed, "not among the members").await;
    let mut unnamed = good.clone();
    unnamed.order.members[0].node = NodeId([9; 32]);
    unnamed.order.members[1].node = node(3);
    unnamed.order.node = node(3);
    refused(unnamed, "no signed intent implies").await;
    // An order that is none to join, or to join elsewhere.
    let mut prepare = good.clone();
    prepare.order.stage = Stage::Prepare;
    refused(prepare, "not one to join").await;
    let mut elsewhere = good.clone();
    elsewhere.order.first = node(2);
    refused(elsewhere, "does not hold the registry").await;
    // A key that the recipient did not sign.
    let mut wrong = good.clone();
    wrong.seal = site.record(1, theirs);
    refused(wrong, "another node's").await;
    let mut wrong = good.clone();
    let at = wrong.seal.body.len() / 2;
    wrong.seal.body[at] ^= 1;
    refused(wrong, "record is not valid").await;
    let mut foreign = good.clone();
    foreign.seal = Signed::new(93, 2).record(2, theirs);
    refused(foreign, "another node's").await;
    // An older order of the same node, after a newer one had its secret.
    let sealed = program.remote.mint_join(good.clone()).await.unwrap();
    assert_eq!((sealed.context.recipient, sealed.context.sender), (node(2), node(1)));
    let mut older = good.clone();
    older.order.generation = Generation(1);
    refused(older, "of generation 2 had its secret before").await;
    program.remote.mint_join(good).await.unwrap();
}

/// Rights in a cluster follow a trust log of this site that is not older than the one seen here.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_an_admin_of_a_cluster_by_the_agents_word() {
    let (site, other) = (Signed::new(97, 1), Signed::new(97, 2));
    let temp = tempfile::tempdir().unwrap();
    let program = Program::start(temp.path(), &site).await;
    let ask = async |of: &Signed, change: &dyn Fn(&mut TrustGrounds)| {
        let charter = of.charter.envelope().to_vec();
        let mut grounds = TrustGrounds { charter, trust_log: of.trust.clone() };
        change(&mut grounds);
        let request = BindingsRequest { cluster: "blue".parse().unwrap(), grounds };
        program.remote.keep_bindings(request).await.unwrap_err()
    };
    let refused = async |of: &Signed, change: &dyn Fn(&mut TrustGrounds)| match ask(of, change).await {
        RemoteError::Refused(_) => {}
        other => panic!("{other:?}"),
    };
    refused(&other, &|_| ()).await;
    refused(&site, &|grounds| grounds.charter = b"{}".to_vec()).await;
    // One that stands gets further, and is remembered.
    match ask(&site, &|_| ()).await {
        RemoteError::Stopped(error) => {
            assert!(error.text.contains("does not lie on this machine"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    refused(&site, &|grounds| grounds.trust_log.clear()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_stays_bound_to_its_site() {
    let (site, other) = (Signed::new(94, 1), Signed::new(94, 2));
    let temp = tempfile::tempdir().unwrap();
    let mut program = Program::start(temp.path(), &site).await;
    let seal = program.remote.about().await.unwrap().seal_key;
    let file = program.home.join("site.enroll.json");
    std::fs::write(&file, other.enrolment()).unwrap();
    program.again().await;
    let why = program.remote.about().await.unwrap().site.unwrap_err();
    let words = |site: &Signed| qb_model::words::words(&site.id().0.0).join(" ");
    assert!(why.contains(&words(&site)) && why.contains(&words(&other)), "{why}");
    refused(&program, other.order(1, Stage::Prepare, 1, seal), Some(&other.bundle), "is bound to site").await;
    refused(&program, site.order(1, Stage::Prepare, 1, seal), Some(&site.bundle), "is bound to site").await;
    // Without the file, or with one that is damaged, it is still of its site.
    for text in ["{", ""] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(program.again().await.site, Ok(site.id()));
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(program.again().await.site, Ok(site.id()));
    carry_out(&program, site.order(1, Stage::Prepare, 1, seal), Some(&site.bundle)).await.unwrap();
    // The key stays as well.
    assert_eq!(program.again().await.seal_key, seal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_a_site_takes_no_order_and_says_where_the_file_goes() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Signed::new(95, 1);
    let temp = tempfile::tempdir().unwrap();
    let mut program = Program::start(temp.path(), &site).await;
    program.kill();
    std::fs::remove_file(program.root.join("site.json")).unwrap();
    let file = program.home.join("site.enroll.json");
    std::fs::remove_file(&file).unwrap();
    let about = program.again().await;
    let why = about.site.unwrap_err();
    assert!(why.contains("enrolled in no site") && why.contains("site.enroll.json"), "{why}");
    refused(&program, site.order(1, Stage::Prepare, 1, about.seal_key), None, "enrolled in no site").await;
    // One that anybody could have written is not believed.
    std::fs::write(&file, site.enrolment()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let why = program.remote.about().await.unwrap().site.unwrap_err();
    assert!(why.contains("can be written by others"), "{why}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    // It is found without a restart.
    assert_eq!(program.remote.about().await.unwrap().site, Ok(site.id()));
}
