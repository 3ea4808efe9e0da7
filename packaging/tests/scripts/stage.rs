//! Where a maintainer script plays: its paths lie in a temporary folder, its programs write down how they were
//! called.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What the system has around a script.
#[derive(Clone, Copy)]
pub(crate) struct System {
    /// Programs that are there, besides those of every system.
    pub has: &'static [&'static str],
    /// Whether systemd runs, and not only its files are there.
    pub runs: bool,
    /// Files that exist.
    pub files: &'static [&'static str],
    /// What `systemctl is-active` says.
    pub state: &'static str,
    /// Whether the administrator left the units enabled.
    pub enabled: bool,
    /// Whether the units' conditions held when they were last asked to start.
    pub condition: &'static str,
    /// Whether units can be started.
    pub starts: bool,
    /// Status of `qb-exec removal-check`; none if the program is missing.
    pub check: Option<i32>,
}

/// A Debian that runs.
pub(crate) const DEBIAN: &[&str] = &[
    "systemctl",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "userdel",
    "groupdel",
];
/// An RPM distribution that runs.
pub(crate) const REDHAT: &[&str] =
    &["systemctl", "systemd-sysusers", "systemd-tmpfiles", "userdel", "groupdel"];
/// An image without /proc: what makes users is there and fails.
pub(crate) const IMAGE: &[&str] = &["systemd-sysusers", "useradd", "groupadd"];
/// A system with nothing but its own users.
pub(crate) const BARE: &[&str] = &["useradd", "groupadd", "userdel", "groupdel"];

/// A running system on which nothing of qb ran before.
pub(crate) const FRESH: System = System {
    has: DEBIAN,
    runs: true,
    files: &["/usr/share/qb/site.enroll.json"],
    state: "inactive",
    enabled: true,
    condition: "no",
    starts: true,
    check: Some(0),
};

/// Folders that scripts name; nothing outside of them is theirs.
const FOLDERS: [&str; 4] = ["/etc/", "/run/", "/usr/", "/var/"];
/// What else they name.
const WORDS: [&str; 3] = ["/dev/null", "/usr/sbin/nologin", "/sbin/nologin"];
/// Questions, which change nothing.
const QUESTIONS: [&str; 4] = ["is-active", "is-enabled", "was-enabled", "show"];

/// A stage with one script on it.
pub(crate) struct Stage {
    root: TempDir,
    script: PathBuf,
}

/// How a script ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub status: i32,
    pub said: String,
    /// Calls that change something, in order.
    pub calls: Vec<String>,
}

impl Stage {
    pub(crate) fn new(script: &str, system: &System) -> Self {
        let root = TempDir::new().unwrap();
        let stage = Self { script: root.path().join("script"), root };
        let text =
            fs::read_to_string(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts")).join(script));
        fs::write(&stage.script, stage.moved(&text.unwrap())).unwrap();
        fs::create_dir_all(stage.root.path().join("bin")).unwrap();
        for program in ["rm", "rmdir", "ls"] {
            symlink(Path::new("/bin").join(program), stage.root.path().join("bin").join(program)).unwrap();
        }
        for program in system.has {
            stage.program(&format!("/bin/{program}"), &answer(program, system));
        }
        stage.program("/bin/getent", if system.has.contains(&"useradd") { "exit 2" } else { "exit 0" });
        if let Some(status) = system.check {
            let body = format!("[ {status} = 0 ] || echo 'this machine carries clus100' >&2; exit {status}");
            stage.program("/usr/lib/qb/qb-exec", &body);
        }
        if system.runs {
            fs::create_dir_all(stage.at("/run/systemd/system")).unwrap();
        }
        for file in system.files {
            stage.file(file);
        }
        stage
    }

    /// Where a path of the system lies.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn run(&self, shell: &str, args: &[&str]) -> Ended {
        let _ = fs::remove_file(self.at("calls"));
        let out = Command::new(shell)
            .arg(&self.script)
            .args(args)
            .env_clear()
            .env("PATH", self.at("bin"))
            .output()
            .unwrap_or_else(|e| panic!("{shell} does not run: {e}"));
        let root = self.root.path().display().to_string();
        let calls = fs::read_to_string(self.at("calls")).unwrap_or_default();
        Ended {
            status: out.status.code().unwrap_or(-1),
            said: String::from_utf8_lossy(&out.stderr).into_owned(),
            calls: calls
                .lines()
                .filter(|line| !line.split(' ').any(|word| QUESTIONS.contains(&word)))
                .map(|line| line.replace(&root, ""))
                .collect(),
        }
    }

    fn file(&self, path: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), "x").unwrap();
    }

    fn program(&self, path: &str, body: &str) {
        let (name, calls) = (path.rsplit('/').next().unwrap(), self.at("calls"));
        self.file(path);
        let text = format!("#!/bin/sh\necho \"{name} $*\" >>{}\n{body}\n", calls.display());
        fs::write(self.at(path), text).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The script with its paths on the stage. Fails on a path that would lead off it.
    fn moved(&self, text: &str) -> String {
        let mut out = String::new();
        for line in text.lines() {
            let mut rest = if line.trim_start().starts_with('#') { "" } else { line };
            while let Some(at) = rest.find('/') {
                let (before, path) = rest.split_at(at);
                out.push_str(before);
                let inside = before.ends_with(|c: char| c.is_alphanumeric() || c == '$' || c == '*');
                let word = WORDS.iter().find(|word| path.starts_with(**word));
                assert!(
                    inside || word.is_some() || FOLDERS.iter().any(|folder| path.starts_with(folder)),
                    "a path off the stage: {line}"
                );
                if !inside && word.is_none() {
                    out.push_str(&self.root.path().display().to_string());
                }
                let end = word.map_or_else(
                    || {
                        path.find(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)))
                            .unwrap_or(path.len())
                    },
                    |word| word.len(),
                );
                out.push_str(&path[..end]);
                rest = &path[end..];
            }
            out.push_str(rest);
            out.push('\n');
        }
        out
    }
}

fn answer(program: &str, system: &System) -> String {
    let yes = |good: bool| if good { "exit 0" } else { "exit 1" };
    match program {
        "systemctl" => format!(
            "case \"$*\" in\n*is-active*) echo {}; exit 3 ;;\n*is-enabled*) {} ;;\nshow*) echo {} ;;\nstart* | restart*) {} ;;\nesac",
            system.state,
            yes(system.enabled),
            system.condition,
            yes(system.starts),
        ),
        "deb-systemd-helper" => format!("case \"$*\" in *was-enabled*) {} ;; esac", yes(system.enabled)),
        "deb-systemd-invoke" => format!("case \"$1\" in start | restart) {} ;; esac", yes(system.starts)),
        "systemd-sysusers" => yes(!system.has.contains(&"useradd")).to_owned(),
        _ => "exit 0".to_owned(),
    }
}
