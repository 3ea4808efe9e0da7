//! Faults of the segment, of disks and of clocks.

use std::io::{ErrorKind, Read as _};
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use qb_tests::lab::{Host, Kind, Lab, MACHINE};

use super::{SOON, answers, reaches};

/// How many of these pings were lost.
fn lost(from: &Host, to: &str, pings: u32) -> Result<u32> {
    let count = pings.to_string();
    // Pings at 2 ms; the last is waited for one second.
    let ran = from.exec_within(SOON, &["ping", "-q", "-i", "0.002", "-W", "1", "-c", &count, to])?;
    let words: Vec<_> = ran.stdout.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "received,");
    let received: u32 = at.and_then(|at| words.get(at - 1)?.parse().ok()).unwrap_or(0);
    Ok(pings.saturating_sub(received))
}

#[test]
fn frames_pass_as_the_faults_say() -> Result<()> {
    let lab = Lab::create("t-faults")?;
    let hosts = lab.boot(1..=3, &Kind::default())?;
    let [one, two, three] = &hosts[..] else { unreachable!("three were booted") };
    for to in ["h2", "h3"] {
        reaches(one, to, true)?;
    }

    lab.cut(1, 2)?;
    ensure!(!answers(one, "h2")? && !answers(two, "h1")?, "a cut let something pass");
    ensure!(answers(one, "h3")? && answers(three, "h2")?, "a cut took others along");
    lab.heal_between(2, 1)?;
    reaches(one, "h2", true)?;

    lab.wan_off(1)?;
    ensure!(
        !answers(two, "h1")? && !answers(three, "h1")? && answers(two, "h3")?,
        "more or less than the WAN"
    );
    ensure!(answers(one, "10.77.0.254")?, "this machine lost the host beyond");
    // A reboot cures nothing of the segment.
    two.kill()?;
    lab.boot_again([2])?;
    ensure!(!answers(two, "h1")?, "the cut went with the reboot");
    lab.wan_on(1)?;
    reaches(two, "h1", true)?;

    lab.cut(3, MACHINE)?;
    ensure!(!answers(three, "10.77.0.254")? && answers(three, "h1")?, "not cut from this machine alone");
    lab.heal()?;

    lab.unplug(3)?;
    let carrier = three.exec(&["cat", "/sys/class/net/eth0/carrier"])?;
    ensure!(carrier.stdout.trim() == "0" && !answers(one, "h3")?, "a pulled cable carries: {carrier:?}");
    three.kill()?;
    lab.boot_again([3])?;
    ensure!(!answers(one, "h3")?, "a reboot plugged it in");
    lab.plug(3)?;
    reaches(one, "h3", true)?;
    Ok(())
}

#[test]
fn one_way_and_loss_are_what_they_say() -> Result<()> {
    let lab = Lab::create("t-loss")?;
    let hosts = lab.boot(1..=2, &Kind::default())?;
    let [one, two] = &hosts[..] else { unreachable!("two were booted") };
    reaches(one, "h2", true)?;

    lab.cut_one_way(1, 2)?;
    let received = |host: &Host| -> Result<u64> {
        let text = host.read_file("/proc/net/snmp")?;
        let text = String::from_utf8_lossy(&text).into_owned();
        // InEchos: requests that arrived, whether or not the answer gets back.
        let mut lines = text.lines().filter(|line| line.starts_with("Icmp:"));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let at = names.split(' ').position(|name| name == "InEchos");
        Ok(at.and_then(|at| values.split(' ').nth(at)?.parse().ok()).unwrap_or_default())
    };
    let before = (received(one)?, received(two)?);
    ensure!(!answers(one, "h2")? && !answers(two, "h1")?, "answers came through a cut");
    let after = (received(one)?, received(two)?);
    ensure!(after.0 > before.0, "the open way was cut too");
    ensure!(after.1 == before.1, "requests passed the cut way");
    lab.heal()?;
    reaches(one, "h2", true)?;

    // 30 % each way is 51 % of round trips: of 400 pings, fewer than 120 or more than 300 lost is a chance
    // of less than one in 10^15.
    lab.loss(1, 2, 300)?;
    let count = lost(one, "h2", 400)?;
    ensure!((120..=300).contains(&count), "{count} of 400 lost");
    lab.loss(1, 2, 0)?;
    ensure!(lost(one, "h2", 50)? == 0, "lossy after the end of loss");
    Ok(())
}

#[test]
fn a_disk_is_full_or_read_only_and_then_not() -> Result<()> {
    let lab = Lab::create("t-disks")?;
    let host = lab.boot([1], &Kind::default())?.remove(0);
    host.shell("mkdir -p /var/lib/thing && echo before >/var/lib/thing/kept && chmod 700 /var/lib/thing")?;

    host.small_disk("/var/lib/thing", 1024)?;
    ensure!(host.ok(&["stat", "-c", "%a", "/var/lib/thing"])?.stdout.trim() == "700", "other bits");
    host.fill_disk("/var/lib/thing")?;
    let full = host.exec(&["cp", "/etc/hostname", "/var/lib/thing/more"])?;
    ensure!(full.code != 0 && full.stderr.contains("No space"), "{full:?}");
    ensure!(host.read_file("/var/lib/thing/kept")? == b"before\n", "what was there is lost");
    host.free_disk("/var/lib/thing")?;
    host.shell("echo more >/var/lib/thing/more")?;

    host.read_only("/var")?;
    // A service that asks for a writable folder does not get one.
    let service = ["systemd-run", "--pipe", "--wait", "--quiet", "-p", "ProtectSystem=strict"];
    let write = ["-p", "ReadWritePaths=/var/lib", "touch", "/var/lib/x"];
    let ran = host.exec(&[&service[..], &write].concat())?;
    ensure!(ran.code != 0 && ran.stderr.contains("Read-only"), "{ran:?}");
    host.writable("/var")?;
    host.shell("echo x >/var/lib/x")?;
    ensure!(host.fill_disk("/srv").is_err(), "it filled the disk of this machine");
    Ok(())
}

#[test]
fn a_service_lives_in_1970() -> Result<()> {
    let lab = Lab::create("t-clock")?;
    let host = lab.boot([1], &Kind::default().with(["libfaketime"]))?.remove(0);
    host.write_file(
        "/etc/systemd/system/clock.service",
        b"[Service]\nExecStart=sh -c 'date -u +%%Y >/run/year; exec sleep infinity'\nType=exec\n",
        0o644,
    )?;
    let year = |host: &Host| {
        host.ok(&["systemctl", "restart", "clock"])?;
        host.eventually(Duration::from_secs(10), "a year", |host| {
            let year = host.read_file("/run/year")?;
            host.ok(&["rm", "/run/year"])?;
            ensure!(!year.is_empty(), "not written yet");
            Ok(String::from_utf8_lossy(&year).trim().to_owned())
        })
    };
    host.fake_clock("clock.service", Some("1970-01-01 00:00:10"))?;
    ensure!(year(&host)? == "1970", "another year");
    host.fake_clock("clock.service", None)?;
    let now = host.ok(&["date", "-u", "+%Y"])?.stdout;
    ensure!(year(&host)? == now.trim(), "the clock stayed wrong");
    Ok(())
}

#[test]
fn a_cut_stops_a_connection_that_stands() -> Result<()> {
    let lab = Lab::create("t-stands")?;
    let host = lab.boot([1], &Kind::default())?.remove(0);
    let silence = Duration::from_millis(300);
    lab.in_net(|| {
        let listener = TcpListener::bind("10.77.0.254:8001")?;
        // Says a byte every 10 ms, as long as anybody listens.
        host.ok(&[
            "systemd-run",
            "--quiet",
            "bash",
            "-c",
            "exec 3<>/dev/tcp/10.77.0.254/8001; while echo -n x >&3; do sleep 0.01; done",
        ])?;
        let (mut stream, _) = listener.accept()?;
        let mut bytes = [0; 4096];
        stream.set_read_timeout(Some(SOON))?;
        ensure!(stream.read(&mut bytes)? > 0, "it ended");
        lab.cut(MACHINE, 1)?;
        stream.set_read_timeout(Some(silence))?;
        // What had passed before the cut may still be read.
        host.eventually(SOON, "silence", |_| match (&stream).read(&mut [0; 4096]) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(()),
            read => bail!("{read:?}"),
        })?;
        lab.heal()?;
        stream.set_read_timeout(Some(SOON))?;
        ensure!(stream.read(&mut bytes)? > 0, "the connection did not outlive the cut");
        Ok(())
    })
}
