//! Files of the agent: written whole or not at all, secret ones with mode 0600.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {verb} {}: {error}{}", path.display(), remedy(error, path))]
    Io {
        /// read, write, make
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words. Not the error's source: its message has them.
        error: io::Error,
    },
    /// Others may read a secret.
    #[error(
        "{} has mode {mode:o}, others could read it: `chmod 0600 {}`; if others were on this machine meanwhile, \
         revoke the node and `qb-agent reset`",
        path.display(),
        path.display()
    )]
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

/// Words an error of the system.
pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |error| FileError::Io { verb, path, error }
}

/// What helps against what the system said.
pub fn remedy(error: &io::Error, path: &Path) -> String {
    let on = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("; the disk is full: make room, `df -h {on}` shows where")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "; the file system is read-only: `findmnt -T {on}` and `dmesg` say why; mount it writable"
            )
        }
        io::ErrorKind::PermissionDenied => {
            "; this is for root or for the user that the agent runs as: with sudo, or \
             `systemctl start qb-agent`"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// Makes a directory of mode 0700 and those above it.
pub fn make_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("make", path))
}

/// Makes a directory that everybody may read, as one for configuration, and those above it.
pub fn make_public_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io("make", path))
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

/// Gives a file another name in the same directory, durably.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    let dir = to.parent().unwrap_or(Path::new("."));
    fs::rename(from, to).and_then(|()| File::open(dir)?.sync_all()).map_err(io("rename", from))
}

/// Bytes that are free on a directory's disk.
pub fn free_bytes(dir: &Path) -> Result<u64, FileError> {
    let disk = rustix::fs::statvfs(dir).map_err(|errno| io("look at the disk of", dir)(errno.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Deletes a file; false if there was none.
pub fn remove(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io("delete", path)(e)),
    }
}

/// Overwrites at most `limit` bytes of a secret file and deletes it; false if there was none. Flash
/// media keep no promise.
pub fn erase(path: &Path, limit: u64) -> Result<bool, FileError> {
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(io("erase", path)(e)),
    };
    let overwrite = |mut file: File| -> io::Result<()> {
        let length = file.metadata()?.len().min(limit);
        io::copy(&mut io::repeat(0).take(length), &mut file)?;
        file.sync_all()
    };
    overwrite(file).map_err(io("erase", path))?;
    remove(path)
}

/// Deletes what lies in a directory, those named first in this order; false if there is no directory.
pub fn empty_dir(dir: &Path, first: &[&str]) -> Result<bool, FileError> {
    let Some(names) = names(dir)? else { return Ok(false) };
    let rest = names.iter().map(String::as_str).filter(|n| !first.contains(n));
    for name in first.iter().copied().filter(|f| names.iter().any(|n| n == f)).chain(rest) {
        let path = dir.join(name);
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir());
        let gone = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone.map_err(io("delete", &path))?;
    }
    File::open(dir).and_then(|d| d.sync_all()).map_err(io("write", dir))?;
    Ok(true)
}

/// The names in a directory that are text; none if there is no directory.
pub fn names(dir: &Path) -> Result<Option<Vec<String>>, FileError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io("read", dir)(e)),
    };
    let read: io::Result<Vec<String>> =
        entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect();
    read.map(Some).map_err(io("read", dir))
}

/// The files in a directory whose names end so; none if there is no directory.
pub fn with_extension(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let names = names(dir).ok().flatten().unwrap_or_default();
    let ends = |name: &&String| Path::new(name).extension().is_some_and(|e| e == extension);
    names.iter().filter(ends).map(|name| dir.join(name)).collect()
}

/// Size of a regular file, and when it was written; none if there is no such file.
pub fn mark(path: &Path) -> Option<(u64, Option<std::time::SystemTime>)> {
    let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((meta.len(), meta.modified().ok()))
}

/// Whose a directory is; none if there is none.
pub fn owner(dir: &Path) -> Result<Option<u32>, FileError> {
    match fs::metadata(dir) {
        Ok(meta) => Ok(Some(meta.uid())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io("read", dir)(e)),
    }
}

/// Why a state is not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process has it; which, if it said so.
    #[error(
        "another agent uses {}{}: stop it first (systemctl stop qb-agent), or give this one another --state",
        state.display(),
        holder.as_ref().map_or(String::new(), |pid| format!(" (process {pid})"))
    )]
    Held {
        /// The state.
        state: PathBuf,
        /// The other process.
        holder: Option<String>,
    },
}

/// A state that is this process's own, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Locks a state for this process: two agents with one identity would vote twice. It is free again
/// when the file is dropped, also by a process that was killed.
pub fn lock(state: &Path) -> Result<Lock, LockError> {
    let path = state.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io("open", &path))?;
    if let Err(errno) = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        let taken = errno == rustix::io::Errno::WOULDBLOCK;
        if !taken {
            return Err(io("lock", &path)(errno.into()).into());
        }
        let mut said = String::new();
        // Who has it may not have come to saying so.
        let read = file.take(16).read_to_string(&mut said).is_ok();
        let pid = said.trim();
        let holder = (read && pid.parse::<u32>().is_ok()).then(|| pid.to_owned());
        return Err(LockError::Held { state: state.to_owned(), holder });
    }
    // Only who is refused reads it: on a full disk it is missing there.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Lock { _file: file })
}

/// Writes a file that may be lost with the machine's power: whole or not at all otherwise, without
/// waiting for the disk.
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    write().map_err(io("write", path))
}

/// Opens a file to read; none if there is no such file.
pub fn open_read(path: &Path) -> Result<Option<File>, FileError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io("read", path)(e)),
    }
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

/// Reads at most `length` bytes from `offset` on, and how much there is; none if there is no such file.
pub fn read_part(path: &Path, offset: u64, length: usize) -> Result<Option<(Vec<u8>, u64)>, FileError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io("read", path)(e)),
    };
    let mut read = || -> io::Result<(Vec<u8>, u64)> {
        let size = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        (&mut file).take(length as u64).read_to_end(&mut bytes)?;
        Ok((bytes, size))
    };
    read().map(Some).map_err(io("read", path))
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
        write_atomic(&path, b"0123456789", 0o600).unwrap();
        assert_eq!(read_part(&path, 7, 2).unwrap(), Some((b"78".to_vec(), 10)));
        assert_eq!(read_part(&path, 7, 9).unwrap(), Some((b"789".to_vec(), 10)));
        assert_eq!(read_part(&path, 99, 9).unwrap(), Some((Vec::new(), 10)));
        assert_eq!(read_part(&dir.join("none"), 0, 9).unwrap(), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
