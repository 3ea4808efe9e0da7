//! A directory that nothing leads out of: every path is walked part by part without following
//! links, from a handle that is held open. (One `openat2` call would do the same, but kernels
//! before 5.6, RHEL 8's for instance, do not have it.)

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use qb_drivers::RelPath;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIR_MODE: Mode = Mode::RWXU;
const OPEN_DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens a directory that must exist and not be a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::openat(CWD, path, DIR_FLAGS, Mode::empty())?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Makes the directory with mode 0700 if it is not there, and opens it. From one that is there the
    /// rights of others are taken away, but for passing through: programs below it may be running.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let made = !path.try_exists()?;
        std::fs::create_dir_all(path)?;
        let dir = Self::open(path)?;
        let through = if made { 0 } else { rustix::fs::fstat(&dir.fd)?.st_mode & 0o011 };
        rustix::fs::fchmod(&dir.fd, DIR_MODE | Mode::from_raw_mode(through))?;
        Ok(dir)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory below this one.
    pub(crate) fn sub(&self, at: &RelPath) -> io::Result<Self> {
        Ok(Self { fd: self.walk(at.parts())?, path: self.path.join(at.as_str()) })
    }

    /// Makes a directory and those above it, mode 0700.
    pub(crate) fn make_dirs(&self, at: &RelPath) -> io::Result<()> {
        let mut here = self.fd.try_clone()?;
        for part in at.parts() {
            match rustix::fs::mkdirat(&here, part, DIR_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            here = rustix::fs::openat(&here, part, DIR_FLAGS, Mode::empty())?;
        }
        Ok(())
    }

    /// Makes a directory and those above it, mode 0755: for trees that programs run from.
    pub(crate) fn make_open_dirs(&self, at: &RelPath) -> io::Result<()> {
        let mut here = self.fd.try_clone()?;
        for part in at.parts() {
            let made = match rustix::fs::mkdirat(&here, part, DIR_MODE) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(errno.into()),
            };
            here = rustix::fs::openat(&here, part, DIR_FLAGS, Mode::empty())?;
            if made {
                // Whatever the umask would take away.
                rustix::fs::fchmod(&here, OPEN_DIR_MODE)?;
            }
        }
        Ok(())
    }

    /// Lets everybody pass through it and see what is in it.
    pub(crate) fn open_to_all(&self) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.fd, OPEN_DIR_MODE)?)
    }

    /// Makes everything that was written on its disk durable.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.fd)?)
    }

    /// Bytes that are free on its disk.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::fstatvfs(&self.fd)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// A new file on its disk that has no name, so that it is gone when nobody has it open.
    pub(crate) fn nameless(&self) -> io::Result<File> {
        static ONE: Mutex<()> = Mutex::new(());
        // Nothing is shared but the name, for a moment.
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let name = ".nameless";
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        // (O_TMPFILE would do it in one call, but not every file system has it.)
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?);
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?;
        Ok(file)
    }

    /// Makes a file that must not be there yet, to be written. For trees that are synced and renamed as a
    /// whole.
    pub(crate) fn create_new(&self, at: &RelPath, mode: u32) -> io::Result<File> {
        let (parent, name) = self.parent(at)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(File::from(create_new(&parent, name, mode)?))
    }

    /// Whether there is a directory.
    pub(crate) fn has_dir(&self, at: &RelPath) -> bool {
        self.walk(at.parts()).is_ok()
    }

    /// Reads a regular file of at most `most` bytes; none if it is not there.
    pub(crate) fn read(&self, at: &RelPath, most: u64) -> io::Result<Option<Vec<u8>>> {
        let Some((parent, name)) = self.parent(at)? else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("larger than {most} bytes")));
        }
        Ok(Some(bytes))
    }

    /// The first bytes of a file, at most this many.
    pub(crate) fn read_beginning(&self, at: &RelPath, most: usize) -> io::Result<Vec<u8>> {
        let (parent, name) = self.parent(at)?.ok_or(io::ErrorKind::NotFound)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&parent, name, flags, Mode::empty())?);
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Permission bits of a file; none if it is not there.
    pub(crate) fn mode(&self, at: &RelPath) -> io::Result<Option<u32>> {
        let Some((parent, name)) = self.parent(at)? else {
            return Ok(None);
        };
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_mode & 0o7777)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes a file in one piece: whoever reads sees the old content or the new one, also after a
    /// crash. The directory must exist.
    pub(crate) fn write(&self, at: &RelPath, bytes: &[u8], mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(at)?.ok_or(io::ErrorKind::NotFound)?;
        let temporary = format!(".{name}.new");
        match rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut file = File::from(create_new(&parent, &temporary, mode)?);
        file.write_all(bytes)?;
        file.sync_all()?;
        rustix::fs::renameat(&parent, &temporary, &parent, name)?;
        rustix::fs::fsync(&parent)?;
        Ok(())
    }

    /// Opens a file to append to, mode 0600.
    pub(crate) fn append(&self, at: &RelPath) -> io::Result<File> {
        let (parent, name) = self.parent(at)?.ok_or(io::ErrorKind::NotFound)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(File::from(rustix::fs::openat(&parent, name, flags, mode)?))
    }

    /// Deletes a file if it is there.
    pub(crate) fn remove(&self, at: &RelPath) -> io::Result<()> {
        let Some((parent, name)) = self.parent(at)? else {
            return Ok(());
        };
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) => Ok(rustix::fs::fsync(&parent)?),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Deletes a directory with everything in it, if it is there. Links in it are deleted, not
    /// followed.
    pub(crate) fn remove_tree(&self, at: &RelPath) -> io::Result<()> {
        let Some((parent, _)) = self.parent(at)? else {
            return Ok(());
        };
        match std::fs::remove_dir_all(self.path.join(at.as_str())) {
            Ok(()) => Ok(rustix::fs::fsync(&parent)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Renames inside this directory, and makes that durable.
    pub(crate) fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let (from_dir, from_name) = self.parent(from)?.ok_or(io::ErrorKind::NotFound)?;
        let (to_dir, to_name) = self.parent(to)?.ok_or(io::ErrorKind::NotFound)?;
        rustix::fs::renameat(&from_dir, from_name, &to_dir, to_name)?;
        rustix::fs::fsync(&to_dir)?;
        Ok(())
    }

    /// The names in it, sorted; those that are not clean paths are left out.
    pub(crate) fn names(&self) -> io::Result<Vec<RelPath>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.parse::<RelPath>());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Makes a directory and those above it with a mode of their own; those that are there stay.
    pub(crate) fn make_dirs_for(&self, at: &RelPath, mode: u32) -> io::Result<()> {
        let (mut here, mode) = (self.fd.try_clone()?, Mode::from_raw_mode(mode));
        for part in at.parts() {
            match rustix::fs::mkdirat(&here, part, mode) {
                Ok(()) => {
                    let made = rustix::fs::openat(&here, part, DIR_FLAGS, Mode::empty())?;
                    // Whatever the umask took away.
                    rustix::fs::fchmod(&made, mode)?;
                    rustix::fs::fsync(&here)?;
                    here = made;
                }
                Err(Errno::EXIST) => here = rustix::fs::openat(&here, part, DIR_FLAGS, Mode::empty())?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Where a link leads; none if it is not there.
    pub(crate) fn link(&self, at: &RelPath) -> io::Result<Option<String>> {
        let Some((parent, name)) = self.parent(at)? else {
            return Ok(None);
        };
        match rustix::fs::readlinkat(&parent, name, Vec::new()) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Points a link somewhere, in one piece. It replaces a link or a file, never a directory.
    pub(crate) fn point(&self, at: &RelPath, target: &str) -> io::Result<()> {
        let (parent, name) = self.parent(at)?.ok_or(io::ErrorKind::NotFound)?;
        let temporary = format!(".{name}.new");
        match rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        rustix::fs::symlinkat(target, &parent, &temporary)?;
        rustix::fs::renameat(&parent, &temporary, &parent, name)?;
        Ok(rustix::fs::fsync(&parent)?)
    }

    /// Opens a regular file for reading; none if it is not there.
    pub(crate) fn file(&self, at: &RelPath) -> io::Result<Option<File>> {
        let Some((parent, name)) = self.parent(at)? else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if file.metadata()?.is_file() { Ok(Some(file)) } else { Err(io::Error::other("not a regular file")) }
    }

    fn walk<'a>(&self, parts: impl Iterator<Item = &'a str>) -> io::Result<OwnedFd> {
        let mut here = self.fd.try_clone()?;
        for part in parts {
            here = rustix::fs::openat(&here, part, DIR_FLAGS, Mode::empty())?;
        }
        Ok(here)
    }

    /// The directory of a path and the last part; none if that directory does not exist.
    fn parent<'a>(&self, at: &'a RelPath) -> io::Result<Option<(OwnedFd, &'a str)>> {
        let (above, name) = at.as_str().rsplit_once('/').map_or((None, at.as_str()), |(a, n)| (Some(a), n));
        match self.walk(above.into_iter().flat_map(|above| above.split('/'))) {
            Ok(fd) => Ok(Some((fd, name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn create_new(parent: &OwnedFd, name: &str, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let fd = rustix::fs::openat(parent, name, flags, mode)?;
    // Whatever the umask took away.
    rustix::fs::fchmod(&fd, mode)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_are_written_whole_and_read_back() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::create(&temp.path().join("d")).unwrap();
        let path: RelPath = "a/b/file".parse().unwrap();
        assert_eq!(dir.read(&path, 10).unwrap(), None);
        assert!(dir.write(&path, b"x", 0o600).is_err());
        dir.make_dirs(&"a/b".parse().unwrap()).unwrap();
        dir.write(&path, b"one", 0o600).unwrap();
        dir.write(&path, b"two", 0o640).unwrap();
        assert_eq!(dir.read(&path, 3).unwrap().unwrap(), b"two");
        assert!(dir.read(&path, 2).is_err());
        assert_eq!(dir.mode(&path).unwrap(), Some(0o640));
        dir.remove(&path).unwrap();
        dir.remove(&path).unwrap();
        dir.remove_tree(&"a".parse().unwrap()).unwrap();
        assert_eq!(dir.names().unwrap(), []);
    }

    #[test]
    fn links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "secret").unwrap();
        let dir = Dir::create(&temp.path().join("d")).unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), dir.path().join("file")).unwrap();
        assert!(dir.read(&"link/file".parse().unwrap(), 100).is_err());
        assert!(dir.read(&"file".parse().unwrap(), 100).is_err());
        assert!(dir.write(&"link/new".parse().unwrap(), b"x", 0o600).is_err());
        assert!(dir.append(&"file".parse().unwrap()).is_err());
        assert!(dir.make_dirs(&"link/sub".parse().unwrap()).is_err());
        // A write replaces the link and leaves what it pointed to.
        dir.write(&"file".parse().unwrap(), b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"secret");
    }
}
