//! The program: files in, files out.

use crate::common::ENROLL;
use qb_package::{Vendor, digest};
use std::path::{Path, PathBuf};
use std::process::Command;

fn program(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_qb-package"))
        .args(args)
        .env_remove("SOURCE_DATE_EPOCH")
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text)
}

fn done(args: &[&str]) -> String {
    let (ok, text) = program(args);
    assert!(ok, "{args:?}: {text}");
    text
}

fn refused(args: &[&str]) -> String {
    let (ok, text) = program(args);
    assert!(!ok, "{args:?}: {text}");
    text
}

/// A folder with built programs and generated pages.
fn built() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for dir in ["bin", "gen"] {
        std::fs::create_dir(folder.path().join(dir)).unwrap();
    }
    std::fs::write(folder.path().join("bin/example"), [7; 3000]).unwrap();
    std::fs::write(folder.path().join("example-9.8.7.conf"), "key = 2\n").unwrap();
    std::fs::write(folder.path().join("gen/example.1"), ".TH EXAMPLE 1\n").unwrap();
    folder
}

fn build(folder: &Path, out: &str) -> PathBuf {
    let specs = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/package/example");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    done(&[
        "build",
        "--spec-dir",
        specs,
        "--bin",
        &path("bin"),
        "--gen",
        &path("gen"),
        "--out",
        &path(out),
        "--version",
        "9.8.7",
    ]);
    folder.join(out)
}

#[test]
fn packages_are_built_twice_the_same_with_their_sums() {
    let folder = built();
    let (first, second) = (build(folder.path(), "first"), build(folder.path(), "second"));
    let sums = std::fs::read_to_string(first.join("SHA256SUMS")).unwrap();
    assert_eq!(sums, std::fs::read_to_string(second.join("SHA256SUMS")).unwrap());
    let names: Vec<&str> = sums.lines().map(|line| &line[66..]).collect();
    assert_eq!(names, ["example-9.8.7-1.x86_64.rpm", "example_9.8.7-1_amd64.deb"]);
    for line in sums.lines() {
        let bytes = std::fs::read(first.join(&line[66..])).unwrap();
        assert_eq!(digest(&bytes), line[..64]);
        Vendor::open(bytes.into()).unwrap();
    }
}

#[test]
fn a_sites_package_is_made_and_verified() {
    let folder = built();
    let out = build(folder.path(), "out");
    let path = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let (vendor, enroll) = (path("example_9.8.7-1_amd64.deb"), path("site.enroll.json"));
    std::fs::write(&enroll, ENROLL).unwrap();
    let site = path("site.deb");
    let said = done(&["site", "--vendor", &vendor, "--enroll", &enroll, "--out", &site]);
    assert!(said.starts_with(&digest(&std::fs::read(&site).unwrap())), "{said}");
    let found = path("found.json");
    done(&["verify", &site, "--vendor", &vendor, "--enroll-out", &found]);
    assert_eq!(std::fs::read(found).unwrap(), ENROLL);

    let mut bytes = std::fs::read(&site).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&site, bytes).unwrap();
    let why = refused(&["verify", &site, "--vendor", &vendor]);
    assert!(why.contains("bytes "), "{why}");
    std::fs::write(&enroll, "").unwrap();
    let why = refused(&["site", "--vendor", &vendor, "--enroll", &enroll, "--out", &site]);
    assert!(why.contains("the enrolment file is empty"), "{why}");
}

#[test]
fn what_is_missing_is_named() {
    let folder = built();
    std::fs::remove_file(folder.path().join("bin/example")).unwrap();
    let specs = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/package/example");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let common = ["--bin", &path("bin"), "--gen", &path("gen"), "--out", &path("out")];
    let why = refused(&[&["build", "--spec-dir", specs], &common[..]].concat());
    assert!(why.contains("{bin}/example") && why.contains("No such file"), "{why}");
    let why = refused(&[&["build", "--spec-dir", &path("gen")], &common[..]].concat());
    assert!(why.contains("no description of a package"), "{why}");
    let why = refused(&[&["build", "--spec-dir", specs, "--arch", "vax"], &common[..]].concat());
    assert!(why.contains("one of amd64, arm64"), "{why}");
}
