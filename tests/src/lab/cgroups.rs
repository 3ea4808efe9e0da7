//! Control groups of hosts: one folder for each host in every hierarchy that the machine mounts.
//!
//! They are how a host's processes are found again, by whichever program and however its maker ended.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::system;
use crate::wait::eventually;

/// Controllers that hosts get on a machine with one hierarchy for all; nspawn and systemd use them.
const UNIFIED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
/// How deep the folder of a laboratory may lie: below the group of the program that made it.
const DEPTH: usize = 8;
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(20);

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    /// Where it is mounted.
    mount: PathBuf,
    /// What of it is mounted there.
    root: String,
    /// Whether it is of version 2.
    unified: bool,
    /// Its controllers, or its name; of version 2 it has none here.
    words: Vec<String>,
}

impl Hierarchy {
    /// The path of a group given as in `/proc/PID/cgroup`.
    fn path(&self, group: &str) -> PathBuf {
        let below = group.strip_prefix(self.root.trim_end_matches('/')).unwrap_or(group);
        self.mount.join(below.trim_start_matches('/'))
    }

    /// The group of a process in this hierarchy.
    fn group<'a>(&self, cgroup: &'a str) -> Option<&'a str> {
        cgroup.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (words, group) = (parts.next()?, parts.next()?);
            let same = if self.unified {
                words.is_empty()
            } else {
                words.split(',').any(|word| self.words.iter().any(|own| own == word))
            };
            same.then_some(group)
        })
    }

    fn has(&self, controller: &str) -> bool {
        self.words.iter().any(|word| word == controller)
    }
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let one = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        let mut fields = after.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        let unified = kind == "cgroup2";
        let words = if unified { String::new() } else { options.to_owned() };
        (unified || kind == "cgroup").then(|| Hierarchy {
            mount: mount.into(),
            root: root.to_owned(),
            unified,
            words: words.split(',').filter(|w| !matches!(*w, "rw" | "")).map(str::to_owned).collect(),
        })
    };
    mountinfo.lines().filter_map(one).collect()
}

fn mounted() -> Result<Vec<Hierarchy>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    let found = parse(&text);
    ensure!(
        !found.is_empty(),
        "no control groups are mounted on this machine: mount them, or use another one"
    );
    Ok(found)
}

/// Makes the folders of a member of a laboratory in every hierarchy, and gives them.
pub(super) fn make(tag: &str, member: &str) -> Result<Vec<PathBuf>> {
    let own = fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
    let mut made = Vec::new();
    for hierarchy in mounted()? {
        // What hosts use counts as memory of the program that made them, as it would without hosts.
        let above = if hierarchy.has("memory") { hierarchy.group(&own).unwrap_or("/") } else { "/" };
        let above = hierarchy.path(above);
        let lab = above.join(tag);
        let dir = lab.join(member);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        if hierarchy.has("cpuset") {
            // A new group of version 1 may use no processor until it is told which.
            inherit_cpus(&above, &lab)?;
            inherit_cpus(&lab, &dir)?;
        }
        if hierarchy.unified {
            enable(&above)?;
            enable(&lab)?;
        }
        made.push(dir);
    }
    Ok(made)
}

fn inherit_cpus(from: &Path, to: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = fs::read(from.join(file)).with_context(|| format!("cannot read {file}"))?;
        fs::write(to.join(file), value).with_context(|| format!("cannot write {}/{file}", to.display()))?;
    }
    Ok(())
}

fn enable(dir: &Path) -> Result<()> {
    let offered = fs::read_to_string(dir.join("cgroup.controllers"));
    let offered = offered.with_context(|| format!("cannot read controllers of {}", dir.display()))?;
    for controller in offered.split_whitespace().filter(|c| UNIFIED.contains(c)) {
        fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"))
            .with_context(|| format!("cannot hand {controller} on to groups below {}", dir.display()))?;
    }
    Ok(())
}

/// The groups that a process is in, one folder for each hierarchy.
pub(super) fn of_process(pid: u32) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("the host has just ended")?;
    Ok(mounted()?.iter().filter_map(|h| Some(h.path(h.group(&text)?))).filter(|dir| dir.is_dir()).collect())
}

/// The processes of a member, quickly: by the hierarchy whose path does not depend on who asks.
pub(super) fn processes(tag: &str, member: &str) -> Result<BTreeSet<u32>> {
    let all = mounted()?;
    let steady = all.iter().find(|h| !h.has("memory")).or(all.first());
    let mut found = BTreeSet::new();
    if let Some(hierarchy) = steady {
        collect(&hierarchy.path("/").join(tag).join(member), &mut found);
    }
    Ok(found)
}

/// Every folder of a laboratory, wherever the program that made it was itself.
pub(super) fn find(tag: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for hierarchy in mounted()? {
        search(&hierarchy.mount, tag, DEPTH, &mut found);
    }
    Ok(found)
}

fn search(dir: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for dir in folders(dir) {
        if dir.ends_with(name) {
            found.push(dir);
        } else if depth > 0 {
            search(&dir, name, depth - 1, found);
        }
    }
}

/// Folders below; a group that ends in the meantime has none.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_dir).map(|entry| entry.path()).collect()
}

fn collect(dir: &Path, found: &mut BTreeSet<u32>) {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // A process of another namespace reads as 0.
    found.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
    for below in folders(dir) {
        collect(&below, found);
    }
}

/// Processes in these folders and below.
pub(super) fn inside(dirs: &[PathBuf]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for dir in dirs {
        collect(dir, &mut found);
    }
    found
}

/// Kills everything in these folders and removes them. Who comes late finds no folder to join, and ends.
pub(super) fn remove(dirs: &[PathBuf]) -> Result<()> {
    eventually(GONE, "control groups of the laboratory go", || {
        let left = inside(dirs);
        left.iter().copied().for_each(system::kill);
        dirs.iter().for_each(|dir| remove_one(dir));
        let busy: Vec<_> = dirs.iter().filter(|dir| dir.exists()).collect();
        ensure!(busy.is_empty(), "{busy:?} still hold {left:?}");
        Ok(())
    })
}

fn remove_one(dir: &Path) {
    folders(dir).iter().for_each(|below| remove_one(below));
    // A busy one is tried again.
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 /outer /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn every_hierarchy_has_its_path() {
        let all = parse(HYBRID);
        let cgroup = "4:name=systemd:/a/init.scope\n3:memory:/outer/b\n2:cpu,cpuacct:/\n0::/c\n";
        let paths: Vec<_> = all
            .iter()
            .map(|h| h.path(h.group(cgroup).expect("it is in each")).display().to_string())
            .collect();
        assert_eq!(
            paths,
            [
                "/sys/fs/cgroup/cpu/",
                "/sys/fs/cgroup/memory/b",
                "/sys/fs/cgroup/systemd/a/init.scope",
                "/sys/fs/cgroup/unified/c",
            ]
        );
    }
}
