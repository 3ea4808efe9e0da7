//! Two records of one host: what a cluster left, and what others changed since. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::{Kind, Record};
use crate::host::clean::places;

/// Differences of one kind that are told one by one; of more, how many there are.
const SHOWN: usize = 4;

/// How a thing differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// It was not there.
    Added(String),
    /// It is no longer there.
    Gone,
    /// Its value before and now.
    Changed(String, String),
}

/// A thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) change: Change,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.name();
        let slash = if matches!(self.kind, Kind::Path) { "/" } else { "" };
        write!(f, "{kind} {slash}{}", self.name)?;
        match (&self.kind, &self.change) {
            (Kind::Process, Change::Added(program)) => write!(f, " ({program})"),
            (_, Change::Added(_)) => Ok(()),
            (_, Change::Gone) => f.write_str(" is gone"),
            (Kind::Sysctl, Change::Changed(before, now)) => write!(f, " is {now}, was {before}"),
            (_, Change::Changed(..)) => f.write_str(" was changed"),
        }
    }
}

/// What a host has that it did not have, and the other way round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// Of the cluster: it must go.
    pub(crate) left: BTreeSet<Difference>,
    /// Of others: a fact.
    pub(crate) foreign: BTreeSet<Difference>,
}

/// Compares two.
pub(crate) fn compare(before: &Record, now: &Record) -> Differences {
    let mut differences = Differences::default();
    let kinds: BTreeSet<Kind> = before.things.keys().chain(now.things.keys()).copied().collect();
    // Modules stay: others may use them by now.
    for kind in kinds.into_iter().filter(|kind| *kind != Kind::Module) {
        let names: BTreeSet<&str> = before.of(kind).chain(now.of(kind)).map(|(name, _)| name).collect();
        for name in names {
            let change = match (before.get(kind, name), now.get(kind, name)) {
                (Some(before), Some(now)) if before == now => continue,
                (Some(before), Some(now)) => Change::Changed(before.to_owned(), now.to_owned()),
                (None, Some(now)) => Change::Added(now.to_owned()),
                (_, None) => Change::Gone,
            };
            let difference = Difference { kind, name: name.to_owned(), change };
            let of = if is_left(&difference) { &mut differences.left } else { &mut differences.foreign };
            of.insert(difference);
        }
    }
    differences
}

/// Whether it is of a cluster: by its name, of which clusters have theirs.
fn is_left(difference: &Difference) -> bool {
    let name = difference.name.as_str();
    match (difference.kind, &difference.change) {
        (_, Change::Gone) => false,
        (Kind::Link, Change::Added(value)) => places::is_our_link(name, value),
        (Kind::Address, Change::Added(link)) => places::is_our_link(link, ""),
        (Kind::Route, Change::Added(ours)) => ours == "true",
        (Kind::Chain | Kind::Process | Kind::Path, Change::Added(_)) => true,
        (Kind::Table, Change::Added(_)) => places::is_our_table(name),
        // One that was not there came with a module, and has the kernel's own value again.
        (Kind::Sysctl, Change::Changed(..)) => true,
        (Kind::Unit, Change::Added(_)) => places::is_our_unit(name),
        (Kind::Mount, Change::Added(_)) => places::is_our_mount(Path::new(name)),
        _ => false,
    }
}

/// One line of them, bounded: the first of each kind.
pub(crate) fn line(differences: &BTreeSet<Difference>) -> String {
    let mut seen: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut shown = Vec::new();
    for difference in differences {
        let seen = seen.entry(difference.kind).or_default();
        *seen += 1;
        if *seen <= SHOWN {
            shown.push(difference.to_string());
        }
    }
    let more = differences.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!("{}{more}", shown.join("; "))
}

/// What an admin can do about them: for the first of each kind.
pub(crate) fn remedy(left: &BTreeSet<Difference>) -> String {
    let links = left.iter().any(|difference| difference.kind == Kind::Link);
    let mut said = BTreeSet::new();
    // Addresses and routes go with their link.
    let with_link = |kind: Kind| links && matches!(kind, Kind::Address | Kind::Route);
    let first = left.iter().filter(|one| !with_link(one.kind) && said.insert(one.kind));
    let one = |difference: &Difference| {
        let name = &difference.name;
        match difference.kind {
            Kind::Link => format!("`ip link del {name}`"),
            Kind::Address | Kind::Route => "`ip address; ip route`, then remove what is named".to_owned(),
            Kind::Mount => format!("`fuser -vm '{name}'` says who uses it, then `umount '{name}'`"),
            Kind::Process => format!("`ps -o pid,stat,wchan,args {name}` says why it does not end"),
            Kind::Path => format!("`ls -la '/{name}'`, then remove it"),
            Kind::Sysctl => match &difference.change {
                Change::Changed(before, _) => format!("`sysctl -w {name}='{before}'`"),
                _ => format!("`sysctl {name}`"),
            },
            Kind::Unit => format!("`systemctl cat '{name}'`, then remove its file"),
            _ => "`iptables-save; ip6tables-save; nft list ruleset`, then remove what is named".to_owned(),
        }
    };
    let all: Vec<_> = first.map(one).collect();
    format!("on this host: {}; the step runs again by itself", all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(things: &[(Kind, &str, &str)]) -> Record {
        let mut record = Record::new();
        for (kind, ..) in things {
            let of = things.iter().filter(|(of, ..)| of == kind);
            let of: Vec<_> = of.map(|(_, name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            record.put(*kind, of, |_, _| true);
        }
        record
    }

    #[test]
    fn a_host_as_it_was_has_no_differences() {
        let before = record(&[(Kind::Link, "eth0", ""), (Kind::Sysctl, "net.ipv4.ip_forward", "0")]);
        assert_eq!(compare(&before, &before), Differences::default());
    }

    #[test]
    fn what_is_left_is_told_from_what_others_did() {
        let before = record(&[
            (Kind::Link, "eth0", ""),
            (Kind::Sysctl, "net.ipv4.ip_forward", "0"),
            (Kind::Rules, "v4", "a"),
            (Kind::Unit, "foreign.service", "1"),
            (Kind::Module, "overlay", ""),
        ]);
        for (kind, name, value, text, left) in [
            (Kind::Link, "qb-vx0", "vxlan", "link qb-vx0", true),
            (Kind::Link, "veth12", "veth of cni0", "link veth12", true),
            (Kind::Link, "veth34", "veth of docker0", "link veth34", false),
            (Kind::Route, "10.244.1.0/24 dev x", "true", "route 10.244.1.0/24 dev x", true),
            (Kind::Route, "10.9.0.0/16 dev x", "false", "route 10.9.0.0/16 dev x", false),
            (Kind::Chain, "v4 nat KUBE-X", "", "chain v4 nat KUBE-X", true),
            (Kind::Table, "ip kube-proxy", "", "nft table ip kube-proxy", true),
            (Kind::Table, "inet firewalld", "", "nft table inet firewalld", false),
            (Kind::Sysctl, "net.ipv4.ip_forward", "1", "sysctl net.ipv4.ip_forward is 1, was 0", true),
            (Kind::Rules, "v4", "b", "firewall rules v4 was changed", false),
            (Kind::Unit, "kubelet.service", "2", "unit kubelet.service", true),
            (Kind::Unit, "foreign.service", "2", "unit foreign.service was changed", false),
            (Kind::Path, "etc/kubernetes/pki", "folder", "path /etc/kubernetes/pki", true),
            (Kind::Mount, "/var/lib/kubelet/pods/x", "tmpfs", "mount /var/lib/kubelet/pods/x", true),
            (Kind::Mount, "/mnt/x", "tmpfs", "mount /mnt/x", false),
            (Kind::Process, "12", "/x/kubelet", "process 12 (/x/kubelet)", true),
        ] {
            let mut now = before.clone();
            now.things.entry(kind).or_default().insert(name.to_owned(), value.to_owned());
            let found = compare(&before, &now);
            let (of, other) = if left { (found.left, found.foreign) } else { (found.foreign, found.left) };
            assert_eq!((line(&of).as_str(), other.len()), (text, 0), "{kind:?} {name}");
        }
        let mut now = before.clone();
        now.things.remove(&Kind::Module);
        now.things.remove(&Kind::Link);
        let found = compare(&before, &now);
        assert_eq!((line(&found.foreign).as_str(), found.left.len()), ("link eth0 is gone", 0));
    }

    #[test]
    fn the_remedy_names_the_first_of_each_kind() {
        let one = |kind, name: &str, change| Difference { kind, name: name.to_owned(), change };
        let added = || Change::Added(String::new());
        let left = [
            one(Kind::Link, "cni0", added()),
            one(Kind::Link, "qb-vx0", added()),
            one(Kind::Address, "10.244.0.1/24", added()),
            one(Kind::Sysctl, "a.b", Change::Changed("1".to_owned(), "0".to_owned())),
            one(Kind::Path, "etc/kubernetes", added()),
        ];
        assert_eq!(
            remedy(&left.into()),
            "on this host: `ip link del cni0`; `sysctl -w a.b='1'`; `ls -la '/etc/kubernetes'`, then remove it; \
             the step runs again by itself"
        );
    }

    #[test]
    fn many_are_told_in_one_line() {
        let all = (0..50).map(|i| (Kind::Chain, format!("KUBE-{i:02}")));
        let all = all.map(|(kind, name)| Difference { kind, name, change: Change::Added(String::new()) });
        let all: BTreeSet<_> = all.collect();
        assert!(line(&all).ends_with("chain KUBE-03; and 46 more"));
        assert_eq!(remedy(&all).matches("iptables-save;").count(), 1);
    }
}
