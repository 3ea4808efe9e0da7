//! The seam under the log: what it asks of a directory and of a file. Tests put faults and lost
//! writes behind it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of the log. Positions are explicit, so readers and the writer share it.
pub(crate) trait LogFile: Send + Sync {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Returns once everything written is on stable storage.
    fn sync(&self) -> io::Result<()>;
    fn size(&self) -> io::Result<u64>;
}

/// The directory of the log.
pub(crate) trait Disk: Send + Sync {
    /// Names of complete files.
    fn list(&self) -> io::Result<Vec<String>>;
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;
    /// Makes a file of `size` bytes, `head` and then zeros. It exists durably and completely, or
    /// not at all.
    fn install(&self, name: &str, head: &[u8], size: u64) -> io::Result<Arc<dyn LogFile>>;
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Writes all of `buf`. Short writes go on, an interrupted one is repeated; no other error is.
pub(crate) fn write_all_at(file: &dyn LogFile, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.write_at(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                buf = &buf[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Fills `buf` from `offset`.
pub(crate) fn read_exact_at(file: &dyn LogFile, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buf = &mut buf[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Makes renames and removals in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes a file so that it exists durably and completely or not at all.
pub(crate) fn install_file(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<File> {
    let temp = dir.join(format!("{name}{TEMP}"));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temp)?;
    write(&file)?;
    file.sync_all()?;
    fs::rename(&temp, dir.join(name))?;
    sync_dir(dir)?;
    Ok(file)
}

/// The end of the name of a file that is not complete yet.
const TEMP: &str = ".tmp";

/// A real directory.
pub(crate) struct RealDisk {
    dir: PathBuf,
}

impl RealDisk {
    /// Uses `dir`, making it if it does not exist. Unfinished files are removed.
    pub(crate) fn new(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(TEMP) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { dir })
    }
}

impl LogFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.dir.join(name))?))
    }

    fn install(&self, name: &str, head: &[u8], size: u64) -> io::Result<Arc<dyn LogFile>> {
        let file = install_file(&self.dir, name, |file| {
            // Zeros are written, not only reserved: overwriting them later needs no new metadata,
            // which makes each fdatasync cheaper.
            let zeros = vec![0u8; 256 * 1024];
            let mut at = head.len() as u64;
            file.write_all_at(head, 0)?;
            while at < size {
                let n = (size - at).min(zeros.len() as u64);
                file.write_all_at(&zeros[..n as usize], at)?;
                at += n;
            }
            Ok(())
        })?;
        Ok(Arc::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))?;
        sync_dir(&self.dir)
    }
}
