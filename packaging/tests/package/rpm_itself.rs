//! rpm's own opinion of our rpms.

use crate::common::{ENROLL, noise, output, run, run_as_root, written};
use qb_package::Format;
use std::path::Path;

#[test]
fn rpm_reads_both_packages() {
    let folder = tempfile::tempdir().unwrap();
    let [generic, site] = written(folder.path(), Format::Rpm);
    let list = |package: &str| -> Vec<String> {
        run("rpm", &["-qp", "--list", package]).lines().map(str::to_owned).collect()
    };
    for package in [&generic, &site] {
        let checked = run("rpm", &["-K", "--verbose", "--nosignature", package]);
        for digest in ["Header SHA256 digest: OK", "Header SHA1 digest: OK", "Payload SHA256 digest: OK"] {
            assert!(checked.contains(digest), "{checked}");
        }
        let info = run("rpm", &["-qp", "--info", package]);
        for line in ["Name        : example", "Version     : 1.2.3", "Summary     : An example of a package"]
        {
            assert!(info.contains(line), "{info}");
        }
        let scripts = run("rpm", &["-qp", "--scripts", package]);
        for script in ["preinstall", "postinstall", "preuninstall", "postuninstall", "posttrans"] {
            assert!(scripts.contains(&format!("{script} scriptlet (using /bin/sh)")), "{scripts}");
        }
        assert_eq!(run("rpm", &["-qp", "--configfiles", package]), "/etc/example/example.toml\n");
        assert_eq!(run("rpm", &["-qp", "--docfiles", package]), "/usr/share/doc/example/README\n");
        let requires = run("rpm", &["-qp", "--requires", package]);
        assert!(requires.contains("glibc >= 2.28\n") && requires.contains("/bin/sh\n"), "{requires}");
    }
    let (before, mut after) = (list(&generic), list(&site));
    after.retain(|path| path != "/usr/share/qb/site.enroll.json");
    assert_eq!(after, before);
    assert!(list(&site).is_sorted());
    // The payload alone, as other tools read it.
    let archive = output("rpm2cpio", &[&site]);
    assert!(archive.status.success());
    let text = String::from_utf8_lossy(&archive.stdout).into_owned();
    assert!(text.contains("./usr/share/qb/site.enroll.json") && text.contains("TRAILER!!!"));
}

#[test]
fn rpm_installs_verifies_and_erases_a_sites_package() {
    let folder = tempfile::tempdir().unwrap();
    let [generic, site] = written(folder.path(), Format::Rpm);
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("var/lib/rpm")).unwrap();
    let at = root.to_str().unwrap().to_owned();
    let rpm =
        |args: &[&str]| run_as_root("rpm", &[&["--root", &at, "--dbpath", "/var/lib/rpm"], args].concat());
    rpm(&["--initdb"]);
    shell(&root);
    rpm(&["-i", "--nodeps", &generic]);
    assert!(!root.join("usr/share/qb/site.enroll.json").exists());
    assert_eq!(ran(&root), ["pre 1", "post 1", "posttrans 1"]);
    rpm(&["-U", "--nodeps", "--replacepkgs", &site]);
    assert_eq!(std::fs::read(root.join("usr/share/qb/site.enroll.json")).unwrap(), ENROLL);
    assert_eq!(std::fs::read(root.join("usr/bin/example")).unwrap(), noise(100_000));
    assert_eq!(std::fs::read_link(root.join("usr/bin/also")).unwrap(), Path::new("example"));
    assert_eq!(rpm(&["-V", "--nodeps", "example"]), "");
    assert_eq!(rpm(&["-qf", "/usr/share/qb/site.enroll.json"]), "example-1.2.3-1.x86_64\n");
    rpm(&["-e", "--nodeps", "example"]);
    assert_eq!(
        ran(&root)[3..],
        ["pre 2", "post 2", "preun 1", "postun 1", "posttrans 2", "preun 0", "postun 0"]
    );
    for left in ["usr/bin/example", "usr/share/qb", "etc/example/example.toml"] {
        assert!(!root.join(left).exists(), "{left}");
    }
}

/// Puts the system's shell and its libraries into a root, for the scripts.
fn shell(root: &Path) {
    let needs = run("ldd", &["/bin/sh"]);
    let libraries = needs.split_whitespace().filter(|word| word.starts_with('/'));
    for path in std::iter::once("/bin/sh").chain(libraries) {
        let to = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(path, to).unwrap();
    }
}

/// What the scripts wrote, with the number that rpm gave each.
fn ran(root: &Path) -> Vec<String> {
    std::fs::read_to_string(root.join("ran")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn rpm_refuses_a_damaged_package() {
    let folder = tempfile::tempdir().unwrap();
    let [_, site] = written(folder.path(), Format::Rpm);
    let good = std::fs::read(&site).unwrap();
    for at in [good.len() - 40, good.len() / 2, 2000] {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        std::fs::write(&site, damaged).unwrap();
        assert!(!output("rpm", &["-K", "--nosignature", &site]).status.success(), "byte {at}");
    }
}
