//! Files of the agent: written whole or not at all, secret ones with mode 0600.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {verb} {}: {source}", path.display())]
    Io {
        /// read, write, make
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Others may read a secret.
    #[error("{} has mode {mode:o}, others could read it: chmod 0600 {}", path.display(), path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Longer than allowed.
    #[error("{} has {size} bytes, at most {limit} are read", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The bound.
        limit: u64,
    },
}

fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { verb, path, source }
}

/// Makes a directory of mode 0700 and those above it.
pub fn make_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("make", path))
}

/// Writes a file whole: temporary file, fsync, rename, fsync of the directory.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = dir.join(name);
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io("write", path))
}

/// Reads at most `limit` bytes; none if there is no such file.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io("read", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), size: bytes.len() as u64, limit });
    }
    Ok(Some(bytes))
}

/// Reads a secret file; refuses one that others may read.
pub fn read_secret(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    match fs::metadata(path) {
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
            Err(FileError::Mode { path: path.to_owned(), mode: meta.permissions().mode() & 0o777 })
        }
        _ => read_bounded(path, limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_others_may_read_are_refused() {
        let dir = std::env::temp_dir().join(format!("qb-files-{}", std::process::id()));
        make_dir(&dir).unwrap();
        let path = dir.join("key");
        write_atomic(&path, b"x", 0o600).unwrap();
        assert_eq!(read_secret(&path, 10).unwrap().as_deref(), Some(&b"x"[..]));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_secret(&path, 10), Err(FileError::Mode { mode: 0o640, .. })));
        assert!(matches!(read_bounded(&path, 0), Err(FileError::TooLarge { .. })));
        fs::remove_dir_all(&dir).unwrap();
    }
}
