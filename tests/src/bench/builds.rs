//! Sizes of the programs; times of building them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{ms, print};
use crate::binaries::Binaries;

/// Directories that are no source.
const NO_SOURCE: [&str; 5] = ["target", ".git", ".qb-demo", "node_modules", "dist"];
/// What an incremental build begins with: the crate that all others use, and the one at the top.
const TOUCHED: [(&str, &str); 2] =
    [("build_after_model", "consensus/model/src/lib.rs"), ("build_after_agent", "agent/src/lib.rs")];

/// Prints the sizes of the programs under test, and of the same without symbols.
pub(super) fn sizes(binaries: &Binaries) -> Result<()> {
    let temp = tempfile::tempdir()?;
    for path in [&binaries.agent, &binaries.qb] {
        let name = path.file_name().unwrap_or_default();
        let bytes = fs::metadata(path)?.len();
        let to = temp.path().join(name);
        let strip = Command::new("strip").arg("-o").arg(&to).arg(path).stderr(Stdio::null()).status();
        let stripped = match strip {
            Ok(status) if status.success() => Some(fs::metadata(&to)?.len()),
            _ => None,
        };
        let name = name.to_string_lossy();
        print("binary", &json!({ "name": name, "bytes": bytes, "stripped": stripped }))?;
    }
    Ok(())
}

/// Builds a copy of the sources: everything, and again after a change.
pub(super) fn times() -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let temp = tempfile::Builder::new().prefix("qb-build-").tempdir()?;
    copy(&source, temp.path())?;
    timed("build_cold", temp.path())?;
    for (figure, file) in TOUCHED {
        let path = temp.path().join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, format!("{text}\n/// A change.\npub const CHANGED: u8 = 1;\n"))?;
        timed(figure, temp.path())?;
    }
    Ok(())
}

fn timed(figure: &str, dir: &Path) -> Result<()> {
    let began = Instant::now();
    let status = Command::new("cargo")
        .args(["build", "--locked", "--quiet", "-p", "qb-agent", "-p", "qb-cli", "--bins"])
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", dir.join("target"))
        .stdout(Stdio::null())
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "cargo ended with {status}");
    print(figure, &json!({ "unit": "ms", "profile": "dev", "total": ms(began.elapsed()) }))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if NO_SOURCE.contains(&text.as_ref()) || text.starts_with("target-") {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&source, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}
