//! The files of versions: unpacked from a bundle that fits, looked at before each start, linked to.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use qb_drivers::agent::{AgentBundle, PROGRAMS, elf_arch, unpack_program};
use qb_drivers::bundle::directory_name;
use qb_drivers::{PathError, RelPath};
use qb_model::ids::Digest;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::bundle::Bundle;

use super::state::{Installed, Program, Store};

/// Bytes of a program that say what it is for.
const ELF_HEAD: usize = 64;

/// Unpacks both programs of a bundle into a directory of their own, which is there completely or not at
/// all. Nothing in a bundle names a path.
///
/// # Errors
/// A program is damaged or none, or the disk cannot be written. Nothing is left behind.
pub(super) fn install(store: &Store, fit: &AgentBundle, bundle: &Bundle) -> io::Result<Installed> {
    let manifest = fit.head().manifest();
    let name = directory_name(&fit.head().digest());
    let clean = |text: String| text.parse::<RelPath>().map_err(|e: PathError| io::Error::other(e));
    let (last, temporary) = (clean(name.clone())?, clean(format!(".new-{name}"))?);
    let dir = &store.dir;
    dir.remove_tree(&temporary)?;
    let unpacked = unpack(store, &temporary, fit, bundle);
    let programs = match unpacked {
        Ok(programs) => programs,
        Err(error) => {
            dir.remove_tree(&temporary)?;
            return Err(error);
        }
    };
    dir.remove_tree(&last)?;
    dir.rename(&temporary, &last)?;
    let publisher = fit.head().publisher();
    let installed =
        Installed { digest: fit.head().digest(), version: manifest.version.clone(), publisher, programs };
    for which in [Program::Agent, Program::Exec] {
        check(store, &installed, which).map_err(io::Error::other)?;
    }
    Ok(installed)
}

fn unpack(store: &Store, into: &RelPath, fit: &AgentBundle, bundle: &Bundle) -> io::Result<[Digest; 2]> {
    store.dir.make_dirs(into)?;
    let target = store.dir.sub(into)?;
    std::fs::set_permissions(target.path(), std::fs::Permissions::from_mode(0o755))?;
    let mut programs = [Digest([0; 32]); 2];
    let mut contents = bundle.contents();
    // The form was checked: exactly these two, in this order.
    for (at, program) in PROGRAMS.iter().enumerate() {
        let mut packed = contents.artifact(at).ok_or(io::ErrorKind::UnexpectedEof)?;
        let name: RelPath = program.parse().map_err(|e: PathError| io::Error::other(e))?;
        let mut file = target.create_new(&name, 0o755)?;
        programs[at] = unpack_program(packed.artifact(), &mut packed, &mut file)?;
        packed.finish()?;
        file.sync_all()?;
        let head = target.read_beginning(&name, ELF_HEAD)?;
        let arch = elf_arch(program, &head).map_err(io::Error::other)?;
        if arch != fit.head().manifest().arch {
            return Err(io::Error::other(format!("{program} is for {arch}")));
        }
    }
    File::open(target.path())?.sync_all()?;
    Ok(programs)
}

/// Says what is wrong with a program's file: it must be a regular file that only root, or the user that
/// runs this, can write, and have the content that was unpacked.
pub(super) fn check(store: &Store, of: &Installed, which: Program) -> Result<(), String> {
    let path = store.program(&of.digest, which);
    let wrong = |why: String| format!("{} of version {} {why}", which.name(), of.version);
    let read = |e: io::Error| wrong(format!("cannot be read: {e}"));
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut file = File::options().read(true).custom_flags(flags).open(&path).map_err(read)?;
    let meta = file.metadata().map_err(read)?;
    let own = rustix::process::geteuid().as_raw();
    if !meta.is_file() || ![0, own].contains(&meta.uid()) || meta.mode() & 0o022 != 0 {
        return Err(wrong("could have been written by others than root".to_owned()));
    }
    if hash(&mut file).map_err(read)? != of.programs[which as usize] {
        return Err(wrong("is not the file that was unpacked".to_owned()));
    }
    Ok(())
}

fn hash(file: &mut File) -> io::Result<Digest> {
    let (mut hash, mut part) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(Digest(hash.finalize().into())),
            read => hash.update(&part[..read]),
        }
    }
}

/// Makes `dir`/`name` lead to a program, at once; the directory is made if it is missing.
pub(super) fn link(dir: &Path, name: &str, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    let new = dir.join(format!(".{name}.new"));
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::os::unix::fs::symlink(to, &new)?;
    std::fs::rename(&new, dir.join(name))
}
