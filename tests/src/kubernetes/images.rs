//! What goes into which image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Version;
use super::closure::{LIBRARIES, LOADER, libraries};
use super::image::Image;
use crate::lab::system;

/// The image of pods that tests run: busybox, whose `httpd` serves and whose `wget` asks.
pub const WEB: &str = "qb.test/web:1";
/// Where Kubernetes 1.20 looks for its own.
const REGISTRY: &str = "k8s.gcr.io";
/// What it calls the sandbox of pods.
pub(super) const PAUSE: &str = "k8s.gcr.io/pause:3.2";
/// And its store.
const ETCD: &str = "k8s.gcr.io/etcd:3.4.13-0";

const PAUSE_SOURCE: &str = include_str!("../../lab/pause.rs");

/// What busybox is called in the image of tests.
const APPLETS: [&str; 12] =
    ["cat", "echo", "hostname", "httpd", "ip", "ls", "mkdir", "nc", "nslookup", "sh", "sleep", "wget"];
/// What `xtables` is called in the image of kube-proxy.
const TABLES: [&str; 6] =
    ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];

/// Where programs are taken from.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// A host's root tree, with libraries and iptables.
    pub tree: &'a Path,
    /// Debian's unpacked packages.
    pub packages: &'a Path,
    /// Programs of Kubernetes.
    pub programs: &'a Path,
}

/// Writes all images of a version into a folder.
///
/// # Errors
/// A program or a library is missing.
pub(super) fn write(parts: &Parts<'_>, version: Version, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let pause = pause(to)?;
    Image::new(&["/pause"]).file("pause", &pause).write(PAUSE, &to.join("pause.tar"))?;
    fs::remove_file(&pause)?;
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let path = format!("usr/local/bin/{name}");
        let image = Image::new(&[name]).file(path, parts.programs.join(name)).folder("tmp", 0o1777);
        image.write(&format!("{REGISTRY}/{name}:{version}"), &to.join(format!("{name}.tar")))?;
    }
    let proxy = format!("{REGISTRY}/kube-proxy:{version}");
    parts.proxy()?.write(&proxy, &to.join("kube-proxy.tar"))?;
    parts.etcd()?.write(ETCD, &to.join("etcd.tar"))?;
    parts.web()?.write(WEB, &to.join("web.tar"))
}

impl Parts<'_> {
    fn etcd(&self) -> Result<Image> {
        let image = Image::new(&["etcd"]).folder("tmp", 0o1777).folder("var/lib/etcd", 0o700);
        let programs = ["usr/bin/etcd", "usr/bin/etcdctl"].map(|path| (path, self.packages.join(path)));
        self.with(image, &programs)
    }

    fn web(&self) -> Result<Image> {
        let mut image = Image::new(&["/bin/sh"]).folder("tmp", 0o1777).folder("etc", 0o755);
        for name in APPLETS {
            image = image.link(format!("usr/bin/{name}"), "busybox");
        }
        self.with(image.link("bin", "usr/bin"), &[("usr/bin/busybox", self.packages.join("bin/busybox"))])
    }

    /// With the tools that change a host's tables, and what they load when they run.
    fn proxy(&self) -> Result<Image> {
        let own = self.programs.join("kube-proxy");
        let mut image = Image::new(&["kube-proxy"]).folder("tmp", 0o1777).folder("run", 0o755);
        image = image.file("usr/local/bin/kube-proxy", own);
        for name in TABLES {
            image = image.link(format!("usr/sbin/{name}"), "xtables-nft-multi");
        }
        image =
            image.link("usr/sbin/modprobe", "../bin/kmod").link("sbin", "usr/sbin").link("bin", "usr/bin");
        let mut needed = Vec::new();
        for path in ["usr/sbin/xtables-nft-multi", "usr/sbin/conntrack", "usr/bin/kmod"] {
            needed.push((path.to_owned(), self.tree.join(path)));
        }
        let extensions = format!("{LIBRARIES}/xtables");
        let found = fs::read_dir(self.tree.join(&extensions)).context("the tree has no iptables")?;
        for entry in found {
            let path = entry?.path();
            // Some go by two names; the image has each as a file.
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            needed.push((format!("{extensions}/{name}"), path));
        }
        let needed: Vec<_> = needed.iter().map(|(path, from)| (path.as_str(), from.clone())).collect();
        self.with(image, &needed)
    }

    /// An image with these files and all libraries that they need.
    fn with(&self, mut image: Image, files: &[(&str, PathBuf)]) -> Result<Image> {
        let programs: Vec<_> = files.iter().map(|(_, from)| from.clone()).collect();
        for (path, from) in files {
            image = image.file(path, from);
        }
        let needed = libraries(self.tree, &programs)?;
        if needed.is_empty() {
            return Ok(image);
        }
        for from in needed {
            let name = from.file_name().unwrap_or_default().to_owned();
            image = image.file(Path::new(LIBRARIES).join(name), from);
        }
        let loader = self.tree.join(LIBRARIES).join(LOADER);
        Ok(image
            .file(format!("usr/lib64/{LOADER}"), loader)
            .link("lib", "usr/lib")
            .link("lib64", "usr/lib64"))
    }
}

/// Compiles what holds the namespaces of pods: a static program of a page or so.
fn pause(into: &Path) -> Result<PathBuf> {
    let (source, to) = (into.join("pause.rs"), into.join("pause"));
    fs::write(&source, PAUSE_SOURCE)?;
    // Whichever compiler cargo used: rustup's lies where the caller's PATH says.
    let mut command = Command::new("rustc");
    command.args([
        "--edition",
        "2024",
        "-C",
        "panic=abort",
        "-C",
        "opt-level=s",
        "-C",
        "relocation-model=static",
    ]);
    command
        .args(["-C", "link-args=-nostartfiles -nostdlib -static -s -Wl,--build-id=none", "-o"])
        .arg(&to)
        .arg(&source);
    system::run(command, b"", system::TOOL)?.ok().context("cannot compile the sandbox of pods")?;
    fs::remove_file(&source)?;
    Ok(to)
}
