//! `qb cluster backup` and `restore`.

use qb_model::action::{Action, NodeRole};
use qb_model::{Name, NodeId};
use qb_portal::view::{BackupView, ClusterView, MemberView};

use crate::agree::Ask;
use crate::args::cluster::RestoreArgs;
use crate::change::Change;
use crate::ctx::Session;
use crate::error::CliError;
use crate::out::text::{clean, plural};

use super::cluster::expectation;
use super::follow::{Goal, follow};

/// `qb cluster backup`.
///
/// # Errors
/// What went wrong.
pub async fn run(session: &mut Session<'_>, name: &Name) -> Result<(), CliError> {
    let cluster = session.api.cluster(name).await?;
    let action = Action::ClusterBackup { cluster: name.clone() };
    let mut change = Change::new(action, format!("qb cluster backup {name}"));
    change.expect.push(expectation(&cluster));
    let Some(view) = session.change(&change).await? else { return Ok(()) };
    session.hint_accepted(&view, &format!("the store of {name} is backed up on its control plane nodes"));
    follow(session, &view, name, Goal::BackedUp(view.digest)).await
}

/// The control plane member that restores a backup, and the backup, by the beginning of its digest.
///
/// # Errors
/// No member keeps it; several do, or several backups begin so.
pub fn kept<'a>(
    cluster: &'a ClusterView,
    text: &str,
    on: Option<&str>,
) -> Result<(&'a MemberView, &'a BackupView), CliError> {
    let name = &cluster.name;
    let member = |m: &&MemberView| on.is_none_or(|on| m.host.as_str() == on);
    let of = |m: &'a MemberView| m.upkeep.iter().flat_map(|u| &u.backups).map(move |b| (m, b));
    let begins = |(_, b): &(&MemberView, &BackupView)| crate::out::text::begins(&b.digest, text);
    let found: Vec<_> = cluster.members.iter().filter(member).flat_map(of).filter(begins).collect();
    match found.as_slice() {
        [] => {
            let where_ = on.map(|on| format!(" on {}", clean(on))).unwrap_or_default();
            Err(CliError::usage(format!("No backup of {name}{where_} begins with {}.", clean(text)))
                .remedy(format!("qb cluster show {name} -o json")))
        }
        [one] => Ok(*one),
        [first, rest @ ..] if rest.iter().all(|(_, b)| b.digest == first.1.digest) => {
            let hosts: Vec<&str> = found.iter().map(|(m, _)| m.host.as_str()).collect();
            Err(CliError::usage(format!("{} keep that backup.", hosts.join(", "))).remedy(format!(
                "qb cluster restore {name} {} --on {}",
                clean(text),
                hosts[0]
            )))
        }
        several => {
            Err(CliError::usage(format!("{} begin with {}.", plural(several.len(), "backup"), clean(text)))
                .remedy("more of the digest"))
        }
    }
}

/// `qb cluster restore`.
///
/// # Errors
/// What went wrong.
pub async fn restore(session: &mut Session<'_>, args: &RestoreArgs) -> Result<(), CliError> {
    let cluster = session.api.cluster(&args.cluster).await?;
    let (member, backup) = kept(&cluster, &args.backup, args.on.as_deref())?;
    let name = &args.cluster;
    let again = format!("qb cluster restore {name} {} --on {}", backup.digest, member.host);
    let change = restoring(&cluster, member, backup, again);
    let Some(view) = session.change(&change).await? else { return Ok(()) };
    session.hint_accepted(&view, &format!("the store of {name} goes back on {}", member.host));
    follow(session, &view, name, Goal::Restored).await
}

fn restoring(cluster: &ClusterView, member: &MemberView, backup: &BackupView, again: String) -> Change {
    let rules = cluster.members.iter().filter(|m| m.role == NodeRole::ControlPlane);
    // Those that leave are no part of it.
    let stays = |m: &&MemberView| m.node != member.node && m.done != "none";
    let mut others: Vec<NodeId> = rules.filter(stays).map(|m| m.node).collect();
    others.sort_unstable();
    let action = Action::ClusterRestore {
        cluster: cluster.name.clone(),
        node: member.node,
        backup: backup.digest,
        others,
    };
    let mut change = Change::new(action, again);
    change.expect.push(expectation(cluster));
    change.hosts = cluster.members.iter().map(|m| (m.node, m.host.clone())).collect();
    change.ask = Ask::Type(cluster.name.to_string());
    change
}
