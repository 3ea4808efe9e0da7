//! Where a laboratory lies and what its things are called.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Variable that names the laboratory.
pub const NAME: &str = "QB_LAB";
/// Variable that names the directory of laboratories, one directory each.
pub const DIR: &str = "QB_LAB_DIR";
/// Variable that names the directory of root trees.
pub const CACHE: &str = "QB_LAB_CACHE";
/// The laboratory that is meant where nobody names one.
pub const DEFAULT: &str = "lab";

/// First three numbers of every address: the same in all laboratories, since each has namespaces of its own.
pub(super) const NET: [u8; 3] = [10, 77, 0];
/// This machine's own place on the segment: the last number of its address.
pub const MACHINE: u8 = 254;
/// Highest number of a host. The kernel's 128 inotify instances carry no more hosts than a few dozen.
pub const MAX_HOST: u8 = 64;
/// Longest name of a laboratory, so that names of namespaces and control groups stay readable.
const NAME_MAX: usize = 24;
/// Begins every name that a laboratory gives to something of the kernel's.
const PREFIX: &str = "qb-lab-";

/// The names and paths of one laboratory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its directory: what is known of it and the disks of its hosts.
    pub dir: PathBuf,
    /// Root trees, shared by all laboratories.
    pub cache: PathBuf,
    /// What its namespaces and control groups are called; two checkouts share none.
    pub tag: String,
}

impl Place {
    /// The laboratory of this name, below the directories that the environment names, else below `target/lab`.
    ///
    /// # Errors
    /// The name does not fit, or no directory can be found for it.
    pub fn of(name: &str) -> Result<Self> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(word) && name != "cache",
            "{name:?} names no laboratory: at most {NAME_MAX} of a-z, 0-9 and -, and not cache"
        );
        let runs = match std::env::var_os(DIR) {
            Some(dir) => absolute(&PathBuf::from(dir))?,
            None => target()?.join("lab"),
        };
        let cache = match std::env::var_os(CACHE) {
            Some(dir) => absolute(&PathBuf::from(dir))?,
            None => target()?.join("lab/cache"),
        };
        let dir = runs.join(name);
        Ok(Self { name: name.to_owned(), tag: tag(name, &dir), dir, cache })
    }

    /// The name that the environment gives, else the usual one.
    ///
    /// # Errors
    /// It is no text.
    pub fn name() -> Result<String> {
        match std::env::var(NAME) {
            Ok(name) => Ok(name),
            Err(std::env::VarError::NotPresent) => Ok(DEFAULT.to_owned()),
            Err(e) => Err(e).context(NAME),
        }
    }

    /// The directory of all laboratories.
    pub fn runs(&self) -> PathBuf {
        self.dir.parent().unwrap_or(&self.dir).to_owned()
    }

    /// The directory of a host.
    pub fn host_dir(&self, host: u8) -> PathBuf {
        self.dir.join("hosts").join(format!("h{host}"))
    }

    /// The namespace of the segment.
    pub fn net(&self) -> String {
        self.tag.clone()
    }

    /// The namespace of a host's card.
    pub fn host_net(&self, host: u8) -> String {
        format!("{}-h{host}", self.tag)
    }

    /// Whether a namespace of this name is the segment's or one of a host.
    pub fn owns_net(&self, net: &str) -> bool {
        let host = net.strip_prefix(&self.tag).and_then(|rest| rest.strip_prefix("-h"));
        net == self.tag || host.is_some_and(|i| i.parse::<u8>().is_ok())
    }
}

/// A host's address.
pub fn address(host: u8) -> String {
    let [a, b, c] = NET;
    format!("{a}.{b}.{c}.{host}")
}

/// The name by which nothing of another laboratory goes, whatever directory that lies in.
fn tag(name: &str, dir: &Path) -> String {
    let sum = crc32c::crc32c(dir.as_os_str().as_encoded_bytes());
    format!("{PREFIX}{name}-{sum:08x}")
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).with_context(|| format!("{} is no path", dir.display()))
}

/// Where cargo builds: the directory of this program's profile lies there, wherever it is run.
fn target() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    // Test programs lie one level below.
    let profile = own.ancestors().skip(1).find(|dir| !dir.ends_with("deps"));
    let target = profile.and_then(Path::parent);
    Ok(target.context("this program lies in no directory of cargo's")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directories_share_no_name() {
        let [one, other] = ["/a/target/lab/lab", "/b/target/lab/lab"].map(|dir| tag("lab", Path::new(dir)));
        assert!(one != other && one.starts_with("qb-lab-lab-"), "{one} {other}");
    }

    #[test]
    fn tests_and_programs_share_one_cache() {
        let target = target().expect("cargo built this");
        assert!(target.join("debug").is_dir() || target.join("release").is_dir(), "{}", target.display());
        assert!(!target.starts_with(env!("CARGO_MANIFEST_DIR")), "{}", target.display());
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        for name in ["", "Lab", "a/b", "..", "a b", "cache", "a-name-that-is-far-too-long"] {
            assert!(Place::of(name).is_err(), "{name}");
        }
        assert_eq!(Place::of("test-2").expect("it fits").name, "test-2");
    }

    #[test]
    fn only_its_own_namespaces_are_its() {
        let place = Place {
            name: "a".into(),
            dir: "/x/a".into(),
            cache: "/x/cache".into(),
            tag: "qb-lab-a-00000000".into(),
        };
        for (net, owned) in [
            ("qb-lab-a-00000000", true),
            ("qb-lab-a-00000000-h12", true),
            ("qb-lab-a-00000000-h1-x", false),
            ("qb-lab-a-000000001", false),
            ("qb-lab-b-00000000", false),
        ] {
            assert_eq!(place.owns_net(net), owned, "{net}");
        }
    }
}
