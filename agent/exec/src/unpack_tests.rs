#![allow(clippy::unwrap_used)]

use qb_drivers::bundle::{ArtifactKind, CHUNK_BYTES, Label, Place, Tally};
use qb_model::dsse::{SecretKey, Signer as _};

use super::*;

/// A bundle of these artifacts, each with what it says to unpack to.
fn bundle_of(artifacts: &[(ArtifactKind, Vec<u8>, u64)]) -> Bundle {
    let (mut tally, mut bytes) = (Tally::default(), Vec::new());
    for (n, (kind, content, unpacked)) in artifacts.iter().enumerate() {
        let name = format!("part-{n}").parse().unwrap();
        tally.add(name, kind.clone(), Some(*unpacked), &mut content.as_slice()).unwrap();
        bytes.extend_from_slice(content);
    }
    let label = Label {
        name: "kubeadm".parse().unwrap(),
        driver: "kubeadm".parse().unwrap(),
        version: "1.36.2".parse().unwrap(),
        channel: "stable".parse().unwrap(),
        arch: "any".to_owned(),
        created_ms: qb_model::ids::Millis(1),
        min_agent: "0.1.0".parse().unwrap(),
    };
    let key = SecretKey::from_bytes(&[5; 32]);
    let unsigned = tally.finish(label).unwrap();
    let mut file = unsigned.sign(&[&key]);
    file.extend_from_slice(&bytes);
    let digest = qb_drivers::bundle::manifest_digest(&unsigned.manifest);
    Bundle::open(crate::file_of(&file).unwrap(), &[key.public_key()], &digest).unwrap()
}

/// A verified bundle whose only artifact is this archive.
fn bundle(archive: &[u8], unpacked: u64) -> Bundle {
    bundle_of(&[(ArtifactKind::Tar, archive.to_vec(), unpacked)])
}

/// One entry, its name written as raw bytes, since the builder refuses what is to be refused here.
fn entry(out: &mut Vec<u8>, name: &[u8], kind: tar::EntryType, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    if !matches!(kind, tar::EntryType::Regular | tar::EntryType::Directory) {
        header.as_mut_bytes()[157..157 + 11].copy_from_slice(b"/etc/passwd");
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn archive_of(entries: &[(&[u8], tar::EntryType, u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, mode, content) in entries {
        entry(&mut out, name, *kind, *mode, content);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn plain(path: &str, content: &[u8], executable: bool) -> (ArtifactKind, Vec<u8>, u64) {
    let place = Place { path: path.parse().unwrap(), executable };
    (ArtifactKind::File(place), content.to_vec(), content.len() as u64)
}

#[test]
fn files_and_archives_unpack_again_and_again_into_one_tree() {
    let archive = archive_of(&[
        (b"manifests/", tar::EntryType::Directory, 0o700, b""),
        (b"manifests/dns.yaml", tar::EntryType::Regular, 0o640, b"kind: List"),
    ]);
    // Over several chunks, and not a whole number of them.
    let image: Vec<u8> = (0..CHUNK_BYTES * 2 + 77).map(|n| (n % 251) as u8).collect();
    let bundle = bundle_of(&[
        plain("bin/kubelet", b"program", true),
        (ArtifactKind::Tar, archive.clone(), archive.len() as u64),
        plain("images/pause.tar", &image, false),
        plain("VERSION", b"1.36.2", false),
    ]);
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    let into: RelPath = "bundle".parse().unwrap();
    for _ in 0..2 {
        unpack(&dir, &into, &bundle).unwrap();
        // The tree, and its head.
        assert_eq!(dir.sub(&into).unwrap().names().unwrap().len(), 2);
    }
    let tree = dir.sub(&into.join(&directory_name(&bundle.head().digest())).unwrap()).unwrap();
    let at = |path: &str| path.parse::<RelPath>().unwrap();
    let read = |path: &str| tree.read(&at(path), 4 << 20).unwrap().unwrap();
    let mode = |path: &str| tree.mode(&at(path)).unwrap().unwrap();
    assert_eq!((read("bin/kubelet"), mode("bin/kubelet")), (b"program".to_vec(), 0o755));
    assert_eq!((read("manifests/dns.yaml"), mode("manifests/dns.yaml")), (b"kind: List".to_vec(), 0o644));
    assert_eq!(read("images/pause.tar"), image);
    for (folder, want) in [("bin", 0o755), ("manifests", 0o755), ("images", 0o755)] {
        assert_eq!(mode(folder), want, "{folder}");
    }
}

#[test]
fn places_that_clash_are_refused_and_leave_nothing() {
    let archive = |name: &[u8]| {
        let archive = archive_of(&[(name, tar::EntryType::Regular, 0o644, b"x")]);
        let size = archive.len() as u64;
        (ArtifactKind::Tar, archive, size)
    };
    let many: Vec<String> = (0..=ENTRIES).map(|n| format!("f{n}")).collect();
    let many: Vec<(&[u8], tar::EntryType, u32, &[u8])> =
        many.iter().map(|n| (n.as_bytes(), tar::EntryType::Regular, 0o644, &b""[..])).collect();
    let many = archive_of(&many);
    let size = many.len() as u64;
    let cases = [
        ("over a file", vec![plain("bin/a", b"x", true), archive(b"bin/a")]),
        ("over a file in other letters", vec![plain("bin/a", b"x", true), archive(b"BIN/a")]),
        ("below a file", vec![plain("bin", b"x", true), archive(b"bin/a")]),
        ("two archives", vec![archive(b"a"), archive(b"A")]),
        ("too many", vec![(ArtifactKind::Tar, many, size)]),
        ("an agent's program", vec![(ArtifactKind::Program, b"x".to_vec(), 1)]),
    ];
    for (what, artifacts) in cases {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let into: RelPath = "bundle".parse().unwrap();
        let result = unpack(&dir, &into, &bundle_of(&artifacts));
        assert!(matches!(result, Err(UnpackError::Entry { .. })), "{what}: {result:?}");
        assert_eq!(dir.sub(&into).unwrap().names().unwrap(), [], "{what}");
    }
}

#[test]
fn a_file_that_changes_under_the_reader_is_refused() {
    use std::os::unix::fs::FileExt as _;
    let bundle = bundle_of(&[plain("bin/kubelet", &vec![7; CHUNK_BYTES + 1], true)]);
    bundle.file().write_all_at(b"!", bundle.head().file_size() - 1).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    let into: RelPath = "bundle".parse().unwrap();
    let why = unpack(&dir, &into, &bundle).unwrap_err().to_string();
    assert!(why.contains("chunk 1 of the bundle"), "{why}");
    assert_eq!(dir.sub(&into).unwrap().names().unwrap(), []);
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    use tar::EntryType as T;
    let big = [0u8; 600];
    let cases: [(&str, Vec<u8>); 14] = [
        ("parent", archive_of(&[(b"../x", T::Regular, 0o644, b"x")])),
        ("inner parent", archive_of(&[(b"a/../../x", T::Regular, 0o644, b"x")])),
        ("absolute", archive_of(&[(b"/etc/x", T::Regular, 0o644, b"x")])),
        ("dot", archive_of(&[(b"./x", T::Regular, 0o644, b"x")])),
        ("newline", archive_of(&[(b"a\nb", T::Regular, 0o644, b"x")])),
        ("symlink", archive_of(&[(b"x", T::Symlink, 0o644, b"")])),
        ("hard link", archive_of(&[(b"x", T::Link, 0o644, b"")])),
        ("device", archive_of(&[(b"x", T::Char, 0o644, b"")])),
        ("fifo", archive_of(&[(b"x", T::Fifo, 0o644, b"")])),
        ("long name", archive_of(&[(b"x", T::GNULongName, 0o644, b"../../x")])),
        ("pax", archive_of(&[(b"x", T::XHeader, 0o644, b"15 path=../../x")])),
        ("setuid", archive_of(&[(b"x", T::Regular, 0o4755, b"x")])),
        ("twice", archive_of(&[(b"x", T::Regular, 0o644, b"x"), (b"X", T::Regular, 0o644, b"x")])),
        ("too large", archive_of(&[(b"x", T::Regular, 0o644, &big)])),
    ];
    for (name, archive) in cases {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::create(&temp.path().join("node")).unwrap();
        let result = unpack(&dir, &"bundle".parse().unwrap(), &bundle(&archive, 512));
        assert!(matches!(result, Err(UnpackError::Entry { .. })), "{name}: {result:?}");
        assert_eq!(dir.sub(&"bundle".parse().unwrap()).unwrap().names().unwrap(), [], "{name}");
        let outside = std::fs::read_dir(temp.path()).unwrap().count();
        assert_eq!(outside, 1, "{name}");
    }
}

#[test]
fn a_header_that_lies_about_its_size_is_refused() {
    let mut archive = archive_of(&[(b"x", tar::EntryType::Regular, 0o644, b"x")]);
    // A size of 8 GiB in the header, nothing behind it.
    archive[124..136].copy_from_slice(b"100000000000");
    let mut header = tar::Header::from_byte_slice(&archive[..512]).clone();
    header.set_cksum();
    archive[..512].copy_from_slice(header.as_bytes());
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    assert!(unpack(&dir, &"bundle".parse().unwrap(), &bundle(&archive, 100 << 10)).is_err());
}
