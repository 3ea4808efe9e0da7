//! dpkg's own opinion of our debs.

use crate::common::{ENROLL, run, run_as_root, written};
use qb_package::Format;
use std::path::Path;

#[test]
fn dpkg_deb_reads_both_packages() {
    let folder = tempfile::tempdir().unwrap();
    let [generic, site] = written(folder.path(), Format::Deb);
    for package in [&generic, &site] {
        let fields = run("dpkg-deb", &["--field", package, "Package", "Version", "Architecture"]);
        assert_eq!(fields, "Package: example\nVersion: 1.2.3-1\nArchitecture: amd64\n");
        assert!(run("dpkg-deb", &["--info", package]).contains("An example of a package"));
    }
    let list = |package: &str| -> Vec<String> {
        run("dpkg-deb", &["--contents", package]).lines().map(str::to_owned).collect()
    };
    let (before, after) = (list(&generic), list(&site));
    assert_eq!(after[..before.len()], before[..]);
    let [more] = &after[before.len()..] else { panic!("{after:?}") };
    assert!(
        more.starts_with("-rw-r--r-- root/root") && more.ends_with("./usr/share/qb/site.enroll.json"),
        "{more}"
    );
}

#[test]
fn dpkg_installs_verifies_and_removes_a_sites_package() {
    let folder = tempfile::tempdir().unwrap();
    let [_, site] = written(folder.path(), Format::Deb);
    let unpacked = folder.path().join("unpacked");
    run("dpkg-deb", &["--extract", &site, unpacked.to_str().unwrap()]);
    installed(&unpacked);

    let root = folder.path().join("root");
    for dir in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let at = format!("--root={}", root.display());
    // The root has no shell: scripts run outside of it.
    let quiet = ["--force-depends", "--force-script-chrootless", "--force-not-root", &at];
    run_as_root("dpkg", &[&quiet[..], &["--install", &site]].concat());
    installed(&root);
    assert_eq!(run_as_root("dpkg", &[&at, "--verify", "example"]), "");
    std::fs::write(root.join("usr/share/qb/site.enroll.json"), "changed").unwrap();
    assert!(run_as_root("dpkg", &[&at, "--verify", "example"]).contains("/usr/share/qb/site.enroll.json"));
    run_as_root("dpkg", &[&quiet[..], &["--purge", "example"]].concat());
    assert!(!root.join("usr").exists() && !root.join("etc").exists(), "purge leaves nothing");
}

fn installed(root: &Path) {
    assert_eq!(std::fs::read(root.join("usr/share/qb/site.enroll.json")).unwrap(), ENROLL);
    assert_eq!(std::fs::read(root.join("usr/bin/example")).unwrap(), crate::common::noise(100_000));
    assert_eq!(std::fs::read_link(root.join("usr/bin/also")).unwrap(), Path::new("example"));
    assert_eq!(std::fs::read(root.join("etc/example/example.toml")).unwrap(), b"key = 1\n");
}
