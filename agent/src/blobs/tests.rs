#![allow(clippy::unwrap_used)]

use std::os::unix::fs::FileExt as _;

use qb_drivers::bundle::{ArtifactKind, CHUNK_BYTES, Label, Place, Tally};
use qb_model::dsse::{SecretKey, Signer as _};

use super::*;

fn key() -> SecretKey {
    SecretKey::from_bytes(&[5; 32])
}

/// A signed bundle with one file of this size.
pub(crate) fn bundle(size: usize) -> (Arc<VerifiedHead>, Vec<u8>) {
    let content: Vec<u8> = (0..size).map(|n| (n ^ (n >> 9) ^ (n >> 20)) as u8).collect();
    let mut tally = Tally::default();
    let kind = ArtifactKind::File(Place { path: "bin/kubelet".parse().unwrap(), executable: true });
    tally.add("kubelet".parse().unwrap(), kind, None, &mut content.as_slice()).unwrap();
    let label = Label {
        name: "kubeadm".parse().unwrap(),
        driver: "kubeadm".parse().unwrap(),
        version: "1.36.2".parse().unwrap(),
        channel: "stable".parse().unwrap(),
        arch: "any".to_owned(),
        created_ms: qb_model::Millis(1),
        min_agent: "0.1.0".parse().unwrap(),
    };
    let bytes = [tally.finish(label).unwrap().sign(&[&key()]), content].concat();
    (Arc::new(VerifiedHead::verify(&bytes, &[key().public_key()]).unwrap()), bytes)
}

fn chunk(head: &VerifiedHead, bytes: &[u8], n: u32) -> Vec<u8> {
    let range = head.chunk(n).unwrap();
    bytes[range.start as usize..range.end as usize].to_vec()
}

#[test]
fn a_bundle_on_its_way_goes_on_after_a_kill_and_only_verified_chunks_are_kept() {
    let temp = tempfile::tempdir().unwrap();
    let (head, bytes) = bundle(20 * CHUNK_BYTES + 11);
    let digest = head.digest();
    let blobs = Blobs::open(temp.path().join("blobs")).unwrap();
    let partial = blobs.begin(Arc::clone(&head), &bytes).unwrap();
    for n in 0..17 {
        partial.put(n, &chunk(&head, &bytes, n)).unwrap();
    }
    // Another's, cut, and one that does not exist.
    assert!(partial.put(18, &chunk(&head, &bytes, 3)).is_err());
    assert!(partial.put(18, &chunk(&head, &bytes, 18)[1..]).is_err());
    assert!(partial.put(21, b"x").is_err());
    assert_eq!(partial.have().count(), 17);
    assert!(blobs.list().is_empty() && !partial.is_complete());
    let held = blobs.held(&digest).unwrap();
    assert_eq!(held.chunk(16).unwrap().unwrap(), chunk(&head, &bytes, 16));
    assert_eq!(held.chunk(18).unwrap(), None);
    assert_eq!(held.head_bytes().unwrap(), bytes[..head.start() as usize]);

    // Killed, and one chunk was not on the disk yet: what the bitmap says is verified.
    drop((held, partial, blobs));
    let part = temp.path().join(format!("blobs/{digest}.part"));
    let file = std::fs::OpenOptions::new().write(true).open(part).unwrap();
    file.write_all_at(&[0; 100], head.chunk(5).unwrap().start).unwrap();
    let blobs = Blobs::open(temp.path().join("blobs")).unwrap();
    assert!(blobs.resume(&digest, &[SecretKey::from_bytes(&[6; 32]).public_key()]).is_none());
    let partial = blobs.resume(&digest, &[key().public_key()]).unwrap();
    // The bitmap was written with the sixteenth; the fifth was lost.
    assert_eq!((partial.have().count(), partial.have().has(5)), (15, false));
    for n in 0..head.chunks() {
        if !partial.have().has(n) {
            partial.put(n, &chunk(&head, &bytes, n)).unwrap();
        }
    }
    assert!(partial.is_complete());
    blobs.finish(&partial).unwrap();
    assert_eq!(std::fs::read(blobs.path(&digest)).unwrap(), bytes);
    assert_eq!((blobs.list(), blobs.partial(&digest).is_none()), (vec![digest], true));
    assert_eq!(blobs.held(&digest).unwrap().have().count(), 21);
    assert_eq!(std::fs::read_dir(temp.path().join("blobs")).unwrap().count(), 1);
    blobs.remove(&digest).unwrap();
    assert!(blobs.held(&digest).is_none());
}

#[test]
fn a_bundle_that_went_bad_on_the_disk_gets_no_name() {
    let temp = tempfile::tempdir().unwrap();
    let (head, bytes) = bundle(2 * CHUNK_BYTES);
    let blobs = Blobs::open(temp.path().join("blobs")).unwrap();
    let partial = blobs.begin(Arc::clone(&head), &bytes).unwrap();
    for n in 0..2 {
        partial.put(n, &chunk(&head, &bytes, n)).unwrap();
    }
    let part = temp.path().join(format!("blobs/{}.part", head.digest()));
    let file = std::fs::OpenOptions::new().write(true).open(part).unwrap();
    file.write_all_at(b"!", head.file_size() - 1).unwrap();
    assert!(blobs.finish(&partial).unwrap_err().to_string().contains("chunk 1 of the bundle"));
    assert!(blobs.list().is_empty() && partial.have().is_empty());
}
