//! One package that has everything, and an enrolment file.

use bytes::Bytes;
use qb_package::{Arch, FileEntry, ForDeb, ForRpm, Format, PackageSpec, Vendor};
use std::path::Path;
use std::process::{Command, Output};

pub(crate) const FORMATS: [Format; 2] = [Format::Deb, Format::Rpm];

/// An enrolment file as far as this crate cares: bytes.
pub(crate) const ENROLL: &[u8] = b"{\"type\":\"site.enroll\",\"site\":\"qs-example\",\"seeds\":[]}\n";

/// Deterministic bytes that no compression makes smaller.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

fn script(line: &str) -> Option<String> {
    Some(format!("#!/bin/sh\nset -e\n{line}\n"))
}

/// A package with a program, configuration, documentation, links, directories and scripts. Paths
/// sort before and behind that of the site's file.
pub(crate) fn spec() -> PackageSpec {
    let config = FileEntry::file("/etc/example/example.toml", 0o644, *b"key = 1\n");
    let doc = FileEntry::file("/usr/share/doc/example/README", 0o644, *b"read me\n");
    PackageSpec {
        name: "example".into(),
        version: "1.2.3".into(),
        release: "1".into(),
        arch: Arch::X86_64,
        summary: "An example of a package".into(),
        description: "It has everything.\n\nAlso a second paragraph.".into(),
        license: "Apache-2.0".into(),
        maintainer: "Nobody <nobody@example.invalid>".into(),
        url: Some("https://example.invalid/".into()),
        deb: ForDeb {
            depends: vec!["libc6 (>= 2.28)".into()],
            recommends: vec!["systemd".into()],
            preinst: script("echo preinst"),
            postinst: script("echo postinst"),
            prerm: script("echo prerm"),
            postrm: script("echo postrm"),
            ..ForDeb::default()
        },
        rpm: ForRpm {
            depends: vec!["glibc >= 2.28".into()],
            recommends: vec!["systemd".into()],
            conflicts: vec!["example-old < 1".into()],
            pre: script("echo pre $1 >>/ran"),
            post: script("echo post $1 >>/ran"),
            preun: script("echo preun $1 >>/ran"),
            postun: script("echo postun $1 >>/ran"),
            posttrans: script("echo posttrans $1 >>/ran"),
        },
        files: vec![
            FileEntry::file("/usr/bin/example", 0o755, noise(100_000)),
            FileEntry::link("/usr/bin/also", "example"),
            FileEntry::dir("/usr/share/qb", 0o755),
            FileEntry::file("/usr/share/zzz/last", 0o600, *b"last\n"),
            FileEntry::file("/usr/share/empty", 0o644, *b""),
            FileEntry { config: true, ..config },
            FileEntry { doc: true, ..doc },
        ],
        source_date: 1_700_000_000,
    }
}

/// The package of a format, opened.
pub(crate) fn vendor(format: Format) -> Vendor {
    open(&spec(), format)
}

pub(crate) fn open(spec: &PackageSpec, format: Format) -> Vendor {
    Vendor::open(Bytes::from(spec.build(format).unwrap())).unwrap()
}

/// Runs a program in English and returns what it wrote; panics with its complaint if it fails.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = output(program, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}\n{out}{err}", output.status);
    out
}

/// Runs a program; panics with how to install it if it is missing.
pub(crate) fn output(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|why| panic!("{program}: {why}: run .ci/setup package, which installs it"))
}

/// Runs a program as root: as it is, or in a user namespace of its own.
pub(crate) fn run_as_root(program: &str, args: &[&str]) -> String {
    if run("id", &["-u"]).trim() == "0" {
        run(program, args)
    } else {
        run("unshare", &[&["--user", "--map-root-user", program], args].concat())
    }
}

/// A package and its variant for a site as files in a folder: their paths.
pub(crate) fn written(folder: &Path, format: Format) -> [String; 2] {
    let vendor = vendor(format);
    let site = vendor.with_site(ENROLL).unwrap();
    [("generic", vendor.bytes().to_vec()), ("site", site.to_vec())].map(|(name, bytes)| {
        let path = folder.join(format!("{name}.{}", format.name()));
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    })
}
