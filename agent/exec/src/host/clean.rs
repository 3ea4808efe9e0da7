//! Takes all of a cluster off the host that kubeadm leaves, and compares what is there with the record.
//! Every part finds out itself what there is to do: killed anywhere, and where half is missing, it goes
//! on. Others' things are not touched: what is removed has a cluster's name and is not in the record.
//!
//! | file | what |
//! |---|---|
//! | `clean/places.rs` | where clusters have their things, and how those are called. Pure |
//! | `clean/processes.rs` | processes of a cluster |
//! | `clean/groups.rs` | control groups of pods |
//! | `clean/trees.rs` | mounts and folders |

mod groups;
pub(crate) mod places;
pub(crate) mod processes;
mod trees;

use std::fs;
use std::io;

use qb_drivers::RelPath;

use super::Host;
use super::network::kernel::{Kernel, ports};
use super::network::plan::{BRIDGE, Change, DEVICE};
use super::network::tables::{self, Table};
use super::network::{self, restored, saved};
use super::ours::Ours;
use super::record::compare::{Differences, compare, line, remedy};
use super::record::take::{entries, nft_tables, sysctl, take};
use super::record::{self, Kind, Record};
use super::run::{Call, SystemProgram};
use crate::progress::StepError;
use places::{DEFAULTS, SLICE, SYSCTLS, UNITS};

/// Tables by which iptables works on nftables: as nftables calls them.
const COMPAT: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// What the host was; without a record nothing was there, since it is written before anything else.
fn before(host: &Host) -> Result<Record, StepError> {
    record::read(host)?.ok_or_else(|| {
        StepError::new(
            "there is no record of how this host was",
            "nothing of the cluster is taken away unseen: `kubeadm reset -f` on this host, then restart it",
        )
    })
}

/// What differs now.
async fn differences(host: &Host) -> Result<Differences, StepError> {
    Ok(compare(&before(host)?, &take(host).await?))
}

/// Whether nothing of the cluster is found. A host without a record never had anything.
pub(super) async fn check(host: &Host) -> Result<bool, StepError> {
    match record::read(host)? {
        Some(_) => Ok(differences(host).await?.left.is_empty()),
        None => Ok(true),
    }
}

/// Takes it off.
pub(super) async fn apply(host: &Host) -> Result<(), StepError> {
    let before = before(host)?;
    // So that no start brings it back.
    network::forget(host)?;
    host.tell.tell("stops containers");
    host.units.stop(SLICE).await?;
    processes::kill(host.root.path(), host.dir.path()).await?;
    groups::remove_all(host.root.path())?;
    host.tell.tell("unmounts");
    trees::unmount_all(host, &before)?;
    host.tell.tell("removes links and rules");
    links(&before).await?;
    filters(host, &before).await?;
    host.tell.tell("removes files");
    files(host, &before).await?;
    trees::remove_all(host, &before)?;
    settings(host, &before);
    Ok(())
}

/// Whether the host is as it was, but for what others did: that is told.
pub(super) async fn check_compared(host: &Host) -> Result<bool, StepError> {
    if record::read(host)?.is_none() {
        return Ok(true);
    }
    let found = differences(host).await?;
    if !found.foreign.is_empty() {
        host.tell.tell(&format!("changed by others since: {}", line(&found.foreign)));
        tracing::info!(changes = line(&found.foreign), "others changed this host since");
    }
    Ok(found.left.is_empty())
}

/// Nothing can be brought about here: fails with what is left, if anything is.
pub(super) async fn apply_compared(host: &Host) -> Result<(), StepError> {
    let found = differences(host).await?;
    if found.left.is_empty() {
        return Ok(());
    }
    let text = format!("this host is not as it was before: {}", line(&found.left));
    Err(StepError::new(text, remedy(&found.left)))
}

/// Links, and with them their addresses, routes and forwarding entries.
async fn links(before: &Record) -> Result<(), StepError> {
    let kernel = Kernel::connect()?;
    let is_new = |name: &str| before.get(Kind::Link, name).is_none();
    // Ports first: without their bridge nobody knows any more whose they are.
    if is_new(BRIDGE) {
        for port in ports(&kernel.links().await?, BRIDGE) {
            kernel.drop_link(&port).await?;
        }
    }
    for name in [BRIDGE, DEVICE, "kube-ipvs0"].into_iter().filter(|name| is_new(name)) {
        kernel.drop_link(name).await?;
    }
    if kernel.is_quiet().await? {
        kernel.apply(&Change::Quiet(false)).await?;
    }
    Ok(())
}

/// Chains of clusters in all tables, and tables that nobody uses and that were absent.
async fn filters(host: &Host, before: &Record) -> Result<(), StepError> {
    for filter in network::filters(host) {
        if let Some(script) = tables::removal(&saved(host, filter.save).await?) {
            restored(host, filter.restore, script).await?;
        }
        let family = filter.family;
        let tables = saved(host, filter.save).await?;
        for (name, _) in nft_tables(host).await? {
            let unused = is_unused(&name, family, &tables) && before.get(Kind::Table, &name).is_none();
            if unused || (name.starts_with(&format!("{family} ")) && places::is_our_table(&name)) {
                let words = ["delete", "table"].into_iter().chain(name.split(' ')).map(str::to_owned);
                let output = host.programs.run(Call::system(SystemProgram::Nft, words)).await?;
                output.done("nft delete table", "`nft list ruleset` on this host says who uses it")?;
            }
        }
    }
    Ok(())
}

/// Whether a table of nftables is one by which iptables works, without any word in it.
fn is_unused(name: &str, family: &str, tables: &[Table]) -> bool {
    let Some(of) = name.strip_prefix(family).and_then(|rest| rest.strip_prefix(' ')) else { return false };
    // One that iptables does not print is another's of that name.
    COMPAT.contains(&of) && tables.iter().any(|table| table.name == of && table.is_empty())
}

/// Files that are qb's, units that are a cluster's.
async fn files(host: &Host, before: &Record) -> Result<(), StepError> {
    let mut ours = Ours::open(&host.dir, &host.root)?;
    let paths: Vec<RelPath> = ours.paths().cloned().collect();
    for path in &paths {
        ours.remove(path)?;
    }
    let top = host.root.path().join(UNITS);
    let new = |name: &str| places::is_our_unit(name) && before.get(Kind::Unit, name).is_none();
    for path in entries(&top)? {
        let name = path.strip_prefix(&top).unwrap_or(&path).display().to_string();
        let wants = name.ends_with(".wants") || name.ends_with(".requires");
        if wants {
            for link in entries(&path)? {
                let name = link.strip_prefix(&top).unwrap_or(&link).display().to_string();
                if new(&name) {
                    gone(fs::remove_file(&link), &name)?;
                }
            }
            if before.get(Kind::Unit, &name).is_none() {
                // Others may have put something in: then it stays.
                let _ = fs::remove_dir(&path);
            }
        } else if new(&name) {
            let folder = path.is_dir() && !path.is_symlink();
            gone(if folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }, &name)?;
        }
    }
    host.units.reload().await
}

fn gone(removed: io::Result<()>, name: &str) -> Result<(), StepError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StepError::disk(name, &error)),
        _ => Ok(()),
    }
}

/// Kernel settings as they were. One that cannot be set is found by the comparison.
fn settings(host: &Host, before: &Record) {
    let root = host.root.path();
    for key in SYSCTLS {
        let default = DEFAULTS.iter().find(|(of, _)| *of == key).map(|(_, value)| *value);
        let Some(value) = before.get(Kind::Sysctl, key).or(default) else { continue };
        if sysctl(root, key).is_some_and(|now| now != value)
            && let Err(error) = fs::write(root.join("proc/sys").join(key.replace('.', "/")), value)
        {
            tracing::warn!(key, value, %error, "a kernel setting cannot be set back");
        }
    }
}

#[cfg(test)]
#[path = "clean_tests.rs"]
pub(crate) mod tests;
