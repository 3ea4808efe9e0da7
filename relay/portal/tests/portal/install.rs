//! The line that installs, as a shell takes it: run by a real one, with programs that only say what they
//! were called with.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use qb_portal::install::{Line, line};
use sha2::{Digest as _, Sha256};

const SITE: &str = "qb1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const WORDS: &str = "amber river north copper lantern oak";

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn made(deb: &str, rpm: &str, cacert: Option<&str>) -> String {
    line(&Line { relay: "https://relay.example", site: SITE, words: WORDS, deb, rpm, cacert }).unwrap()
}

/// A folder of programs: these few of the system's, and others that write down how they were called.
fn programs(dir: &Path, fake: &[(&str, &str)]) {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in ["mktemp", "rm", "chmod", "sha256sum", "sh", "cp", "cat"] {
        let found = ["/usr/bin", "/bin"].map(|at| Path::new(at).join(name));
        symlink(found.iter().find(|p| p.exists()).unwrap(), bin.join(name)).unwrap();
    }
    for (name, body) in fake {
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn run(dir: &Path, line: &str) -> Output {
    Command::new("/bin/sh")
        .args(["-c", line])
        .env_clear()
        .env("PATH", dir.join("bin"))
        .env("DIR", dir)
        .output()
        .unwrap()
}

fn called(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("called")).unwrap_or_default()
}

/// Says the last words after `-o` or `-O` and writes the package there.
const LOAD: &str = "echo \"${0##*/} $*\" >>$DIR/called; while [ $# -gt 1 ]; do case $1 in -o|-O) \
    printf '%s' \"the package\" >$2;; esac; shift; done";
const SAY: &str = "echo \"${0##*/} $*\" >>$DIR/called";
const X86: (&str, &str) = ("uname", "echo x86_64");

#[test]
fn it_is_one_line_that_says_where_from_and_what() {
    let line = made("aa", "bb", None);
    assert!(!line.contains('\n') && line.starts_with("sh -c '") && line.ends_with('\''));
    assert_eq!(line.matches('\'').count(), 2, "{line}");
    assert!(line.len() < 1_400, "{}: {line}", line.len());
    assert!(
        line.contains(&format!("https://relay.example/packages/{SITE}")) && line.contains(WORDS),
        "{line}"
    );
}

/// Programs that are found, by name, with what they do.
type Programs<'a> = &'a [(&'a str, &'a str)];

#[test]
fn each_system_gets_its_own_package_by_its_own_program() {
    let digest = hex(b"the package");
    let sudo = ("sudo", "echo sudo >>$DIR/called; \"$@\"");
    let (user, root) = (("id", "echo 1000"), ("id", "echo 0"));
    let cases: [(Programs, &str, &str, bool); 4] = [
        (&[("apt-get", SAY), ("curl", LOAD), user, sudo], "deb", "apt-get -y install --reinstall", true),
        (&[("dnf", SAY), ("curl", LOAD), root], "rpm", "dnf -y install", false),
        (&[("zypper", SAY), ("wget", LOAD), root], "rpm", "zypper -n install --allow-unsigned-rpm", false),
        (
            &[("apt-get", SAY), ("dnf", SAY), ("curl", LOAD), root],
            "deb",
            "apt-get -y install --reinstall",
            false,
        ),
    ];
    for (fake, format, by, asked) in cases {
        let dir = tempfile::tempdir().unwrap();
        programs(dir.path(), &[fake, &[X86]].concat());
        let wrong = "0".repeat(64);
        let line = if format == "deb" { made(&digest, &wrong, None) } else { made(&wrong, &digest, None) };
        let ran = run(dir.path(), &line);
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{line}\n{out}{err}");
        let called = called(dir.path());
        let url = format!("https://relay.example/packages/{SITE}/qb-agent.{format}");
        assert!(called.lines().next().unwrap().ends_with(&url), "{called}");
        assert!(called.contains(by) && called.contains("sudo") == asked, "{called}");
        assert!(out.contains(WORDS), "{out}");
        let left = called.split("/tmp/").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
        assert!(!Path::new("/tmp").join(left).exists(), "the folder is gone");
    }
}

#[test]
fn nothing_is_installed_that_is_not_what_the_line_names() {
    let digest = hex(b"the package");
    let fakes: [(&str, Programs, &str); 3] = [
        (
            "another package",
            &[("apt-get", SAY), ("curl", LOAD), ("id", "echo 0"), X86],
            "make the line again",
        ),
        ("no download", &[("apt-get", SAY), ("curl", "exit 22"), ("id", "echo 0"), X86], ""),
        (
            "another machine",
            &[("apt-get", SAY), ("curl", LOAD), ("id", "echo 0"), ("uname", "echo aarch64")],
            "no x86_64",
        ),
    ];
    for (what, fake, says) in fakes {
        let dir = tempfile::tempdir().unwrap();
        programs(dir.path(), fake);
        let deb = if what == "another package" { hex(b"another") } else { digest.clone() };
        let ran = run(dir.path(), &made(&deb, &digest, None));
        assert!(!ran.status.success(), "{what}");
        assert!(String::from_utf8_lossy(&ran.stderr).contains(says), "{what}: {ran:?}");
        assert!(!called(dir.path()).contains("install"), "{what}");
    }
}

#[test]
fn issuers_go_to_whatever_downloads() {
    let digest = hex(b"the package");
    for (program, flag) in [("curl", "--cacert /etc/qb/ca.crt"), ("wget", "--ca-certificate=/etc/qb/ca.crt")]
    {
        let dir = tempfile::tempdir().unwrap();
        programs(dir.path(), &[("apt-get", SAY), (program, LOAD), ("id", "echo 0"), X86]);
        let ran = run(dir.path(), &made(&digest, &digest, Some("/etc/qb/ca.crt")));
        assert!(ran.status.success(), "{ran:?}");
        assert!(called(dir.path()).contains(flag), "{}", called(dir.path()));
    }
}

#[test]
fn what_a_shell_would_understand_gets_into_no_line() {
    let good = Line {
        relay: "https://[::1]:8480",
        site: SITE,
        words: WORDS,
        deb: "aa",
        rpm: "bb",
        cacert: Some("/etc/ca.crt"),
    };
    assert!(line(&good).is_ok());
    for bad in ["", "a'b", "a\"b", "$(x)", "a`b", "a\\b", "a\nb", "a;b", "a b", "a&b", "-x", "a#b", "é"] {
        let each = [
            Line { relay: bad, ..good },
            Line { site: bad, ..good },
            Line { deb: bad, ..good },
            Line { rpm: bad, ..good },
            Line { cacert: Some(bad), ..good },
        ];
        each.iter().for_each(|of| assert!(line(of).is_err(), "{bad:?}"));
        let words = Line { words: bad, ..good };
        assert_eq!(line(&words).is_ok(), bad == "a b", "{bad:?}");
    }
}
