//! Nothing stays, however a laboratory's maker ended.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use qb_tests::lab::{Kind, Lab, NAME, State};
use qb_tests::wait::eventually;

use super::SOON;

const QB_LAB: &str = env!("CARGO_BIN_EXE_qb-lab");

#[test]
fn two_laboratories_do_not_touch() -> Result<()> {
    let (one, other) = (Lab::create("t-one")?, Lab::create("t-other")?);
    let kept = other.boot([1], &Kind::default())?.remove(0);
    one.boot([1, 2], &Kind::default())?;
    ensure!(!one.leftovers()?.is_empty(), "nothing is found of a laboratory that is up");
    ensure!(Lab::create("t-one").is_err(), "two programs have one laboratory");
    // Programs of this machine on the segment go as well, and what a host left running.
    one.host(1).shell("setsid sleep 6001 </dev/null >/dev/null 2>&1 &")?;
    let mut guest = one.net_command(Path::new("/bin/sleep"))?.arg("6002").spawn()?;
    drop(one);
    let ended = eventually(SOON, "the guest ends", || guest.try_wait()?.context("it runs"))?;
    ensure!(!ended.success(), "it ended by itself");
    ensure!(Lab::open("t-one")?.leftovers()?.is_empty(), "left: {:?}", Lab::open("t-one")?.leftovers()?);
    ensure!(kept.state()? == State::On && kept.ok(&["true"]).is_ok(), "the other one is gone too");
    other.destroy()?;
    ensure!(other.leftovers()?.is_empty(), "left: {:?}", other.leftovers()?);
    Ok(())
}

#[test]
fn what_a_killed_maker_left_is_found_and_taken_away() -> Result<()> {
    let lab = Lab::create("t-killed")?;
    // The tree first: its making is not what is killed here.
    lab.prepare([&Kind::default()])?;
    // Killed as soon as so many things are there: in the middle of the segment, of a card, of a boot.
    for things in [1, 3, 12, 25] {
        let mut up = Command::new(QB_LAB);
        up.env(NAME, "t-killed").args(["up", "-n", "3"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut up = up.spawn()?;
        let midway = eventually(SOON, "something is there", || {
            let left = lab.leftovers()?;
            ensure!(left.len() >= things || up.try_wait()?.is_some(), "{left:?}");
            Ok(left)
        });
        let running = up.try_wait()?.is_none();
        up.kill()?;
        up.wait()?;
        ensure!(running, "it was done before it was killed: {midway:?}");
        let status = Command::new(QB_LAB).args(["--lab", "t-killed", "destroy"]).status()?;
        ensure!(status.success(), "destroy after {things} things: {status}");
        let left = lab.leftovers()?;
        ensure!(left.is_empty() && !lab.place().dir.exists(), "after {things} things: {left:?}");
    }
    Ok(())
}
