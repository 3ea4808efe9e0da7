//! The shared libraries that a program needs, taken from a root tree of Debian.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::lab::system;

/// Where a tree of Debian has libraries on this kind of machine.
pub(super) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// What loads programs.
pub(super) const LOADER: &str = "ld-linux-x86-64.so.2";

/// The files of a tree that these programs need besides themselves; none for programs that are static.
///
/// # Errors
/// The tree lacks one.
pub(super) fn libraries(tree: &Path, programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for program in programs {
        // The tree's own loader finds the tree's own libraries; nothing of the program is run.
        let mut command = system::program(tree.join(LIBRARIES).join(LOADER));
        command.arg("--library-path").arg(tree.join(LIBRARIES)).arg("--list").arg(program);
        let done = system::run(command, b"", system::TOOL)?;
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), done.stderr);
        if said.contains("statically linked") {
            continue;
        }
        let done =
            done.ok().with_context(|| format!("cannot find the libraries of {}", program.display()))?;
        all.extend(found(&String::from_utf8_lossy(&done.stdout)));
    }
    Ok(all)
}

/// The files that the loader names.
fn found(said: &str) -> Vec<PathBuf> {
    let one = |line: &str| {
        let path = line.split_once(" => ")?.1.split(' ').next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    said.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_says() {
        let said = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibm.so.6 => /t/usr/lib/libm.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 => /t/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(found(said), ["/t/usr/lib/libm.so.6", "/t/ld-linux-x86-64.so.2"].map(PathBuf::from));
        assert!(found("\tstatically linked\n").is_empty());
    }
}
