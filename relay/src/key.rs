//! The relay's own key: the pin in the trust of its sites. It signs hellos and nothing else.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use qb_model::dsse::SecretKey;

/// The directory, for this user alone.
///
/// # Errors
/// It cannot be made.
pub fn make_dir(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make the directory {}", path.display()))
}

/// Reads the key of the directory, or makes it there.
///
/// # Errors
/// It cannot be read or written, or is damaged.
pub fn open(state: &Path) -> Result<SecretKey> {
    let path = state.join("relay.key");
    match std::fs::read(&path) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(seed) => Ok(SecretKey::from_bytes(&seed)),
            Err(_) => {
                bail!("{} has not 32 bytes: restore it, or have owners add a new relay key", path.display())
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound => make(&path),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn make(path: &Path) -> Result<SecretKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other).context("no random bytes")?;
    let writing = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&seed)?;
        file.sync_all()?;
        // The directory too: a key that a site trusts must not be gone after a power cut.
        path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
    };
    writing().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(SecretKey::from_bytes(&seed))
}
