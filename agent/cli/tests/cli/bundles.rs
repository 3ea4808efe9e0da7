//! Bundles of real clusters, from a folder or from pinned sources, through the site and back.

use std::path::{Path, PathBuf};

use crate::door::Lab;

const PROGRAMS: [&str; 12] = [
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

fn elf(machine: u16, name: &str) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend_from_slice(&3u16.to_le_bytes());
    file.extend_from_slice(&machine.to_le_bytes());
    file.extend(name.bytes().cycle().take(200_000));
    file
}

fn write(path: PathBuf, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A folder that is laid out as it should be.
fn tree(at: &Path) {
    for program in PROGRAMS {
        write(at.join(program), &elf(62, program));
    }
    write(at.join("images/pause.tar"), &vec![7; 3 << 20]);
    write(at.join("manifests/dns.yaml"), b"kind: List\n");
}

#[test]
fn a_folder_becomes_a_bundle_that_goes_to_the_site_and_comes_back() {
    let lab = Lab::new(1);
    let home = lab.folder.path();
    tree(&home.join("files"));
    let build = [
        "bundle",
        "build",
        "--driver",
        "kubeadm",
        "--version",
        "v1.36.2",
        "--from",
        "files",
        "-o",
        "k8s.qbb",
    ];
    let ran = lab.qb(&build);
    assert_eq!(ran.code, 0, "{ran:?}");
    let digest = ran.out.trim().to_owned();
    assert!(ran.err.contains("qb bundle push k8s.qbb"), "{}", ran.err);
    let ran = lab.qb(&["bundle", "verify", "k8s.qbb"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains(&digest) && ran.out.contains("x86_64") && ran.out.contains("14 artifacts"),
        "{}",
        ran.out
    );

    // Nobody accepted its publisher yet.
    let ran = lab.qb(&["bundle", "push", "k8s.qbb"]);
    assert!(ran.code != 0 && ran.err.contains("no publisher that this site trusts"), "{ran:?}");
    assert_eq!(lab.qb(&["node", "authorize", "--waiting", "-y"]).code, 0);
    let key = lab.qb(&["key", "export-public", "lyon-publisher"]).out;
    assert_eq!(lab.qb(&["bundle", "trust", "acme", key.trim(), "-y"]).code, 0);
    let ran = lab.qb(&["bundle", "push", "k8s.qbb"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = lab.qb(&["bundle", "export", &digest[..8], "-o", "stick.qbb"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let read = |name: &str| std::fs::read(home.join(name)).unwrap();
    assert!(read("stick.qbb") == read("k8s.qbb"));

    // A byte that changed on the stick, and another publisher.
    let mut damaged = read("stick.qbb");
    let at = damaged.len() - 1_000_000;
    damaged[at] ^= 1;
    std::fs::write(home.join("stick.qbb"), damaged).unwrap();
    let ran = lab.qb(&["bundle", "verify", "stick.qbb"]);
    assert!(ran.code != 0 && ran.err.contains("hunk"), "{ran:?}");
    let other = lab.qb(&["key", "export-public"]).out;
    let ran = lab.qb(&["bundle", "verify", "k8s.qbb", "--publisher", other.trim()]);
    assert!(ran.code != 0 && ran.err.contains("publisher"), "{ran:?}");
}

#[test]
fn what_a_folder_lacks_is_named() {
    let lab = Lab::new(1);
    let files = lab.folder.path().join("files");
    let build = ["bundle", "build", "--driver", "kubeadm", "--version", "v1.36.2", "--from", "files"];
    tree(&files);
    std::fs::remove_file(files.join("bin/runc")).unwrap();
    std::fs::remove_file(files.join("images/pause.tar")).unwrap();
    let ran = lab.qb(&build);
    assert!(ran.code == 2 && ran.err.contains("lacks bin/runc, images/*.tar"), "{ran:?}");
    tree(&files);
    write(files.join("bin/runc"), &elf(183, "runc"));
    let ran = lab.qb(&build);
    assert!(ran.code == 2 && ran.err.contains("one architecture"), "{ran:?}");
    write(files.join("bin/runc"), b"neither");
    assert!(lab.qb(&build).err.contains("no ELF file"));
    assert!(!lab.folder.path().join("kubeadm-1.36.2.qbb").exists());
    let ran = lab.qb(&["bundle", "build", "--driver", "kubeadm"]);
    assert!(ran.code == 2 && ran.err.contains("Which version"), "{ran:?}");
}

#[test]
fn sources_are_taken_with_pinned_digests_only() {
    use sha2::{Digest as _, Sha256};
    let lab = Lab::new(1);
    let home = lab.folder.path();
    tree(&home.join("up"));
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let list = |wrong: Option<&str>| {
        let mut text = "version = \"1.36.2\"\n".to_owned();
        for place in PROGRAMS.into_iter().chain(["images/pause.tar"]) {
            let pinned = hex(&std::fs::read(home.join("up").join(place)).unwrap());
            let pinned = if wrong == Some(place) { "00".repeat(32) } else { pinned };
            text +=
                &format!("[[source]]\nurl = \"up/{place}\"\nsha256 = \"{pinned}\"\nplace = \"{place}\"\n");
        }
        std::fs::write(home.join("list.toml"), text).unwrap();
    };
    let build = ["bundle", "build", "--driver", "kubeadm", "--version", "v1.36.2", "--sources", "list.toml"];
    list(None);
    let ran = lab.qb(&build);
    assert_eq!(ran.code, 0, "{ran:?}");
    list(Some("bin/kubelet"));
    let ran = lab.qb(&build);
    assert!(ran.code != 0 && ran.err.contains("up/bin/kubelet is not what the list pins"), "{ran:?}");
    // The example that comes with qb pins nothing: that is for the admin to do.
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/bundles/kubeadm-1.36.toml");
    std::fs::copy(example, home.join("list.toml")).unwrap();
    let ran = lab.qb(&build);
    assert!(ran.code == 2 && ran.err.contains("pins no digest"), "{ran:?}");
}
