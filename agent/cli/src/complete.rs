//! What can come next on a command line: from the grammar, and which live names it asks for. Pure.

use clap::{Arg, Command};

/// Live names that an argument takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Nodes of any state but revoked.
    Nodes,
    /// Machines that knock.
    Waiting,
    /// Nodes of the pool.
    Pool,
    /// Nodes of a cluster.
    Members(String),
    /// Clusters.
    Clusters,
    /// Intents.
    Intents,
    /// Admins.
    Admins,
    /// Keys of an admin.
    AdminKeys(String),
    /// Relays that the site trusts.
    Relays,
    /// Sites of this computer.
    Sites,
    /// Keys on this computer.
    Keys,
    /// Codes of preflight findings.
    Codes,
}

/// What can come next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    /// Words of the grammar, with what they mean.
    pub words: Vec<(String, String)>,
    /// Live names.
    pub live: Option<What>,
    /// The beginning of the word.
    pub prefix: String,
    /// Words that were given already and are not offered again.
    pub used: Vec<String>,
    /// `--site` as given.
    pub site: Option<String>,
    /// `--door` as given.
    pub door: Option<String>,
}

/// Where a command line is.
struct Walk<'a> {
    command: &'a Command,
    path: Vec<&'a str>,
    used: Vec<String>,
    value_of: Option<&'a Arg>,
}

fn flag<'a>(root: &'a Command, command: &'a Command, word: &str) -> Option<&'a Arg> {
    let all = command.get_arguments().chain(root.get_arguments());
    let name = word.split('=').next().unwrap_or_default();
    let mut all = all.filter(|arg| !arg.is_positional());
    match name.strip_prefix("--") {
        Some(long) => all.find(|a| {
            a.get_long() == Some(long) || a.get_visible_aliases().is_some_and(|names| names.contains(&long))
        }),
        None => all.find(|a| a.get_short().is_some_and(|short| name == format!("-{short}"))),
    }
}

fn takes_word(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

fn positional(command: &Command, at: usize) -> Option<&Arg> {
    let all: Vec<&Arg> = command.get_positionals().collect();
    let many = |arg: &&Arg| arg.get_num_args().is_some_and(|n| n.max_values() > 1);
    all.get(at).copied().or_else(|| all.last().copied().filter(many))
}

/// Goes through the words before the last one.
fn walk<'a>(root: &'a Command, words: &[String], next: &mut Next) -> Walk<'a> {
    let mut walk = Walk { command: root, path: Vec::new(), used: Vec::new(), value_of: None };
    for word in words {
        if let Some(arg) = walk.value_of.take() {
            match arg.get_id().as_str() {
                "site" => next.site = Some(word.clone()),
                "door" => next.door = Some(word.clone()),
                _ => {}
            }
        } else if word.starts_with('-') && word != "-" {
            let arg = flag(root, walk.command, word);
            walk.value_of = arg.filter(|arg| takes_word(arg) && !word.contains('='));
        } else if let Some(sub) = walk.command.find_subcommand(word).filter(|_| walk.used.is_empty()) {
            walk.command = sub;
            walk.path.push(sub.get_name());
        } else {
            walk.used.push(word.clone());
        }
    }
    walk
}

fn live(path: &[&str], id: &str, used: &[String]) -> Option<What> {
    let first = || used.first().cloned().unwrap_or_default();
    Some(match (path, id) {
        (_, "site") | (["site", "use"], _) => What::Sites,
        (_, "key") | (["key", "show" | "export-public"], "name") => What::Keys,
        (["node", "authorize"], "nodes") => What::Waiting,
        (["node", _], "node") | (["agent", "upgrade"], "first") => What::Nodes,
        (["cluster", "create"], _) => return None,
        (["cluster", "attach"], "nodes" | "control_plane") | (["preflight"], "nodes") => What::Pool,
        (["cluster", "detach"], "nodes") => What::Members(first()),
        (["cluster", _], "cluster") => What::Clusters,
        (["preflight", "explain"], _) => What::Codes,
        (["intent", _], "intent") => What::Intents,
        (["relay", "register" | "remove"], "url" | "relay") => What::Relays,
        (["package", _], "via") => What::Relays,
        (["admin", "add"], _) => return None,
        (["admin", _], "admin") => What::Admins,
        (["admin", "revoke-key"], "public") => What::AdminKeys(first()),
        _ => return None,
    })
}

fn words_of(path: &[&str], arg: &Arg) -> Vec<(String, String)> {
    use crate::out::rows::{CLUSTERS, NODES};
    let plain = |all: &[&str]| all.iter().map(|w| ((*w).to_owned(), String::new())).collect();
    let fields: Vec<&str> = match path.first() {
        Some(&"cluster") => CLUSTERS.iter().map(|f| f.name).collect(),
        _ => NODES.iter().map(|f| f.name).collect(),
    };
    match arg.get_id().as_str() {
        "output" => plain(&["table", "wide", "json", "yaml", "name"]),
        "sort" => plain(&fields),
        "filter" => fields.iter().map(|f| (format!("{f}:"), String::new())).collect(),
        _ => arg
            .get_possible_values()
            .iter()
            .filter(|v| arg.get_action().takes_values() && !v.is_hide_set())
            .map(|v| (v.get_name().to_owned(), v.get_help().map(ToString::to_string).unwrap_or_default()))
            .collect(),
    }
}

fn flags(root: &Command, command: &Command) -> Vec<(String, String)> {
    let own = command.get_arguments().chain(root.get_arguments().filter(|a| a.is_global_set()));
    let mut out: Vec<(String, String)> = Vec::new();
    for arg in own.filter(|a| !a.is_hide_set()) {
        let Some(long) = arg.get_long() else { continue };
        let name = format!("--{long}");
        if !out.iter().any(|(known, _)| *known == name) {
            out.push((name, arg.get_help().map(ToString::to_string).unwrap_or_default()));
        }
    }
    out
}

/// What can come after these words, of which the last is being typed; `qb` itself is not among them.
pub fn next(root: &Command, words: &[String]) -> Next {
    let (prefix, before) = words.split_last().map_or((String::new(), words), |(w, b)| (w.clone(), b));
    let mut next = Next { prefix, ..Next::default() };
    let walk = walk(root, before, &mut next);
    next.used.clone_from(&walk.used);
    if let Some(arg) = walk.value_of {
        next.words = words_of(&walk.path, arg);
        next.live = live(&walk.path, arg.get_id().as_str(), &walk.used);
        return next;
    }
    if next.prefix.starts_with('-') {
        next.words = flags(root, walk.command);
        return next;
    }
    if walk.used.is_empty() {
        let subs = walk.command.get_subcommands().filter(|c| !c.is_hide_set());
        next.words = subs
            .map(|c| (c.get_name().to_owned(), c.get_about().map(ToString::to_string).unwrap_or_default()))
            .collect();
    }
    if let Some(arg) = positional(walk.command, walk.used.len()) {
        next.words.extend(words_of(&walk.path, arg));
        next.live = live(&walk.path, arg.get_id().as_str(), &walk.used);
    }
    next
}
