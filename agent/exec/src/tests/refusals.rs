//! What is refused, and what giving up does.

use super::*;
use crate::StepState;

async fn refused(site: &Site, node: &Node, order: Assignment, join: Option<SealedSecret>) -> String {
    run(&node.exec, order, site.supplies(join), None).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn older_and_foreign_orders_and_held_nodes_do_nothing() {
    let site = Site::new(77, &ALL);
    let node = site.open(1).await;
    let empty = listing(&node.root);
    let mut other = site.order(1, Stage::Prepare);
    other.node = NodeId([2; 32]);
    assert!(refused(&site, &node, other, None).await.contains("another node"));
    std::fs::write(site.home.join("hold"), "").unwrap();
    let text = refused(&site, &node, site.order(1, Stage::Prepare), None).await;
    assert!(text.contains("held on this machine") && text.contains("rm /"), "{text}");
    assert_eq!(listing(&node.root), empty);
    std::fs::remove_file(site.home.join("hold")).unwrap();
    site.run(&node, Stage::Prepare, None).await;
    // The floor outlives the process.
    drop(node);
    let node = site.open(1).await;
    let mut older = site.order(1, Stage::Leave);
    older.generation = Generation(0);
    assert!(refused(&site, &node, older, None).await.contains("generation 0"));
    let mut same = site.order(1, Stage::Leave);
    same.generation = Generation(1);
    assert!(refused(&site, &node, same, None).await.contains("another order"));
    assert!(node.root.join("clusters/clus100/config/cluster.json").exists());
    site.run(&node, Stage::Prepare, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_cluster_needs_the_packaged_executor() {
    let site = Site::new(99, &ALL);
    let node = site.open(1).await;
    let empty = listing(&node.root);
    let mut order = site.order(1, Stage::Prepare);
    order.driver = "kubeadm".parse().unwrap();
    let text = refused(&site, &node, order, None).await;
    assert!(text.contains("needs the packaged executor") && text.contains("qb-agent package"), "{text}");
    assert_eq!(listing(&node.root), empty);
    // Nobody is let into one, either.
    let real = Recipient { real: true, ..site.mint(3) };
    assert!(node.exec.mint_for(real).await.unwrap_err().to_string().contains("does not hold"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_floor_is_not_a_new_one() {
    let site = Site::new(78, &ALL);
    let node = site.open(1).await;
    std::fs::write(node.root.join("floor.json"), "{").unwrap();
    drop(node);
    let config = ExecConfig {
        root: site.home.join("1"),
        hold: site.home.join("hold"),
        node: Some(NodeId([1; 32])),
        site: SiteSource::Told(SiteId(Digest([9; 32]))),
        seal_secret: seal_secret(1),
        stand_in: stand_in(),
        units: Units::Children,
    };
    assert!(Exec::open(config).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bundles_are_not_unpacked() {
    let site = Site::new(79, &ALL);
    let node = site.open(1).await;
    let prepare = || site.order(1, Stage::Prepare);
    let (supplies, (progress, _)) = (site.supplies(None), watch::channel(Vec::new()));
    let (cancel, order, publishers) = (CancellationToken::new(), prepare(), Vec::new());
    let unpublished = Run {
        order,
        publishers,
        backup: None,
        supplies,
        progress,
        cancel: cancel.clone(),
        points_left: None,
    };
    let text = node.exec.run_order(unpublished, cancel).await.unwrap_err().to_string();
    assert!(text.contains("no publisher"), "{text}");
    let mut supplies = site.supplies(None);
    supplies.bundle = None;
    let text = run(&node.exec, prepare(), supplies, None).await.unwrap_err().to_string();
    assert!(text.contains("is not on this node") && text.contains("qb bundle push"), "{text}");
    let mut order = prepare();
    order.bundle = Digest([1; 32]);
    order.generation = Generation(2);
    assert!(refused(&site, &node, order, None).await.contains("the order names"));
}

#[tokio::test(flavor = "multi_thread")]
async fn join_secrets_for_other_orders_are_refused() {
    let site = Site::new(80, &ALL);
    let first = site.first().await;
    let worker = site.open(3).await;
    site.run(&worker, Stage::Prepare, None).await;
    let join = || site.order(3, Stage::Join);
    assert!(refused(&site, &worker, join(), None).await.contains("no join secret from lyon-r1-01"));
    let good = first.exec.mint_for(site.mint(3)).await.unwrap();
    type Change = fn(&mut SealedSecret);
    let changes: [(Change, &str); 6] = [
        (|s| s.context.epoch = 2, "for another order"),
        (|s| s.context.generation = Generation(9), "for another order"),
        (|s| s.context.sender = NodeId([3; 32]), "for another order"),
        (|s| s.context.recipient = NodeId([2; 32]), "for another order"),
        (|s| s.context.expires_ms = Millis(1), "expired"),
        (|s| s.context.seal_seq = 2, "cannot be opened"),
    ];
    for (change, want) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let text = refused(&site, &worker, join(), Some(bad)).await;
        assert!(text.contains(want), "{text}");
    }
    // A newer secret ends the one before; the node gets in with the newest.
    let newer = first.exec.mint_for(site.mint(3)).await.unwrap();
    site.run(&worker, Stage::Join, Some(newer)).await;
    let other = Recipient { cluster: "clus101".parse().unwrap(), ..site.mint(3) };
    assert!(first.exec.mint_for(other).await.unwrap_err().to_string().contains("does not hold the registry"));
    assert!(worker.exec.mint_for(site.mint(2)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_says_what_for_and_can_be_given_up() {
    let site = Site::new(81, &ALL);
    let first = site.first().await;
    let worker = site.open(3).await;
    site.run(&worker, Stage::Prepare, None).await;
    let sealed = first.exec.mint_for(site.mint(3)).await.unwrap();
    first.exec.close().await;
    let (progress, mut watched) = watch::channel(Vec::<StepProgress>::new());
    let cancel = CancellationToken::new();
    let order = site.order(3, Stage::Join);
    let run = Run {
        order,
        publishers: vec![publisher().public_key()],
        backup: None,
        supplies: site.supplies(Some(sealed.clone())),
        progress,
        cancel: cancel.clone(),
        points_left: None,
    };
    let exec = worker.exec.clone();
    let (task, stop) = (exec.run_order(run, cancel.clone()), async {
        let waits = |steps: &Vec<StepProgress>| {
            steps.iter().any(|s| s.state == StepState::Applying && s.detail.contains("127.0.81.1:6443"))
        };
        watched.wait_for(waits).await.unwrap();
        cancel.cancel();
    });
    let (result, ()) = tokio::join!(task, stop);
    assert_eq!(result.unwrap_err().text, "stopped");
    // The first node returns, the order is given again, and all is well.
    drop(first);
    let _first = site.open(1).await;
    site.run(&worker, Stage::Join, Some(sealed)).await;
}
