//! What `iptables-save` prints, and which of it is Kubernetes' or ours. Pure. Words of rules may hold
//! anything that somebody wrote in a comment: what a rule leads to is what follows `-j` or `-g`, never
//! what a line contains somewhere.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::plan::{BRIDGE, DEVICE, Networks};

/// Bytes that are taken: some ten thousand services, each with a dozen rules.
pub(crate) const TABLES_BYTES: usize = 32 << 20;
/// How chains begin that come with a cluster: of kube-proxy and kubelet, of CNI plugins, of qb.
const PREFIXES: [&str; 3] = ["KUBE-", "CNI-", "QB-"];

/// Whether a chain of this name comes with a cluster.
pub(crate) fn is_ours(chain: &str) -> bool {
    PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Its chain.
    pub(crate) chain: String,
    /// All that follows the chain, as printed.
    pub(crate) text: String,
    /// The chain or verdict that it leads to.
    pub(crate) target: Option<String>,
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Names with their policies, `-` for one that somebody made.
    pub(crate) chains: Vec<(String, String)>,
    pub(crate) rules: Vec<Rule>,
}

/// A text that is not of `iptables-save`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} of what iptables-save says is not understood: {text:?}; is the package iptables of this host whole?"
)]
pub(crate) struct TablesError {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Reads what it prints.
pub(crate) fn parse(printed: &str) -> Result<Vec<Table>, TablesError> {
    let mut tables: Vec<Table> = Vec::new();
    let mut open = false;
    for (at, line) in printed.lines().enumerate() {
        let wrong = || TablesError { line: at + 1, text: line.chars().take(120).collect() };
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('*') {
            if open {
                return Err(wrong());
            }
            open = true;
            tables.push(Table { name: name.to_owned(), ..Table::default() });
            continue;
        }
        let table = tables.last_mut().filter(|_| open).ok_or_else(wrong)?;
        if line == "COMMIT" {
            open = false;
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (name, policy) = words.next().zip(words.next()).ok_or_else(wrong)?;
            table.chains.push((name.to_owned(), policy.to_owned()));
        } else if let Some(rule) = line.strip_prefix("-A ") {
            table.rules.push(rule_of(rule).ok_or_else(wrong)?);
        } else {
            return Err(wrong());
        }
    }
    if open {
        // It was cut: what follows is not known.
        let text = "the end is missing".to_owned();
        return Err(TablesError { line: printed.lines().count(), text });
    }
    Ok(tables)
}

fn rule_of(line: &str) -> Option<Rule> {
    let (chain, text) = line.split_once(' ').unwrap_or((line, ""));
    let words = words(text)?;
    let follows = |flag: &str| words.iter().position(|word| !word.quoted && word.text == flag);
    let target = follows("-j").or_else(|| follows("-g")).and_then(|at| words.get(at + 1));
    Some(Rule { chain: chain.to_owned(), text: text.to_owned(), target: target.map(|w| w.text.clone()) })
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Word {
    text: String,
    quoted: bool,
}

/// Splits as `iptables-restore` does; none if a quote has no end.
fn words(text: &str) -> Option<Vec<Word>> {
    let (mut all, mut word, mut inside) = (Vec::new(), None::<Word>, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if inside => word.get_or_insert_default().text.push(chars.next()?),
            '"' => {
                inside = !inside;
                word.get_or_insert_default().quoted = true;
            }
            ' ' | '\t' if !inside => all.extend(word.take()),
            c => word.get_or_insert_default().text.push(c),
        }
    }
    all.extend(word);
    (!inside).then_some(all)
}

impl Table {
    /// Names of chains that come with a cluster.
    pub(crate) fn ours(&self) -> BTreeSet<&str> {
        self.chains.iter().map(|(name, _)| name.as_str()).filter(|name| is_ours(name)).collect()
    }

    /// Rules of others' chains that lead to one of ours.
    pub(crate) fn jumps(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| !is_ours(&rule.chain) && rule.target.as_deref().is_some_and(is_ours))
    }

    /// Rules of a chain.
    pub(crate) fn of<'a>(&'a self, chain: &'a str) -> impl Iterator<Item = &'a str> {
        self.rules.iter().filter(move |rule| rule.chain == chain).map(|rule| rule.text.as_str())
    }

    /// Whether nobody says anything in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.chains.iter().all(|(_, policy)| policy == "ACCEPT")
    }
}

/// What `iptables-restore --noflush` takes to remove all that is ours; none if nothing is. Others' rules
/// are not named: neither their order nor their counters change.
pub(crate) fn removal(tables: &[Table]) -> Option<String> {
    let mut script = String::new();
    for table in tables {
        let (ours, jumps) = (table.ours(), table.jumps().collect::<Vec<_>>());
        if ours.is_empty() && jumps.is_empty() {
            continue;
        }
        let _ = writeln!(script, "*{}", table.name);
        for rule in jumps {
            let _ = writeln!(script, "-D {} {}", rule.chain, rule.text);
        }
        // All are emptied before the first goes: one may lead to another.
        for chain in &ours {
            let _ = writeln!(script, "-F {chain}");
        }
        for chain in &ours {
            let _ = writeln!(script, "-X {chain}");
        }
        let _ = writeln!(script, "COMMIT");
    }
    (!script.is_empty()).then_some(script)
}

/// A digest of all that is not ours, counters left out. The same before and after, unless others changed
/// something.
pub(crate) fn foreign(tables: &[Table]) -> String {
    let mut digest = Sha256::new();
    for table in tables.iter().filter(|table| !table.is_empty()) {
        let chains = table.chains.iter().filter(|(name, _)| !is_ours(name));
        let chains: BTreeSet<_> = chains.map(|(name, policy)| format!(":{name} {policy}\n")).collect();
        let ours = |rule: &&Rule| !is_ours(&rule.chain) && !rule.target.as_deref().is_some_and(is_ours);
        let rules: Vec<_> = table.rules.iter().filter(ours).collect();
        let said = rules.is_empty() && table.chains.iter().all(|(n, p)| is_ours(n) || p == "ACCEPT");
        // A table that only ours are in was made for them.
        if said {
            continue;
        }
        digest.update(format!("*{}\n", table.name));
        chains.iter().for_each(|chain| digest.update(chain));
        rules.iter().for_each(|rule| digest.update(format!("{} {}\n", rule.chain, rule.text)));
    }
    qb_model::ids::Digest(digest.finalize().into()).to_string()
}

/// A chain of ours and where it is led to from.
struct Wanted {
    table: &'static str,
    chain: &'static str,
    /// As `iptables-save` prints them.
    rules: Vec<String>,
    from: &'static str,
}

/// What pods need of the host's filter: their addresses mean nothing outside, so packets that leave get
/// the host's; and a host that forwards nothing by default forwards what pods begin and what answers.
/// The jumps go to the end: a rule by which an admin refuses something stays the first word.
fn wanted(networks: Networks) -> [Wanted; 2] {
    let Networks { pods, overlay } = networks;
    [
        Wanted {
            table: "nat",
            chain: "QB-POD-NAT",
            rules: vec![format!("-s {pods} ! -d {pods} ! -o {BRIDGE} -j MASQUERADE")],
            from: "POSTROUTING",
        },
        Wanted {
            table: "filter",
            chain: "QB-POD-FORWARD",
            rules: vec![
                format!("-s {pods} -j ACCEPT"),
                format!("-s {overlay} -d {pods} -i {DEVICE} -j ACCEPT"),
                format!("-d {pods} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"),
            ],
            from: "FORWARD",
        },
    ]
}

/// What `iptables-restore --noflush` takes to have the rules that pods need; none if they are there.
pub(crate) fn addition(networks: Networks, tables: &[Table]) -> Option<String> {
    let mut script = String::new();
    for wanted in wanted(networks) {
        let table = tables.iter().find(|table| table.name == wanted.table);
        let there =
            table.is_some_and(|table| table.of(wanted.chain).eq(wanted.rules.iter().map(String::as_str)));
        let jump = format!("-j {}", wanted.chain);
        let led = table.is_some_and(|table| table.of(wanted.from).any(|rule| rule == jump));
        if there && led {
            continue;
        }
        let _ = writeln!(script, "*{}\n:{} - [0:0]", wanted.table, wanted.chain);
        for rule in wanted.rules {
            let _ = writeln!(script, "-A {} {rule}", wanted.chain);
        }
        if !led {
            let _ = writeln!(script, "-A {} {jump}", wanted.from);
        }
        let _ = writeln!(script, "COMMIT");
    }
    (!script.is_empty()).then_some(script)
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
