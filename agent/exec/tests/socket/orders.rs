//! Honest callers: a whole life over the socket, through restarts.

use qb_exec::{Order, RemoteError, StageDone, StepProgress};
use qb_model::assignment::Stage;
use tokio::sync::watch;

use crate::program::Program;
use crate::signed::{Signed, node};

pub(crate) async fn carry_out(
    program: &Program,
    order: Order,
    bundle: Option<&[u8]>,
) -> Result<StageDone, RemoteError> {
    let (progress, shown) = watch::channel(Vec::<StepProgress>::new());
    let bundle = bundle.map(|bytes| qb_exec::file_of(bytes).unwrap());
    let done = program.remote.carry_out(order, bundle, &progress).await;
    if done.is_ok() {
        assert!(!shown.borrow().is_empty(), "progress is told");
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_lives_and_leaves_over_the_socket() {
    let site = Signed::new(90, 1);
    let temp = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut first = Program::start(temp[0].path(), &site).await;
    let mut second = Program::start(temp[1].path(), &site).await;
    let about = first.remote.about().await.unwrap();
    assert_eq!((about.site.clone(), about.node, about.held), (Ok(site.id()), None, false));
    let keys = [about.seal_key, second.remote.about().await.unwrap().seal_key];
    assert_ne!(keys[0], keys[1]);

    let bundle = Some(site.bundle.as_slice());
    carry_out(&first, site.order(1, Stage::Prepare, 1, keys[0]), bundle).await.unwrap();
    // Killed between two orders, and asked for the first one once more: it converges.
    first.kill();
    assert_eq!(first.again().await.node, Some(node(1)));
    carry_out(&first, site.order(1, Stage::Prepare, 1, keys[0]), bundle).await.unwrap();
    let done = carry_out(&first, site.order(1, Stage::Initialize, 2, keys[0]), bundle).await.unwrap();
    assert!(String::from_utf8(done.public).unwrap().contains("BEGIN CERTIFICATE"));

    carry_out(&second, site.order(2, Stage::Prepare, 1, keys[1]), bundle).await.unwrap();
    let mut join = site.order(2, Stage::Join, 2, keys[1]);
    join.join = Some(first.remote.mint_join(site.mint(keys[1])).await.unwrap());
    carry_out(&second, join, bundle).await.unwrap();
    let blue = "blue".parse().unwrap();
    assert_eq!(second.remote.nodes(&blue).await.unwrap().len(), 2);
    assert_eq!(first.remote.health(&blue).await.unwrap().len(), 2);

    // The package stays while the machine carries a cluster.
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_qb-exec"))
        .args(["removal-check", "--root"])
        .arg(&first.root)
        .arg("--allowed")
        .arg(first.home.join("allowed"))
        .output()
        .unwrap();
    let text = String::from_utf8(check.stderr).unwrap();
    assert!(!check.status.success() && text.contains("carries blue"), "{text}");

    // The units come back with the executor, and end with it when it is asked to.
    first.kill();
    first.again().await;
    carry_out(&second, site.order(2, Stage::Leave, 3, keys[1]), None).await.unwrap();
    carry_out(&first, site.order(1, Stage::Leave, 3, keys[0]), None).await.unwrap();
    assert!(first.clusters().is_empty() && second.clusters().is_empty());
    assert!(first.stop() && second.stop(), "{}{}", first.log(), second.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_given_once_however_often_its_order_is_tried() {
    let site = Signed::new(89, 1);
    let temp = tempfile::tempdir().unwrap();
    let mut program = Program::start(temp.path(), &site).await;
    let key = program.remote.about().await.unwrap().seal_key;
    let prepare = || site.order(1, Stage::Prepare, 1, key);
    // Whoever asked for these bytes would refuse them.
    let nothing = vec![0; site.bundle.len()];
    std::fs::write(program.home.join("hold"), "").unwrap();
    for bundle in [&site.bundle, &nothing, &nothing] {
        let held = carry_out(&program, prepare(), Some(bundle)).await.unwrap_err();
        assert!(matches!(&held, RemoteError::Stopped(why) if why.text.contains("held")), "{held}");
    }
    std::fs::remove_file(program.home.join("hold")).unwrap();
    carry_out(&program, prepare(), Some(&nothing)).await.unwrap();
    // It is unpacked now: also after a restart nobody asks for it.
    program.kill();
    program.again().await;
    carry_out(&program, prepare(), Some(&nothing)).await.unwrap();
    // On a machine that has nothing they are refused.
    let temp = tempfile::tempdir().unwrap();
    let other = Program::start(temp.path(), &site).await;
    let key = other.remote.about().await.unwrap().seal_key;
    let refused = carry_out(&other, site.order(1, Stage::Prepare, 1, key), Some(&nothing)).await.unwrap_err();
    assert!(matches!(&refused, RemoteError::Refused(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_gives_its_order_up() {
    let site = Signed::new(91, 1);
    let temp = tempfile::tempdir().unwrap();
    let program = Program::start(temp.path(), &site).await;
    let seal = program.remote.about().await.unwrap().seal_key;
    let bundle = Some(site.bundle.as_slice());
    carry_out(&program, site.order(1, Stage::Prepare, 1, seal), bundle).await.unwrap();
    // The worker's join waits for a server that nobody runs: given up, it leaves the way free.
    let (progress, mut shown) = watch::channel(Vec::<StepProgress>::new());
    let order = site.order(1, Stage::Initialize, 2, seal);
    let remote = program.remote.clone();
    let (given, file) = (order.clone(), qb_exec::file_of(&site.bundle).unwrap());
    let asked = tokio::spawn(async move { remote.carry_out(given, Some(file), &progress).await });
    shown.wait_for(|steps| !steps.is_empty()).await.unwrap();
    asked.abort();
    let done = tokio::time::timeout(std::time::Duration::from_secs(30), carry_out(&program, order, bundle));
    done.await.expect("it is free again").unwrap();
    // Held on this machine, nothing runs.
    std::fs::write(program.home.join("hold"), "").unwrap();
    assert!(program.remote.about().await.unwrap().held);
    let held = carry_out(&program, site.order(1, Stage::Leave, 3, seal), None).await.unwrap_err().to_string();
    assert!(held.contains("held on this machine"), "{held}");
}
