//! Files of this computer: bounded reading, whole or not at all writing.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::CliError;

/// Reads a file of at most `max` bytes.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, CliError> {
    let file = File::open(path).map_err(|e| CliError::file("read", path, &e))?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|e| CliError::file("read", path, &e))?;
    if bytes.len() as u64 > max {
        return Err(CliError::usage(format!("{} is longer than {max} bytes.", path.display())));
    }
    Ok(bytes)
}

/// Reads a UTF-8 file of at most `max` bytes.
///
/// # Errors
/// It cannot be read, is longer, or is not UTF-8.
pub fn read_text(path: &Path, max: u64) -> Result<String, CliError> {
    String::from_utf8(read(path, max)?)
        .map_err(|_| CliError::usage(format!("{} is not text.", path.display())))
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// Others may read it, it is another user's, or it cannot be read.
pub fn read_private(path: &Path, max: u64) -> Result<Vec<u8>, CliError> {
    let meta = fs::metadata(path).map_err(|e| CliError::file("read", path, &e))?;
    check_private(path, &meta)?;
    read(path, max)
}

/// Whether only this user may read the file.
///
/// # Errors
/// Names the mode and the remedy.
pub fn check_private(path: &Path, meta: &fs::Metadata) -> Result<(), CliError> {
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CliError::refused(format!(
            "{} may be read by others: its mode is {mode:04o}.",
            path.display()
        ))
        .remedy(format!("chmod 600 {}", path.display())));
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && me != 0 {
        return Err(CliError::refused(format!("{} belongs to another user.", path.display())));
    }
    Ok(())
}

/// Writes a file as a whole: a temporary one beside it, fsync, rename. `fresh` refuses to replace.
///
/// # Errors
/// It exists and must not, or cannot be written.
pub fn write(path: &Path, bytes: &[u8], mode: u32, fresh: bool) -> Result<(), CliError> {
    let wrap = |e: std::io::Error| CliError::file("write", path, &e);
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_folder(folder)?;
    }
    if fresh && path.symlink_metadata().is_ok() {
        return Err(CliError::usage(format!("{} exists.", path.display()))
            .remedy("choose another name, or move it away"));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if fresh {
            fs::hard_link(&temporary, path)?;
        } else {
            fs::rename(&temporary, path)?;
        }
        Ok(())
    };
    let result = write();
    // Gone after a rename; left after a link or a failure.
    let _ = fs::remove_file(&temporary);
    result.map_err(wrap)
}

/// Makes a folder and its parents, for this user alone.
fn make_folder(folder: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::DirBuilderExt as _;
    if folder.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| CliError::file("make the folder", folder, &e))
}
