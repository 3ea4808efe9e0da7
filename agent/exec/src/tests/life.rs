//! From preparing to leaving, and that nothing is left.

use qb_model::preflight::{ProbeResult, Proto};

use super::*;
use crate::UnitState;
use crate::probe::{ProbeTarget, probe};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_live_and_leave_nothing_behind() {
    let net = 70;
    let site = Site::new(net, &ALL);
    let first = site.open(1).await;
    let before = listing(&first.root);
    site.run(&first, Stage::Prepare, None).await;
    let done = site.run(&first, Stage::Initialize, None).await;
    assert!(String::from_utf8(done.public).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let second = site.join(&first, 2).await;
    let third = site.join(&first, 3).await;
    for node in [&first, &second, &third] {
        let nodes = node.exec.nodes(&Site::cluster()).await.unwrap();
        assert_eq!(nodes.iter().map(|n| n.node.0[0]).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(nodes.iter().all(|n| n.ready));
    }
    answers(net).await;
    // No credential that was used, and no offer, is left anywhere.
    for node in [&first, &second, &third] {
        let all = listing(&node.root.join("clusters/clus100"));
        assert!(!all.contains_key(Path::new("secret/join.json")));
        assert!(all.keys().all(|path| path.parent() != Some(Path::new("data/offers"))));
        assert!(
            all.iter()
                .filter(|(path, _)| path.to_string_lossy().ends_with(".key"))
                .all(|(_, m)| m & 0o77 == 0)
        );
    }
    site.run(&third, Stage::Leave, None).await;
    assert_eq!(first.exec.nodes(&Site::cluster()).await.unwrap().len(), 2);
    site.run(&second, Stage::Leave, None).await;
    site.run(&first, Stage::Leave, None).await;
    for (n, node) in (1..).zip([&first, &second, &third]) {
        assert_eq!(listing(&node.root), before);
        assert!(node.exec.health(&Site::cluster()).await.is_empty());
        for port in [6443, 10_250] {
            assert!(!listens(net, n, port).await);
        }
    }
    // Once more is nothing.
    site.run(&third, Stage::Leave, None).await;
    assert_eq!(listing(&third.root), before);
}

/// The API servers of nodes 1 and 2 answer over TLS, the node services answer probes.
async fn answers(net: u8) {
    for n in [1, 2] {
        assert!(listens(net, n, 6443).await);
    }
    for n in 1..=3 {
        for (proto, port) in [(Proto::Tcp, 10_250), (Proto::Udp, 8472)] {
            let target = ProbeTarget {
                from: format!("127.0.{net}.1").parse().unwrap(),
                to: format!("127.0.{net}.{n}:{port}").parse().unwrap(),
                proto,
                expect: NodeId([n; 32]),
                serving: false,
                limit: Duration::from_secs(2),
            };
            assert!(matches!(probe(target).await, ProbeResult::Ok { .. }), "{n} {proto:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_come_back_with_the_executor_and_after_a_crash() {
    let site = Site::new(71, &ALL);
    let first = site.first().await;
    let worker = site.join(&first, 3).await;
    let pid = worker.exec.health(&Site::cluster()).await[0].pid.unwrap();
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    eventually("the unit is started again", || async {
        let units = worker.exec.health(&Site::cluster()).await;
        units[0].state == UnitState::Running && units[0].restarts == 1 && units[0].pid != Some(pid)
    })
    .await;
    // As after a reboot: everything ends, everything comes back.
    first.exec.close().await;
    worker.exec.close().await;
    assert!(!listens(71, 1, 6443).await);
    drop((first, worker));
    let (first, worker) = (site.open(1).await, site.open(3).await);
    eventually("both nodes are ready again", || async {
        let nodes = worker.exec.nodes(&Site::cluster()).await.unwrap_or_default();
        nodes.len() == 2 && nodes.iter().all(|n| n.ready)
    })
    .await;
    // The order given again changes nothing.
    let units = worker.exec.health(&Site::cluster()).await;
    site.run(&worker, Stage::Join, None).await;
    assert_eq!(worker.exec.health(&Site::cluster()).await, units);
    first.exec.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_though_nobody_answers_and_joins_again() {
    let site = Site::new(72, &ALL);
    let first = site.first().await;
    let worker = site.join(&first, 3).await;
    first.exec.close().await;
    site.run(&worker, Stage::Leave, None).await;
    assert!(!worker.root.join("clusters/clus100").exists());
    drop(first);
    let first = site.open(1).await;
    // Its second life has orders of its own.
    let mut order = site.order(3, Stage::Prepare);
    order.generation = Generation(4);
    run(&worker.exec, order, site.supplies(None), None).await.unwrap();
    let mut request = site.mint(3);
    request.generation = Generation(5);
    let sealed = first.exec.mint_for(request).await.unwrap();
    let mut order = site.order(3, Stage::Join);
    order.generation = Generation(5);
    run(&worker.exec, order, site.supplies(Some(sealed)), None).await.unwrap();
    assert_eq!(worker.exec.nodes(&Site::cluster()).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_that_was_never_prepared() {
    let site = Site::new(49, &ALL);
    for n in 1..=3 {
        let node = site.open(n).await;
        for _ in 0..2 {
            site.run(&node, Stage::Leave, None).await;
        }
        assert!(node.exec.clusters().unwrap().is_empty());
    }
}
