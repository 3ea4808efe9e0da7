#![allow(clippy::unwrap_used)]

use qb_drivers::bundle::{assemble, verify_bundle};
use qb_model::dsse::{Purpose, SecretKey, Signer as _};
use qb_model::envelope::Envelope;
use qb_model::ids::{Digest, Millis};
use sha2::Digest as _;

use super::*;

/// A verified bundle whose only artifact is this archive.
fn bundle(archive: &[u8], unpacked: u64) -> VerifiedBundle<'static> {
    let (manifest, _) = qb_drivers::build_rehearsal_bundle(&"1.0.0".parse().unwrap(), Millis(1)).unwrap();
    let mut manifest: qb_drivers::bundle::Manifest = serde_json::from_slice(&manifest).unwrap();
    let artifact = &mut manifest.artifacts[0];
    artifact.sha256 = Digest(sha2::Sha256::digest(archive).into());
    (artifact.size, artifact.unpacked) = (archive.len() as u64, unpacked);
    let key = SecretKey::from_bytes(&[5; 32]);
    let envelope = Envelope::sign(Purpose::Bundle, serde_json::to_vec(&manifest).unwrap(), &[&key]);
    verify_bundle(&assemble(&envelope, archive), &[key.public_key()]).unwrap().into_owned()
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

#[test]
fn the_rehearsal_bundle_unpacks_again_and_again() {
    let (manifest, archive) =
        qb_drivers::build_rehearsal_bundle(&"1.0.0".parse().unwrap(), Millis(1)).unwrap();
    let key = SecretKey::from_bytes(&[5; 32]);
    let envelope = Envelope::sign(Purpose::Bundle, manifest, &[&key]);
    let file = assemble(&envelope, &archive);
    let bundle = verify_bundle(&file, &[key.public_key()]).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    let into: RelPath = "bundle".parse().unwrap();
    for _ in 0..2 {
        unpack(&dir, &into, &bundle).unwrap();
        assert_eq!(dir.sub(&into).unwrap().names().unwrap().len(), 1);
    }
    let at = into.join(&directory_name(&bundle.digest())).unwrap().join("VERSION").unwrap();
    assert_eq!(dir.read(&at, 100).unwrap().unwrap(), b"1.0.0\n");
    assert_eq!(dir.mode(&at).unwrap(), Some(0o644));
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
    assert!(unpack(&dir, &"bundle".parse().unwrap(), &bundle(&archive, 1 << 40)).is_err());
}
