//! How the host was before anything of a cluster was on it, and how it is now. Written once: what is
//! recorded is what a host returns to.
//!
//! | file | what |
//! |---|---|
//! | `record.rs` | [`Record`]: the form; when it is written |
//! | `record/take.rs` | looks at the host |
//! | `record/mounts.rs` | what the kernel says is mounted. Pure |
//! | `record/compare.rs` | two records: what is left, what others changed. Pure |

pub(crate) mod compare;
pub(crate) mod mounts;
pub(crate) mod take;

use std::collections::BTreeMap;

use qb_drivers::RelPath;
use qb_model::ids::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Host;
use super::place::clean;
use crate::progress::StepError;

/// Where it lies, in the cluster's directory.
const FILE: &str = "record.json";
/// Bytes of it.
const FILE_BYTES: u64 = 8 << 20;
/// Things of one kind. Hosts with more, routers for instance, have the rest as one digest.
const MOST: usize = 4096;
/// Bytes of one name or value; longer ones end with a digest.
const TEXT_BYTES: usize = 400;

/// A kind of thing that a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A network link; its kind and the bridge that it is a port of.
    Link,
    /// An address; its link.
    Address,
    /// A route of the main table; where it leads.
    Route,
    /// A chain of iptables that comes with clusters; its rules' digest.
    Chain,
    /// A table of nftables; its digest.
    Table,
    /// All other rules of iptables: one digest for each family.
    Rules,
    /// A kernel setting that clusters change; its value.
    Sysctl,
    /// A file of systemd's configuration; its digest, or where the link leads.
    Unit,
    /// A file or directory where clusters have theirs.
    Path,
    /// A mount; the kind of file system.
    Mount,
    /// A process of a cluster; its program. There is none before.
    Process,
    /// A loaded module. A fact: modules stay.
    Module,
}

impl Kind {
    /// As people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Address => "address",
            Self::Route => "route",
            Self::Chain => "chain",
            Self::Table => "nft table",
            Self::Rules => "firewall rules",
            Self::Sysctl => "sysctl",
            Self::Unit => "unit",
            Self::Path => "path",
            Self::Mount => "mount",
            Self::Process => "process",
            Self::Module => "module",
        }
    }
}

/// Things of one kind by name.
pub(crate) type Things = BTreeMap<String, String>;

/// A host at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Version of this format.
    v: u8,
    things: BTreeMap<Kind, Things>,
}

impl Record {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { v: 1, things: BTreeMap::new() }
    }

    /// Puts things in, bounded. `kept` says which are never folded into a digest.
    pub(crate) fn put(
        &mut self,
        kind: Kind,
        things: impl IntoIterator<Item = (String, String)>,
        kept: impl Fn(&str, &str) -> bool,
    ) {
        let mut all: Things = things.into_iter().map(|(name, value)| (short(name), short(value))).collect();
        if all.len() > MOST {
            let (ours, others): (Things, Things) =
                all.into_iter().partition(|(name, value)| kept(name, value));
            all = ours.into_iter().take(MOST).collect();
            let mut digest = Sha256::new();
            others.iter().for_each(|(name, value)| digest.update(format!("{name}\0{value}\n")));
            all.insert(format!("{} others", others.len()), Digest(digest.finalize().into()).to_string());
        }
        self.things.insert(kind, all);
    }

    /// Things of one kind.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &str)> {
        self.things.get(&kind).into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// One thing's value.
    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<&str> {
        self.things.get(&kind)?.get(name).map(String::as_str)
    }
}

/// A text in its bounds.
fn short(text: String) -> String {
    if text.len() <= TEXT_BYTES {
        return text;
    }
    let digest = Digest(Sha256::digest(text.as_bytes()).into());
    let cut = (0..=TEXT_BYTES - 80).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}...{digest}", &text[..cut])
}

fn file() -> Result<RelPath, StepError> {
    clean(FILE)
}

/// The record; none if none was written.
///
/// # Errors
/// It is damaged: it is never written anew over what was before.
pub(crate) fn read(host: &Host) -> Result<Option<Record>, StepError> {
    let bytes = host.dir.read(&file()?, FILE_BYTES).map_err(|e| StepError::disk(FILE, &e))?;
    let Some(bytes) = bytes else { return Ok(None) };
    match serde_json::from_slice::<Record>(&bytes) {
        Ok(record) if record.v == 1 => Ok(Some(record)),
        _ => Err(StepError::new(
            format!("{} cannot be read", host.dir.path().join(FILE).display()),
            "look at the disk of this host; move the file away if the host is to be left as it is now",
        )),
    }
}

/// Whether it is written.
pub(super) fn check(host: &Host) -> Result<bool, StepError> {
    read(host).map(|record| record.is_some())
}

/// Writes it, once: a second time there is already something of the cluster.
pub(super) async fn apply(host: &Host) -> Result<(), StepError> {
    if check(host)? {
        return Ok(());
    }
    let record = take::take(host).await?;
    let bytes = serde_json::to_vec(&record).map_err(|_| StepError::damaged(FILE))?;
    host.dir.write(&file()?, &bytes, 0o600).map_err(|e| StepError::disk(FILE, &e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_host_with_very_much_is_recorded_in_bounds() {
        let things = |changed: &str| {
            let mut record = Record::new();
            let all = (0..MOST * 3).map(|i| (format!("10.0.{i}"), changed.to_owned()));
            let ours = [("ours".to_owned(), "x".repeat(10_000))];
            record.put(Kind::Route, all.chain(ours), |name, _| name == "ours");
            record
        };
        let record = things("a");
        assert_eq!(record.of(Kind::Route).count(), 2);
        assert!(record.get(Kind::Route, "ours").unwrap().len() <= TEXT_BYTES);
        assert_ne!(record, things("b"));
        assert_eq!(record, things("a"));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut record = Record::new();
        record.put(Kind::Sysctl, [("net.ipv4.ip_forward".to_owned(), "0".to_owned())], |_, _| true);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(text, r#"{"v":1,"things":{"sysctl":{"net.ipv4.ip_forward":"0"}}}"#);
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        assert!(serde_json::from_str::<Record>(r#"{"v":1,"things":{},"more":1}"#).is_err());
    }
}
