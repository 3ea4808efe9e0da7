//! Images of the selected tree into qb's own container runtime: only what is not there.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Seek as _};
use std::time::Duration;

use qb_drivers::RelPath;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::Host;
use super::place::{clean, tree};
use super::run::Call;
use crate::dir::Dir;
use crate::progress::StepError;

/// The runtime's socket.
pub(crate) const SOCKET: &str = "/run/qb/containerd/containerd.sock";
/// The kubelet's name space in it.
const SPACE: &str = "k8s.io";
/// Folder of the tree.
const IMAGES: &str = "images";
/// How long the runtime may take until it answers after a start.
const UP: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(100);
/// How long one import may take on a slow disk.
const IMPORT: Duration = Duration::from_secs(300);
/// Bytes of the list of images: thousands.
const LIST_BYTES: usize = 1 << 20;
/// Bytes of an archive's table of contents, and entries that are looked at to find it.
const TABLE_BYTES: u64 = 1 << 20;
const ENTRIES: usize = 10_000;
const REMEDY: &str = "`journalctl -u qb-containerd` on this machine shows why; the step is tried again";

/// A line of a docker archive's table of contents.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "RepoTags", default)]
    tags: Option<Vec<String>>,
}

/// `ctr` of the tree at qb's runtime.
pub(crate) fn ctr(args: &[&str]) -> Call {
    Call::tree("ctr", ["--address", SOCKET, "--namespace", SPACE].iter().chain(args).copied())
}

/// What the runtime must have.
pub(super) struct Wanted<'a> {
    /// Whose tree's images; none where it is the selected one.
    pub(super) tree: Option<&'a RelPath>,
    /// Beginnings of names of archives that are left out.
    pub(super) without: &'a [String],
    /// The pause image.
    pub(super) pause: &'a str,
}

impl Wanted<'_> {
    fn tree(&self, host: &Host) -> Result<Dir, StepError> {
        match self.tree {
            None => tree(host),
            Some(at) => host.dir.sub(at).map_err(|e| StepError::disk(at, &e)),
        }
    }
}

pub(super) async fn are_there(host: &Host, wanted: &Wanted<'_>) -> Result<bool, StepError> {
    let Some(have) = list(host).await? else { return Ok(false) };
    let tags = archives(host, wanted)?.into_iter().flat_map(|(_, tags)| tags);
    Ok(have.contains(wanted.pause) && tags.into_iter().all(|tag| have.contains(&tag)))
}

pub(super) async fn import(host: &Host, wanted: &Wanted<'_>) -> Result<(), StepError> {
    let pause = wanted.pause;
    let have = await_runtime(host).await?;
    let folder = wanted.tree(host)?.path().join(IMAGES);
    for (name, tags) in archives(host, wanted)? {
        if tags.iter().all(|tag| have.contains(tag)) {
            continue;
        }
        host.tell.tell(&format!("importing {name}"));
        let file = folder.join(name.as_str()).display().to_string();
        let call = ctr(&["images", "import", &file]).limit(IMPORT);
        host.programs.run(call).await?.done(&format!("ctr images import {name}"), REMEDY)?;
    }
    match list(host).await? {
        Some(have) if !have.contains(pause) => Err(StepError::new(
            format!("the bundle has no image {pause}, which the kubelet needs for every pod"),
            "build the bundle again with it, and `qb bundle push` it",
        )),
        _ => Ok(()),
    }
}

/// The images that the runtime has; none while it does not answer.
async fn list(host: &Host) -> Result<Option<BTreeSet<String>>, StepError> {
    let output = host.programs.run(ctr(&["images", "list", "-q"]).most(LIST_BYTES)).await?;
    let names = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).lines().map(|l| normal(l.trim())).collect();
    Ok(output.is_ok().then(|| names(output.stdout)))
}

/// A name as containerd has it: with its registry, which docker's own archives leave out.
fn normal(name: &str) -> String {
    match name.split_once('/') {
        None if name.is_empty() => String::new(),
        None => format!("docker.io/library/{name}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

/// Waits until the runtime answers: what it has.
async fn await_runtime(host: &Host) -> Result<BTreeSet<String>, StepError> {
    let until = Instant::now() + UP;
    loop {
        if let Some(have) = list(host).await? {
            return Ok(have);
        }
        if Instant::now() > until {
            return Err(StepError::new(
                format!("qb's container runtime does not answer within {} s", UP.as_secs()),
                REMEDY,
            ));
        }
        host.tell.tell("waiting for the container runtime");
        sleep(AGAIN).await;
    }
}

/// The archives of the tree and the images in each.
fn archives(host: &Host, wanted: &Wanted<'_>) -> Result<Vec<(RelPath, Vec<String>)>, StepError> {
    let folder = match wanted.tree(host)?.sub(&clean(IMAGES)?) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        folder => folder.map_err(|e| StepError::disk(IMAGES, &e))?,
    };
    let mut all = Vec::new();
    for name in folder.names().map_err(|e| StepError::disk(IMAGES, &e))? {
        if wanted.without.iter().any(|left| name.as_str().starts_with(left))
            || !name.as_str().ends_with(".tar")
        {
            continue;
        }
        let tags = tags(&folder, &name).map_err(|e| {
            StepError::new(
                format!("images/{name} of the bundle: {e}"),
                "build the bundle again, and `qb bundle push` it",
            )
        })?;
        all.push((name, tags.iter().map(|tag| normal(tag)).collect()));
    }
    Ok(all)
}

/// The names in a docker archive's `manifest.json`.
fn tags(folder: &Dir, name: &RelPath) -> io::Result<Vec<String>> {
    let mut file = folder.file(name)?.ok_or(io::ErrorKind::NotFound)?;
    file.rewind()?;
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()?.take(ENTRIES) {
        let entry = entry?;
        if entry.path_bytes().as_ref() != b"manifest.json" {
            continue;
        }
        let mut bytes = Vec::new();
        entry.take(TABLE_BYTES).read_to_end(&mut bytes)?;
        let lines: Vec<Line> = serde_json::from_slice(&bytes)?;
        return Ok(lines.into_iter().flat_map(|line| line.tags.unwrap_or_default()).collect());
    }
    Err(io::Error::other("it has no table of contents (manifest.json): no docker archive"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_those_of_containerd() {
        for (name, full) in [
            ("busybox:1", "docker.io/library/busybox:1"),
            ("qb/busybox:1", "docker.io/qb/busybox:1"),
            ("k8s.gcr.io/pause:3.2", "k8s.gcr.io/pause:3.2"),
            ("localhost/x:1", "localhost/x:1"),
            ("host:5000/x:1", "host:5000/x:1"),
        ] {
            assert_eq!(normal(name), full);
        }
    }
}
