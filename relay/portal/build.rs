//! Lists the built pages in `dist` as a table of embedded files, for `src/pages.rs`. Without pages the
//! table is empty. Fails when they are larger than their budget.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Bytes of all pages as they are stored: what every agent carries, and a first visit loads over the
/// worst line of a site.
const BUDGET: u64 = 200_000;

fn main() -> io::Result<()> {
    let Some((root, out)) = env::var_os("CARGO_MANIFEST_DIR").zip(env::var_os("OUT_DIR")) else {
        return Err(io::Error::other("cargo did not name its folders"));
    };
    let dist = Path::new(&root).join("dist");
    // The folder is in the tree even when no page is built, so that cargo can watch it.
    println!("cargo::rerun-if-changed=dist");
    let mut files = files_of(&dist)?;
    files.extend(files_of(&dist.join("assets"))?);
    files.sort();
    let mut table = String::from("&[\n");
    let mut bytes = 0;
    for path in files {
        bytes += fs::metadata(&path)?.len();
        let name = path.strip_prefix(&dist).map_err(io::Error::other)?;
        let _ = writeln!(table, "({:?}, include_bytes!({:?})),", name.display().to_string(), path);
    }
    table.push(']');
    if bytes > BUDGET {
        return Err(io::Error::other(format!("the pages have {bytes} bytes, their budget is {BUDGET}")));
    }
    fs::write(Path::new(&out).join("pages.rs"), table)
}

/// The files of a folder, hidden ones left out; none if it is not there.
fn files_of(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}
