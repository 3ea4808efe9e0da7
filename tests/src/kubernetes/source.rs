//! The seven programs of Kubernetes, built from Debian's source package with Debian's Go.
//!
//! Three things the package does not do by itself: the definitions of the API are generated first; the library
//! `reflect2` that it brings does not work with this Go, Debian's own does; and a version is set, since kubeadm
//! refuses a kubelet that has none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Version;
use super::debian::{Debian, fresh};
use crate::lab::system;

/// The programs.
pub(super) const PROGRAMS: [&str; 7] = [
    "kubeadm",
    "kubectl",
    "kubelet",
    "kube-proxy",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
];
/// Debian 12's Go.
const GO: &str = "/usr/lib/go-1.19/bin/go";
/// Debian's `reflect2`.
const REFLECT2: &str = "/usr/share/gocode/src/github.com/modern-go/reflect2";
/// How long one program may take: the first one two minutes on two cores, most of it shared with the others.
const BUILD: Duration = Duration::from_secs(1800);
/// Which sources say that they want definitions.
const MARK: &str = "+k8s:openapi-gen=";
/// Where those are.
const MARKED: [&str; 4] = ["pkg", "cmd", "plugin", "staging/src/k8s.io"];
/// Of these, what is no part of the programs.
const UNMARKED: [&str; 4] = ["code-generator", "sample-apiserver", "_test.go", "/_examples/"];
/// What is generated.
const DEFINITIONS: &str = "pkg/generated/openapi/zz_generated.openapi.go";

/// The folder of the programs of this version, built if they are not there. About nine minutes on two cores;
/// the second version two and a half.
///
/// # Errors
/// Go is missing, the source cannot be had, or it does not compile.
pub(super) fn ensure_programs(dir: &Path, version: Version) -> Result<PathBuf> {
    let to = dir.join(format!("programs-{version}"));
    if to.is_dir() {
        return Ok(to);
    }
    for needed in [GO, REFLECT2, "/usr/bin/dpkg-source", "/usr/bin/patch"] {
        ensure!(Path::new(needed).exists(), "{needed} is missing: run .ci/setup kubernetes");
    }
    let go = Go { path: dir.join("go"), source: dir.join("go/src/k8s.io/kubernetes") };
    go.unpack(dir)?;
    go.define()?;
    let new = fresh(&to)?;
    for program in PROGRAMS {
        eprintln!("lab: building {program} {version}");
        go.build(&new, &["-ldflags", &linking(version)], &format!("./cmd/{program}"))?;
    }
    fs::rename(&new, &to).with_context(|| format!("cannot make {}", to.display()))?;
    Ok(to)
}

/// What the linker is told: no symbols, and the version, in both places that know one.
fn linking(version: Version) -> String {
    let mut flags = "-s -w".to_owned();
    for library in ["component-base/version", "client-go/pkg/version"] {
        let package = format!("k8s.io/kubernetes/vendor/k8s.io/{library}");
        for (name, value) in [
            ("gitVersion", version.to_string()),
            ("gitMajor", "1".into()),
            ("gitMinor", "20".into()),
            ("gitTreeState", "clean".into()),
        ] {
            flags += &format!(" -X {package}.{name}={value}");
        }
    }
    flags
}

/// A workspace of Go's.
struct Go {
    path: PathBuf,
    source: PathBuf,
}

impl Go {
    /// The patched source with a library that works.
    fn unpack(&self, dir: &Path) -> Result<()> {
        let ready = self.source.join(".ready");
        if ready.exists() {
            return Ok(());
        }
        fs::create_dir_all(self.source.parent().context("a path of several parts")?)?;
        eprintln!("lab: fetching the source of Kubernetes");
        Debian::open(dir.join("apt"))?.unpack_source("kubernetes", &self.source)?;
        let own = self.source.join("vendor/github.com/modern-go/reflect2");
        let code = |path: &Path| path.extension().is_some_and(|e| e == "go" || e == "s");
        for old in files(&own)?.into_iter().filter(|path| code(path)) {
            fs::remove_file(old)?;
        }
        for good in files(Path::new(REFLECT2))?.into_iter().filter(|path| code(path)) {
            fs::copy(&good, own.join(good.file_name().unwrap_or_default()))?;
        }
        fs::write(ready, "").context("cannot mark the source as whole")
    }

    /// Generates the API's definitions.
    fn define(&self) -> Result<()> {
        let to = self.source.join(DEFINITIONS);
        if to.exists() {
            return Ok(());
        }
        let tools = self.path.join("bin");
        fs::create_dir_all(&tools)?;
        self.build(&tools, &[], "./vendor/k8s.io/kube-openapi/cmd/openapi-gen")?;
        let packages = self.marked()?.into_iter().collect::<Vec<_>>().join(",");
        // Under another name until it is whole.
        let name = "zz_new.openapi";
        let mut command = self.command(&tools.join("openapi-gen"));
        command.args(["-i", &packages, "-p", "k8s.io/kubernetes/pkg/generated/openapi", "-O", name]);
        command.args(["-h", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt", "-r"]);
        command.arg(self.path.join("violations"));
        system::run(command, b"", BUILD)?.ok().context("cannot generate the API's definitions")?;
        fs::rename(to.with_file_name(format!("{name}.go")), &to).context("no definitions were generated")
    }

    /// The packages whose sources ask for definitions.
    fn marked(&self) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        let mut left: Vec<_> = MARKED.iter().map(|below| self.source.join(below)).collect();
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
                let entry = entry?;
                let (path, kind) = (entry.path(), entry.file_type()?);
                let shown = path.to_string_lossy();
                if kind.is_dir() {
                    left.push(path);
                } else if kind.is_file()
                    && shown.ends_with(".go")
                    && !UNMARKED.iter().any(|word| shown.contains(word))
                    && String::from_utf8_lossy(&fs::read(&path)?).contains(MARK)
                {
                    found.insert(package(dir.strip_prefix(&self.source)?));
                }
            }
        }
        ensure!(!found.is_empty(), "no source in {} asks for definitions", self.source.display());
        Ok(found)
    }

    fn build(&self, to: &Path, options: &[&str], package: &str) -> Result<()> {
        let mut command = self.command(Path::new(GO));
        command.args(["build", "-p", "2"]).args(options).arg("-o");
        command.arg(format!("{}/", to.display())).arg(package);
        system::run(command, b"", BUILD)?.ok().with_context(|| format!("cannot build {package}"))?;
        Ok(())
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = system::program(program);
        command.current_dir(&self.source);
        command.env("GOPATH", &self.path).env("GOCACHE", self.path.join("cache"));
        // Static programs, and no module system: everything is in the source package.
        command.env("GO111MODULE", "off").env("GOFLAGS", "").env("CGO_ENABLED", "0");
        command
    }
}

/// The name of the package in a folder of the source: staged ones go by where they are linked to.
fn package(dir: &Path) -> String {
    let dir = dir.to_string_lossy();
    match dir.strip_prefix("staging/src/") {
        Some(staged) => format!("k8s.io/kubernetes/vendor/{staged}"),
        None => format!("k8s.io/kubernetes/{dir}"),
    }
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staged_packages_go_by_their_links() {
        for (dir, name) in [
            ("pkg/apis/core/v1", "k8s.io/kubernetes/pkg/apis/core/v1"),
            ("staging/src/k8s.io/api/core/v1", "k8s.io/kubernetes/vendor/k8s.io/api/core/v1"),
        ] {
            assert_eq!(package(Path::new(dir)), name);
        }
    }

    #[test]
    fn both_libraries_get_the_version() {
        let flags = linking(Version::Second);
        assert_eq!(flags.matches(".gitVersion=v1.20.3").count(), 2, "{flags}");
    }
}
