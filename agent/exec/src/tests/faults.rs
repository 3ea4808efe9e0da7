//! Killed between any two points of any stage, and run again.

use std::process::Command;

use super::*;

/// Runs a stage, ended at point `k` as by a kill, then again in a new life. False if `k` lies
/// behind the stage's end.
async fn killed_at(
    site: &Site,
    node: Node,
    stage: Stage,
    k: usize,
    join: Option<SealedSecret>,
) -> (Node, bool) {
    let n = node.id.0[0];
    let stopped = run(&node.exec, site.order(n, stage), site.supplies(join.clone()), Some(k)).await.is_err();
    // Dropping the executor kills its children, with no chance to tidy up.
    drop(node);
    let node = site.open(n).await;
    run(&node.exec, site.order(n, stage), site.supplies(join), None).await.unwrap();
    (node, stopped)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_node_converges_from_every_point() {
    let mut stopped = true;
    let mut k = 0;
    while stopped {
        let site = Site::new(73, &ALL[..1]);
        let node = site.open(1).await;
        let before = listing(&node.root);
        let (node, in_prepare) = killed_at(&site, node, Stage::Prepare, k, None).await;
        let (node, in_initialize) = killed_at(&site, node, Stage::Initialize, k, None).await;
        let nodes = node.exec.nodes(&Site::cluster()).await.unwrap();
        assert!(nodes.len() == 1 && nodes[0].ready, "point {k}");
        let (node, in_leave) = killed_at(&site, node, Stage::Leave, k, None).await;
        assert_eq!(listing(&node.root), before, "point {k}");
        node.exec.close().await;
        stopped = in_prepare || in_initialize || in_leave;
        k += 1;
    }
    assert!(k > 20, "only {k} points");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joining_control_plane_node_converges_from_every_point() {
    let site = Site::new(74, &ALL[..2]);
    let first = site.first().await;
    let mut stopped = true;
    let mut k = 0;
    while stopped {
        let root = site.home.join("2");
        let _ = std::fs::remove_dir_all(&root);
        let node = site.open(2).await;
        let before = listing(&node.root);
        let (node, in_prepare) = killed_at(&site, node, Stage::Prepare, k, None).await;
        let sealed = first.exec.mint_for(site.mint(2)).await.unwrap();
        let (node, in_join) = killed_at(&site, node, Stage::Join, k, Some(sealed)).await;
        assert_eq!(first.exec.nodes(&Site::cluster()).await.unwrap().len(), 2, "point {k}");
        let (node, in_leave) = killed_at(&site, node, Stage::Leave, k, None).await;
        assert_eq!(listing(&node.root), before, "point {k}");
        assert_eq!(first.exec.nodes(&Site::cluster()).await.unwrap().len(), 1, "point {k}");
        node.exec.close().await;
        stopped = in_prepare || in_join || in_leave;
        k += 1;
    }
    // 17 where the executor is asked before its stand-in is up, 2 fewer for each wait that is over at once.
    assert!(k > 12, "only {k} points");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_in_dies_with_the_thread_that_started_it() {
    let site = Site::new(75, &ALL[..1]);
    let node = site.first().await;
    node.exec.close().await;
    let dir = node.root.join("clusters/clus100");
    let start = move || {
        Command::new(stand_in())
            .args(["stand-in", "node-service", "--config", "config/node-service.json", "--parent"])
            .arg(std::process::id().to_string())
            .env_clear()
            .current_dir(dir)
            .spawn()
            .unwrap()
    };
    let (stop, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let (started, child) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        started.send(start()).unwrap();
        wait.recv().unwrap();
    });
    let mut child = child.await.unwrap();
    eventually("it serves", || listens(75, 1, 10_250)).await;
    stop.send(()).unwrap();
    thread.join().unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(status.signal(), Some(9));
}

/// When a process began, in ticks since boot.
fn started(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_an_earlier_life_is_replaced() {
    let site = Site::new(76, &ALL[..1]);
    let node = site.first().await;
    node.exec.close().await;
    let dir = node.root.join("clusters/clus100");
    // One that escaped: it runs and is recorded, but belongs to nobody here.
    let mut escaped = Command::new("sleep").arg("1000").spawn().unwrap();
    let since = started(escaped.id());
    let record = |pid: u32, started: u64| format!("{{\"pid\":{pid},\"started\":{started}}}");
    // Another start time is another process, which is left alone. (Its group is this test's own, so
    // the one that is killed gets a group of its own below.)
    std::fs::write(dir.join("run/node-service.pid"), record(escaped.id(), since + 1)).unwrap();
    drop(node);
    let node = site.open(1).await;
    eventually("the unit runs", || listens(76, 1, 10_250)).await;
    assert!(escaped.try_wait().unwrap().is_none());
    escaped.kill().unwrap();
    escaped.wait().unwrap();
    node.exec.close().await;
    drop(node);
    use std::os::unix::process::CommandExt as _;
    let mut escaped = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
    let since = started(escaped.id());
    std::fs::write(dir.join("run/node-service.pid"), record(escaped.id(), since)).unwrap();
    let node = site.open(1).await;
    eventually("the unit runs", || listens(76, 1, 10_250)).await;
    assert!(tokio::task::spawn_blocking(move || escaped.wait()).await.unwrap().is_ok());
    node.exec.close().await;
}

/// The variable that tells [`victim`] whose life to lead.
const VICTIM: &str = "QB_EXEC_TEST_VICTIM";

/// Not a test: the process that `a_killed_process_converges` kills. Lives one life after another.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by a_killed_process_converges"]
async fn victim() {
    let Some(root) = std::env::var_os(VICTIM) else {
        return;
    };
    let mut site = Site::new(82, &ALL[..1]);
    site.home = PathBuf::from(root);
    let node = site.open(1).await;
    for stage in [Stage::Prepare, Stage::Initialize, Stage::Leave] {
        site.run(&node, stage, None).await;
    }
    // Done before it was killed: that is a point like any other.
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_converges() {
    // Each round is killed a little later, until lives have come to their last order: as many
    // rounds as this machine's speed asks for.
    const LATER: Duration = Duration::from_millis(40);
    let (mut moment, mut last_orders) = (Duration::ZERO, 0);
    while last_orders < 3 {
        moment += LATER;
        let site = Site::new(82, &ALL[..1]);
        let before = {
            let node = site.open(1).await;
            listing(&node.root)
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::faults::victim", "--ignored", "--nocapture"])
            .env(VICTIM, &site.home)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(moment).await;
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("its children are dead", || async {
            !listens(82, 1, 6443).await && !listens(82, 1, 10_250).await
        })
        .await;
        let floor = std::fs::read(site.home.join("1/floor.json")).unwrap();
        let floor: serde_json::Value = serde_json::from_slice(&floor).unwrap();
        let node = site.open(1).await;
        let mut stages = vec![Stage::Prepare, Stage::Initialize, Stage::Leave];
        // Orders before the one that it was at would be refused, and are done.
        let at = usize::try_from(floor["generation"].as_u64().unwrap()).unwrap();
        stages.drain(..at.saturating_sub(1));
        last_orders += usize::from(at == 3);
        for stage in stages {
            site.run(&node, stage, None).await;
        }
        assert_eq!(listing(&node.root), before, "killed after {moment:?}");
        node.exec.close().await;
    }
}
