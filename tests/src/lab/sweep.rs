//! Taking a laboratory away, from what is on disk and by names alone: whoever made it may be gone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::place::Place;
use super::{cgroups, net, system};
use crate::wait::eventually;

/// How long taking away may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What the kernel still has of a laboratory, one line each; its directory does not count.
pub(super) fn leftovers(place: &Place) -> Result<Vec<String>> {
    let nets = net::named(place);
    let groups = cgroups::find(&place.tag)?;
    let processes = strangers(&nets).into_iter().chain(cgroups::inside(&groups)).collect::<BTreeSet<_>>();
    let mut found: Vec<String> =
        processes.iter().map(|pid| format!("process {pid} {}", command(*pid))).collect();
    found.extend(nets.iter().map(|net| format!("namespace {net}")));
    found.extend(groups.iter().map(|dir| format!("control group {}", dir.display())));
    found.extend(mounts(&place.dir)?.iter().map(|path| format!("mount {}", path.display())));
    found.extend(loops(&place.dir).iter().map(|name| format!("loop device {name}")));
    found.extend(links(&place.tag)?.iter().map(|name| format!("link {name}")));
    Ok(found)
}

/// Takes everything away, the directory too. What appears meanwhile, of a program that was killed in the
/// middle, is taken away as well.
pub(super) fn destroy(place: &Place) -> Result<()> {
    eventually(LIMIT, &format!("the laboratory {} goes", place.name), || {
        sweep(place)?;
        let left = leftovers(place)?;
        ensure!(left.is_empty(), "left: {}", left.join("; "));
        Ok(())
    })?;
    match fs::remove_dir_all(&place.dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", place.dir.display()))
        }
        _ => Ok(()),
    }
}

fn sweep(place: &Place) -> Result<()> {
    // First the groups: who is about to join finds none and ends.
    cgroups::remove(&cgroups::find(&place.tag)?)?;
    let nets = net::named(place);
    strangers(&nets).into_iter().for_each(system::kill);
    // Hosts before the segment: a card goes at once only by its name.
    for net in nets.iter().filter(|net| **net != place.net()) {
        let host = net.rsplit("-h").next().and_then(|i| i.parse().ok());
        match host {
            Some(host) => net::disconnect(place, host)?,
            None => net::remove_net(net)?,
        }
    }
    net::remove_net(&place.net())?;
    for path in mounts(&place.dir)?.iter().rev() {
        system::tool("umount", ["-l".as_ref(), path.as_os_str()], "")?;
    }
    for name in loops(&place.dir) {
        system::tool("losetup", ["-d", &format!("/dev/{name}")], "")?;
    }
    Ok(())
}

/// Programs, other than this one, that somebody put into one of these namespaces.
fn strangers(nets: &[String]) -> Vec<u32> {
    let inode = |path: &Path| fs::metadata(path).ok().map(|meta| meta.ino());
    let ours: BTreeSet<u64> = nets.iter().filter_map(|net| inode(&net::path(net))).collect();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let within =
        |pid: &u32| inode(Path::new(&format!("/proc/{pid}/ns/net"))).is_some_and(|net| ours.contains(&net));
    pids.filter(|pid| *pid != std::process::id()).filter(within).collect()
}

fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

/// Mounts below a directory, outer ones first.
fn mounts(dir: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    // Blanks are written as \040; a path of ours has none, or cargo's own paths would have them.
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

/// Loop devices whose file is below a directory.
fn loops(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let ours = |name: &String| {
        let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
        file.is_ok_and(|file| Path::new(file.trim()).starts_with(dir))
    };
    names.filter(ours).collect()
}

/// Links of this machine's own namespace that lead into one of the laboratory's. There never are any.
fn links(tag: &str) -> Result<Vec<String>> {
    let done = system::tool("ip", ["-o", "link"], "")?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let leading = text.lines().filter(|line| line.contains(&format!("link-netns {tag}")));
    Ok(leading.filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect())
}
