//! The bundle of a cluster's driver, from a folder that is laid out as its tree: looked at, summed up,
//! signed and written, one file after the other, none held whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use qb_drivers::RelPath;
use qb_drivers::agent::elf_arch;
use qb_drivers::bundle::limits::ARTIFACTS;
use qb_drivers::bundle::{
    ArtifactKind, BUNDLE_BYTES, Contents, HEAD_BYTES, Label, Place, Tally, VerifiedHead, manifest_digest,
};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::{Digest, Name, PublicKey, Version};

use super::send::Bar;
use crate::error::{CliError, sentence};
use crate::out::Out;
use crate::out::text::now;

/// The driver of real clusters.
pub(super) const KUBEADM: &str = "kubeadm";
/// The folders of its tree; files elsewhere are refused.
const FOLDERS: [&str; 4] = ["bin", "cni", "images", "manifests"];
/// What the driver starts: without any one of these no node comes up.
const NEEDED: [&str; 12] = [
    "bin/containerd",
    "bin/containerd-shim-runc-v2",
    "bin/ctr",
    "bin/etcdctl",
    "bin/kubeadm",
    "bin/kubectl",
    "bin/kubelet",
    "bin/runc",
    "cni/bridge",
    "cni/host-local",
    "cni/loopback",
    "cni/portmap",
];
/// The oldest agent that installs it.
const OLDEST_AGENT: &str = "0.1.0";
/// Folders below the four.
const DEPTH: usize = 3;

/// A folder that holds what the driver needs.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    files: BTreeMap<RelPath, u64>,
    arch: &'static str,
}

impl Tree {
    /// Looks at a folder.
    ///
    /// # Errors
    /// What is missing or may not be there.
    pub(super) fn look(root: &Path) -> Result<Self, CliError> {
        let mut files = BTreeMap::new();
        for folder in FOLDERS {
            if root.join(folder).is_dir() {
                walk(root, folder, DEPTH, &mut files)?;
            }
        }
        complete(&files, root)?;
        let arch = one_arch(root, &files)?;
        let size: u64 = files.values().sum();
        if files.len() > ARTIFACTS || size > BUNDLE_BYTES {
            let text = format!(
                "{} holds {} files of {size} bytes: a bundle has at most {ARTIFACTS} files and {BUNDLE_BYTES} bytes.",
                root.display(),
                files.len()
            );
            return Err(
                CliError::usage(text).remedy("take out images and plugins that the cluster does not use")
            );
        }
        Ok(Self { root: root.to_owned(), files, arch })
    }

    /// Bytes of all files.
    pub(super) fn size(&self) -> u64 {
        self.files.values().sum()
    }

    /// Signs and writes the bundle; its digest. It is there whole or not at all.
    ///
    /// # Errors
    /// A file cannot be read or changed meanwhile, or the bundle cannot be written.
    pub(super) fn build(
        &self,
        version: &Version,
        key: &SecretKey,
        to: &Path,
        out: &Out,
    ) -> Result<Digest, CliError> {
        let mut tally = Tally::default();
        let mut bar = Bar::new(out, "hash", self.size());
        for (number, path) in self.files.keys().enumerate() {
            let at = self.root.join(path.as_str());
            let fail = |e: io::Error| CliError::file("read", &at, &e);
            let executable = path.as_str().starts_with("bin/") || path.as_str().starts_with("cni/");
            let kind = ArtifactKind::File(Place { path: path.clone(), executable });
            let name: Name = format!("file-{number}").parse()?;
            let mut file = Counted { file: File::open(&at).map_err(fail)?, bar: &mut bar };
            tally.add(name, kind, None, &mut file).map_err(fail)?;
        }
        drop(bar);
        let driver: Name = KUBEADM.parse()?;
        let label = Label {
            name: driver.clone(),
            driver,
            version: version.clone(),
            channel: "stable".parse()?,
            arch: self.arch.to_owned(),
            created_ms: now(),
            min_agent: OLDEST_AGENT.parse()?,
        };
        let unsigned = tally.finish(label).map_err(|e| CliError::usage(sentence(&e.to_string())))?;
        let digest = manifest_digest(&unsigned.manifest);
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let temporary = to.with_file_name(name);
        let written = self
            .write(&temporary, &unsigned.sign(&[key]), out)
            .and_then(|()| verify(&temporary, &[key.public_key()], out))
            .and_then(|_| std::fs::rename(&temporary, to).map_err(|e| CliError::file("write", to, &e)));
        if written.is_err() {
            // Gone after a rename.
            let _ = std::fs::remove_file(&temporary);
        }
        written.map(|()| digest)
    }

    fn write(&self, to: &Path, head: &[u8], out: &Out) -> Result<(), CliError> {
        let fail = |e: io::Error| CliError::file("write", to, &e);
        let mut file = File::create(to).map_err(fail)?;
        file.write_all(head).map_err(fail)?;
        let mut bar = Bar::new(out, "write", self.size());
        for path in self.files.keys() {
            let at = self.root.join(path.as_str());
            let from = File::open(&at).map_err(|e| CliError::file("read", &at, &e))?;
            io::copy(&mut Counted { file: from, bar: &mut bar }, &mut file).map_err(fail)?;
        }
        file.sync_all().map_err(fail)
    }
}

/// Verifies a bundle's file as a whole.
///
/// # Errors
/// It is damaged, or none of these keys signed it.
pub(super) fn verify(path: &Path, keys: &[PublicKey], out: &Out) -> Result<VerifiedHead, CliError> {
    let fail = |e: io::Error| CliError::file("read", path, &e);
    let wrong = |e: &dyn std::fmt::Display| {
        CliError::refused(format!("{}: {}", path.display(), sentence(&e.to_string())))
    };
    let mut file = File::open(path).map_err(fail)?;
    let mut beginning = Vec::new();
    (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut beginning).map_err(fail)?;
    let head = VerifiedHead::verify(&beginning, keys).map_err(|e| wrong(&e))?;
    let size = file.metadata().map_err(fail)?.len();
    if size != head.file_size() {
        return Err(wrong(&format!("the file has {size} bytes, its manifest says {}", head.file_size())));
    }
    let mut bar = Bar::new(out, "verify", size);
    let read = |to: &mut [u8], at: u64| {
        bar.add(to.len() as u64);
        file.read_exact_at(to, at)
    };
    let verified = Contents::new(&head, Box::new(read)).verify();
    verified.map_err(|e| wrong(&e))?;
    Ok(head)
}

/// Reads and shows how far it is.
struct Counted<'a> {
    file: File,
    bar: &'a mut Bar,
}

impl Read for Counted<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(to)?;
        self.bar.add(read as u64);
        Ok(read)
    }
}

fn walk(root: &Path, at: &str, depth: usize, files: &mut BTreeMap<RelPath, u64>) -> Result<(), CliError> {
    let folder = root.join(at);
    let fail = |e: io::Error| CliError::file("read", &folder, &e);
    for entry in std::fs::read_dir(&folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path: RelPath =
            format!("{at}/{name}").parse().map_err(|e| CliError::usage(sentence(&format!("{e}"))))?;
        // Links are followed: what they lead to is put in their place.
        let meta = std::fs::metadata(entry.path()).map_err(fail)?;
        if meta.is_file() {
            files.insert(path, meta.len());
        } else if meta.is_dir() && depth > 1 {
            walk(root, path.as_str(), depth - 1, files)?;
        } else {
            let text =
                format!("{} is neither a file nor a folder that belongs there.", entry.path().display());
            return Err(CliError::usage(text).remedy("bin/, cni/, images/ and manifests/ hold plain files"));
        }
    }
    Ok(())
}

/// Whether everything is there that the driver starts.
fn complete(files: &BTreeMap<RelPath, u64>, root: &Path) -> Result<(), CliError> {
    let mut missing: Vec<&str> =
        NEEDED.into_iter().filter(|needed| !files.keys().any(|path| path.as_str() == *needed)).collect();
    let image = |path: &RelPath| path.as_str().starts_with("images/") && path.as_str().ends_with(".tar");
    if !files.keys().any(image) {
        missing.push("images/*.tar (docker archives of what kubeadm config images list names)");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("{} lacks {}.", root.display(), missing.join(", "));
    Err(CliError::usage(text).remedy("qb bundle build --help shows how the folder is laid out"))
}

/// The architecture of every program; scripts have none.
fn one_arch(root: &Path, files: &BTreeMap<RelPath, u64>) -> Result<&'static str, CliError> {
    let mut found: Option<(&'static str, &RelPath)> = None;
    for path in files.keys().filter(|p| p.as_str().starts_with("bin/") || p.as_str().starts_with("cni/")) {
        let at = root.join(path.as_str());
        let mut head = Vec::new();
        let read = File::open(&at).and_then(|file| file.take(64).read_to_end(&mut head));
        read.map_err(|e| CliError::file("read", &at, &e))?;
        // A script runs anywhere; one that the driver starts by name is there as a program all the same.
        if head.starts_with(b"#!") {
            continue;
        }
        let arch = elf_arch(path.as_str(), &head).map_err(|e| CliError::usage(sentence(&e.to_string())))?;
        match found {
            Some((before, other)) if before != arch => {
                let text = format!("{path} is for {arch}, {other} for {before}.");
                return Err(
                    CliError::usage(text).remedy("a bundle is for one architecture: build one for each")
                );
            }
            Some(_) => {}
            None => found = Some((arch, path)),
        }
    }
    // There are programs: it is complete.
    found.map(|(arch, _)| arch).ok_or_else(|| CliError::usage("The folder holds no program."))
}
