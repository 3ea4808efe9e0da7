//! An image as a docker archive of one layer: the same bytes for the same files, whenever and wherever made.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// What every image's programs find each other by.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One thing in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder(u32),
    File(PathBuf),
    Link(String),
}

/// An image that is being put together.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// What runs where nobody says.
    entrypoint: Vec<String>,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Image {
    /// An empty one.
    pub(super) fn new(entrypoint: &[&str]) -> Self {
        Self {
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            entries: BTreeMap::new(),
        }
    }

    /// With an empty folder and those above it.
    #[must_use]
    pub(super) fn folder(mut self, path: impl AsRef<Path>, mode: u32) -> Self {
        self.above(path.as_ref());
        self.entries.insert(path.as_ref().to_owned(), Entry::Folder(mode));
        self
    }

    /// With a file of this machine's, with its bits.
    #[must_use]
    pub(super) fn file(mut self, path: impl AsRef<Path>, from: impl Into<PathBuf>) -> Self {
        self.above(path.as_ref());
        self.entries.insert(path.as_ref().to_owned(), Entry::File(from.into()));
        self
    }

    /// With a symbolic link.
    #[must_use]
    pub(super) fn link(mut self, path: impl AsRef<Path>, target: &str) -> Self {
        self.above(path.as_ref());
        self.entries.insert(path.as_ref().to_owned(), Entry::Link(target.to_owned()));
        self
    }

    fn above(&mut self, path: &Path) {
        for folder in path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()) {
            self.entries.entry(folder.to_owned()).or_insert(Entry::Folder(0o755));
        }
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// A file cannot be read, or the archive not be written.
    pub(super) fn write(&self, reference: &str, to: &Path) -> Result<()> {
        let layer = self.layer()?;
        let layer_sum = hex(&Sha256::digest(&layer));
        let config = serde_json::to_vec(&json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": { "Entrypoint": self.entrypoint, "Env": [PATH] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_sum}")] },
            "history": [{ "created": "1970-01-01T00:00:00Z" }],
        }))?;
        let (config_name, layer_name) =
            (format!("{}.json", hex(&Sha256::digest(&config))), format!("{layer_sum}/layer.tar"));
        let manifest = serde_json::to_vec(
            &json!([{ "Config": config_name, "RepoTags": [reference], "Layers": [layer_name] }]),
        )?;
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut archive = Builder::new(BufWriter::new(file));
        for (name, bytes) in
            [(&config_name, &config), (&layer_name, &layer), (&"manifest.json".into(), &manifest)]
        {
            let mut header = header(EntryType::Regular, 0o644, bytes.len() as u64);
            archive.append_data(&mut header, name, bytes.as_slice())?;
        }
        archive.into_inner()?.flush().with_context(|| format!("cannot write {}", to.display()))
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            match entry {
                Entry::Folder(mode) => {
                    let mut header = header(EntryType::Directory, *mode, 0);
                    layer.append_data(&mut header, path, std::io::empty())?;
                }
                Entry::Link(target) => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    layer.append_link(&mut header, path, target)?;
                }
                Entry::File(from) => {
                    let reading = || format!("cannot read {}", from.display());
                    let mode = fs::metadata(from).with_context(reading)?.permissions().mode() & 0o7777;
                    let bytes = fs::read(from).with_context(reading)?;
                    let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
                    layer.append_data(&mut header, path, bytes.as_slice())?;
                }
            }
        }
        layer.into_inner().context("a layer does not end")
    }
}

/// What an entry is; nobody's and of no time.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes all.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(archive: &[u8]) -> Vec<(String, EntryType, u32)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().expect("it is an archive");
        entries
            .map(|entry| {
                let entry = entry.expect("it is whole");
                let path = entry.path().expect("a path").display().to_string();
                (path, entry.header().entry_type(), entry.header().mode().expect("a mode"))
            })
            .collect()
    }

    #[test]
    fn the_same_files_make_the_same_bytes_in_any_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let from = dir.path().join("program");
        fs::write(&from, "text").expect("it is written");
        fs::set_permissions(&from, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let one = Image::new(&["/a/b"]).folder("tmp", 0o1777).file("a/b", &from).link("a/c", "b");
        let other = Image::new(&["/a/b"]).link("a/c", "b").file("a/b", &from).folder("tmp", 0o1777);
        let write = |image: &Image, name: &str| {
            image.write("host/name:1", &dir.path().join(name)).expect("it is written");
            fs::read(dir.path().join(name)).expect("it is there")
        };
        let bytes = write(&one, "one.tar");
        assert_eq!(bytes, write(&other, "other.tar"));
        let listed = names(&one.layer().expect("files are there"));
        assert_eq!(
            listed,
            [
                ("a".to_owned(), EntryType::Directory, 0o755),
                ("a/b".to_owned(), EntryType::Regular, 0o755),
                ("a/c".to_owned(), EntryType::Symlink, 0o777),
                ("tmp".to_owned(), EntryType::Directory, 0o1777),
            ]
        );
        let outer = names(&bytes);
        assert!(outer[0].0.ends_with(".json") && outer[1].0.ends_with("/layer.tar"), "{outer:?}");
        assert_eq!(outer[2].0, "manifest.json");
    }
}
