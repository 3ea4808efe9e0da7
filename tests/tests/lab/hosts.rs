//! Hosts of two releases: what they are, what survives a power cut, how this machine talks to them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use qb_tests::lab::{Kind, Lab, Release, State};

use super::{SOON, reaches};

#[test]
fn hosts_boot_die_and_come_back_with_their_disks() -> Result<()> {
    let lab = Lab::create("t-hosts")?;
    let mut hosts = lab.boot(1..=3, &Kind::default())?;
    hosts.extend(lab.boot([4], &Kind::of(Release::Bullseye))?);
    hosts.extend(lab.boot([5], &Kind::of(Release::Trixie))?);

    for host in &hosts {
        let release =
            ["bookworm", "bookworm", "bookworm", "bullseye", "trixie"][usize::from(host.index()) - 1];
        ensure!(
            host.ok(&["cat", "/etc/os-release"])?.stdout.contains(release),
            "{} is not {release}",
            host.name()
        );
        ensure!(host.ok(&["hostname"])?.stdout.trim() == host.name(), "{} has another name", host.name());
        ensure!(host.ok(&["cat", "/proc/1/comm"])?.stdout.trim() == "systemd", "another PID 1");
        hosts.iter().try_for_each(|to| reaches(host, &to.name(), true))?;
    }
    let ids = hosts.iter().map(|host| Ok(host.ok(&["cat", "/etc/machine-id"])?.stdout));
    let mut ids = ids.collect::<Result<Vec<_>>>()?;
    ids.sort();
    ids.dedup();
    ensure!(ids.len() == hosts.len(), "two hosts share a machine-id: {ids:?}");

    let killed = &hosts[0];
    killed.write_file("/srv/deep/kept", b"\0as it was\n", 0o640)?;
    let boot_id = |i: usize| hosts[i].ok(&["cat", "/proc/1/stat"]).map(|ran| ran.stdout);
    let before = boot_id(0)?;
    killed.kill()?;
    ensure!(killed.state()? == State::Off, "it runs");
    reaches(&hosts[1], "h1", false)?;
    ensure!(killed.exec(&["true"]).is_err(), "a host that is off ran a command");
    lab.boot_again([1])?;
    ensure!(boot_id(0)? != before, "it never went");
    ensure!(killed.read_file("/srv/deep/kept")? == b"\0as it was\n", "another content");
    ensure!(killed.ok(&["stat", "-c", "%a", "/srv/deep/kept"])?.stdout.trim() == "640", "other bits");
    reaches(&hosts[1], "h1", true)?;

    let off = &hosts[3];
    off.shell("echo kept >/srv/kept")?;
    off.power_off()?;
    ensure!(off.state()? == State::Off, "it runs");
    lab.boot_again([4])?;
    ensure!(off.read_file("/srv/kept")? == b"kept\n", "another content");

    hosts[2].wipe()?;
    ensure!(!hosts[2].exists() && lab.boot_again([3]).is_err(), "it booted without a disk");
    lab.destroy()?;
    ensure!(lab.leftovers()?.is_empty(), "left: {:?}", lab.leftovers()?);
    ensure!(!lab.place().dir.exists(), "its directory is left");
    Ok(())
}

#[test]
fn services_on_a_host_are_held_to_their_limits() -> Result<()> {
    let lab = Lab::create("t-limits")?;
    let host = lab.boot([1], &Kind::default())?.remove(0);
    let run = ["systemd-run", "--pipe", "--wait", "--quiet"];
    let limited =
        [&run[..], &["-p", "MemoryMax=20M", "sh", "-c", "head -c 60M /dev/zero | tail -c 60M >/dev/null"]];
    let ran = host.exec(&limited.concat())?;
    ensure!(ran.code != 0, "60 MB fitted into 20");
    let strict = [&run[..], &["-p", "ProtectSystem=strict", "touch", "/etc/touched"]];
    let ran = host.exec(&strict.concat())?;
    ensure!(ran.code != 0 && host.exec(&["test", "-e", "/etc/touched"])?.code != 0, "it wrote to /etc");
    Ok(())
}

#[test]
fn programs_of_this_machine_reach_the_hosts() -> Result<()> {
    let lab = Lab::create("t-net")?;
    let host = lab.boot([1], &Kind::default())?.remove(0);
    let ran = lab.run_in_net(Path::new("/bin/sh"), &["-c", "ip -o -4 addr show dev lab0; exit 3"], SOON)?;
    ensure!(ran.code == 3 && ran.stdout.contains("10.77.0.254/24"), "not on the segment: {ran:?}");
    let said = lab.in_net(|| {
        let listener = TcpListener::bind("10.77.0.254:8000").context("this machine is not on the segment")?;
        let here = std::thread::spawn(move || -> Result<String> {
            let (mut stream, peer) = listener.accept()?;
            stream.write_all(b"from here\n")?;
            Ok(peer.ip().to_string())
        });
        let ran = host.ok(&["bash", "-c", "cat <>/dev/tcp/10.77.0.254/8000"])?;
        ensure!(ran.stdout == "from here\n", "{ran:?}");
        here.join().map_err(|_| anyhow::anyhow!("the listener panicked"))?
    })?;
    ensure!(said == "10.77.0.1", "{said} came");
    ensure!(TcpListener::bind("10.77.0.254:8000").is_err(), "the address is this machine's own");
    let mut text = String::new();
    let connect =
        lab.in_net(|| Ok(TcpStream::connect("10.77.0.1:9").and_then(|mut s| s.read_to_string(&mut text))))?;
    ensure!(connect.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused), "nobody refused");
    Ok(())
}
