//! Root trees: one for each kind of host, made once with debootstrap and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::place::Place;
use super::release::Kind;
use super::system::{self, lock};

/// Variable that names the mirror of Debian, where this machine's own is not wanted.
pub const MIRROR: &str = "QB_LAB_MIRROR";

/// How long a tree may take: about 90 s with a near mirror.
const LIMIT: Duration = Duration::from_secs(1200);

/// The tree of this kind, made if there is none yet. An error says what debootstrap said.
pub(super) fn ensure_tree(place: &Place, kind: &Kind) -> Result<PathBuf> {
    system::require(&place.cache)?;
    let key = kind.key();
    let tree = place.cache.join(&key);
    let _alone = lock(&place.cache.join(format!("{key}.lock")))?;
    // A tree gets its name when it is whole.
    if tree.is_dir() {
        return Ok(tree);
    }
    let new = place.cache.join(format!("{key}.new"));
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    let mirror = mirror()?;
    eprintln!("lab: making a root tree of {} (about 90 s, kept in {})", kind.release, place.cache.display());
    debootstrap(place, kind, &mirror, &new)?;
    settle(&new)?;
    fs::rename(&new, &tree).with_context(|| format!("cannot rename {}", new.display()))?;
    Ok(tree)
}

fn debootstrap(place: &Place, kind: &Kind, mirror: &str, to: &Path) -> Result<()> {
    let packages = place.cache.join("packages").join(kind.release.to_string());
    fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
    let mut command = system::program("setpriv");
    // In namespaces of its own, and dying with this program: what it mounts and starts goes with it.
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(["debootstrap", "--variant=minbase"]);
    command.arg(format!("--cache-dir={}", packages.display()));
    command.arg(format!("--include={}", kind.packages().into_iter().collect::<Vec<_>>().join(",")));
    command.arg(kind.release.to_string()).arg(to).arg(mirror);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    let done = system::run(command, b"", LIMIT)?;
    if done.code != 0 {
        let said = String::from_utf8_lossy(&done.stdout);
        let lines: Vec<_> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n");
        bail!(
            "debootstrap of {} from {mirror} ended with {}: {last} {}; log in {}; another mirror: {MIRROR}=URL",
            kind.release,
            done.code,
            done.stderr.trim(),
            to.join("debootstrap/debootstrap.log").display()
        );
    }
    Ok(())
}

/// What a tree must not bring along: an identity, a name, sources that no host can reach, and packages.
fn settle(tree: &Path) -> Result<()> {
    let write = |path: &str| fs::write(tree.join(path), "").with_context(|| format!("cannot write {path}"));
    // Empty: every host gets one at its first boot.
    write("etc/machine-id")?;
    write("etc/resolv.conf")?;
    for path in ["etc/hostname", "etc/apt/sources.list", "var/lib/dbus/machine-id"] {
        match fs::remove_file(tree.join(path)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot remove {path}"));
            }
            _ => {}
        }
    }
    for dir in ["var/lib/apt/lists", "var/cache/apt/archives"] {
        fs::remove_dir_all(tree.join(dir)).with_context(|| format!("cannot empty {dir}"))?;
        fs::create_dir_all(tree.join(dir).join("partial")).with_context(|| format!("cannot make {dir}"))?;
    }
    Ok(())
}

/// The mirror of Debian that this machine itself uses.
pub(crate) fn mirror() -> Result<String> {
    if let Some(given) = std::env::var_os(MIRROR) {
        return given.into_string().ok().with_context(|| format!("{MIRROR} is no text"));
    }
    let format = "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)";
    let done = system::tool("apt-get", ["indextargets", "--format", format, "Created-By: Packages"], "")
        .with_context(|| format!("cannot learn this machine's mirror: set {MIRROR} to one"))?;
    let found = main_archive(&String::from_utf8_lossy(&done.stdout));
    found.with_context(|| {
        format!("apt knows no mirror of Debian (try apt-get update): set {MIRROR}, for instance to a mirror near you")
    })
}

/// Debian's main archive among apt's index targets, not its security updates nor anybody else's.
fn main_archive(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let uri = line.strip_prefix("Debian\tDebian\t")?;
        (uri.starts_with("http://") || uri.starts_with("https://") || uri.starts_with("file:"))
            .then(|| uri.trim_end_matches('/').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_found_among_others() {
        let targets = "\t\thttps://example.org/other/\n\
            Debian\tDebian-Security\thttp://example.org/debian-security/\n\
            Debian\tDebian\thttp://example.org/debian/\n\
            Debian\tDebian\thttp://example.net/debian/\n";
        assert_eq!(main_archive(targets).as_deref(), Some("http://example.org/debian"));
        assert_eq!(main_archive("Ubuntu\tUbuntu\thttp://example.org/ubuntu/\n"), None);
        assert_eq!(main_archive("Debian\tDebian\tmirror+file:/etc/mirrors\n"), None);
    }
}
