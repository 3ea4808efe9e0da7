//! Whether the package may be removed: not from a machine that carries a cluster, unless somebody who
//! is on it said so.

use std::io;
use std::path::Path;

use qb_model::ids::{Name, NodeId};
use qb_model::words::words;

use crate::exec::clusters_below;
use crate::floor;

/// Bytes of an allowance: two words.
const ALLOWANCE_BYTES: usize = 64;

/// Why the package stays, or no allowance is given.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// Clusters lie here.
    #[error(
        "this machine carries {}: take it out first with `qb cluster detach {} {host}`; if the site has given it up, run `/usr/lib/qb/qb-exec allow-removal WORD WORD` as root on this machine, with the last two words that `qb-agent id` shows for the node, and remove the package again",
        clusters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        clusters.first().map(ToString::to_string).unwrap_or_default()
    )]
    Carries {
        /// Which.
        clusters: Vec<Name>,
        /// What the machine is called.
        host: String,
    },
    /// The words are not the node's.
    #[error("these are not the last two words of this machine's node: `qb-agent id` shows them")]
    Words,
    /// No order was ever taken, so that there is nothing to allow.
    #[error("this machine took no order yet: the package can be removed without an allowance")]
    Unknown,
    /// A file.
    #[error("{path}: {source}; run this as root")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RemovalError {
    let path = path.display().to_string();
    move |source| RemovalError::Io { path, source }
}

/// Whether the package may go from a machine whose executor's directory is `root`, with the allowance
/// at `allowed`. Nothing is changed.
///
/// # Errors
/// Clusters lie there and nobody allowed it, or it cannot be looked at.
pub fn check(root: &Path, allowed: &Path) -> Result<(), RemovalError> {
    let clusters = clusters_below(root).map_err(io_error(root))?;
    if clusters.is_empty() {
        return Ok(());
    }
    let node = floor::node_below(root).map_err(io_error(root))?;
    let said = match std::fs::read(allowed) {
        Ok(bytes) if bytes.len() <= ALLOWANCE_BYTES => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(_) => String::new(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(io_error(allowed)(e)),
    };
    if node.is_some_and(|node| said.trim() == last_words(node).join(" ")) {
        return Ok(());
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Err(RemovalError::Carries { clusters, host })
}

/// Allows the removal until the machine starts again, if the words are the node's last two.
///
/// # Errors
/// They are not, there is nothing to allow, or the allowance cannot be written.
pub fn allow(root: &Path, allowed: &Path, said: [&str; 2]) -> Result<(), RemovalError> {
    let node = floor::node_below(root).map_err(io_error(root))?.ok_or(RemovalError::Unknown)?;
    if said.map(str::to_lowercase) != last_words(node) {
        return Err(RemovalError::Words);
    }
    if let Some(dir) = allowed.parent() {
        std::fs::create_dir_all(dir).map_err(io_error(dir))?;
    }
    std::fs::write(allowed, last_words(node).join(" ")).map_err(io_error(allowed))
}

fn last_words(node: NodeId) -> [&'static str; 2] {
    let [.., before, last] = words(&node.0);
    [before, last]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dir::Dir;
    use crate::floor::Floor;

    #[test]
    fn a_machine_that_carries_a_cluster_keeps_the_package() {
        let temp = tempfile::tempdir().unwrap();
        let (root, allowed) = (temp.path().join("exec"), temp.path().join("run/removal-allowed"));
        check(&root, &allowed).unwrap();
        let dir = Dir::create(&root).unwrap();
        dir.make_dirs(&"clusters".parse().unwrap()).unwrap();
        check(&root, &allowed).unwrap();
        dir.make_dirs(&"clusters/blue".parse().unwrap()).unwrap();
        let text = check(&root, &allowed).unwrap_err().to_string();
        assert!(text.contains("carries blue") && text.contains("qb cluster detach blue "), "{text}");
        assert!(matches!(allow(&root, &allowed, ["a", "b"]), Err(RemovalError::Unknown)));
        let node = NodeId([3; 32]);
        Floor::open(&dir).unwrap().is_node(&dir, node).unwrap();
        let [before, last] = last_words(node);
        assert!(matches!(allow(&root, &allowed, [last, before]), Err(RemovalError::Words)));
        std::fs::create_dir_all(allowed.parent().unwrap()).unwrap();
        // Whoever may write there, but does not know the words.
        std::fs::write(&allowed, "").unwrap();
        assert!(check(&root, &allowed).is_err());
        allow(&root, &allowed, [&before.to_uppercase(), last]).unwrap();
        check(&root, &allowed).unwrap();
    }
}
