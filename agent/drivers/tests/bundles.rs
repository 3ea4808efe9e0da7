//! The bundle format: what is made verifies, and nothing else does.
#![allow(clippy::unwrap_used)]

use qb_drivers::bundle::{
    ArtifactKind, BUNDLE_BYTES, BundleError, CHUNK_BYTES, Came, Contents, HEAD_BYTES, Intake, Label,
    Manifest, Place, Tally, Unsigned, from_memory, manifest_digest, peek, verify_bundle,
};
use qb_drivers::{Observed, build_rehearsal_bundle, driver};
use qb_model::dsse::{Purpose, SecretKey, Signer as _};
use qb_model::envelope::Envelope;
use qb_model::ids::{Millis, PublicKey};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

fn parts() -> (Unsigned, Vec<u8>) {
    build_rehearsal_bundle(&"1.0.0".parse().unwrap(), Millis(1_790_000_000_000)).unwrap()
}

fn bundle(signer: &SecretKey) -> Vec<u8> {
    let (unsigned, artifacts) = parts();
    [unsigned.sign(&[signer]), artifacts].concat()
}

fn label() -> Label {
    Label {
        name: "kubeadm".parse().unwrap(),
        driver: "kubeadm".parse().unwrap(),
        version: "1.36.2".parse().unwrap(),
        channel: "stable".parse().unwrap(),
        arch: "x86_64".to_owned(),
        created_ms: Millis(5),
        min_agent: "0.1.0".parse().unwrap(),
    }
}

fn file(path: &str, executable: bool) -> ArtifactKind {
    ArtifactKind::File(Place { path: path.parse().unwrap(), executable })
}

/// Bytes that differ from chunk to chunk.
fn noise(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect()
}

/// A bundle of files of these sizes, signed by key 1.
fn sized(sizes: &[usize]) -> Vec<u8> {
    let (mut tally, mut artifacts) = (Tally::default(), Vec::new());
    for (n, size) in sizes.iter().enumerate() {
        let bytes = noise(*size);
        let name = format!("file-{n}").parse().unwrap();
        tally.add(name, file(&format!("images/{n}.tar"), false), None, &mut bytes.as_slice()).unwrap();
        artifacts.extend_from_slice(&bytes);
    }
    [tally.finish(label()).unwrap().sign(&[&key(1)]), artifacts].concat()
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(parts(), parts());
    let digest = manifest_digest(&parts().0.manifest);
    let (peeked, manifest) = peek(&bundle(&key(1))).unwrap();
    assert_eq!(peeked, digest);
    assert_eq!((manifest.artifacts.len(), manifest.chunks.size), (1, 32));
}

#[test]
fn a_bundle_of_an_allowed_publisher_verifies() {
    let allowed = [key(2).public_key(), key(1).public_key()];
    let file = bundle(&key(1));
    let verified = verify_bundle(&file, &allowed).unwrap();
    assert_eq!(verified.publisher(), key(1).public_key());
    assert_eq!(verified.digest(), manifest_digest(&parts().0.manifest));
    assert!(verified.is(&verified.digest()).is_ok());
    assert!(matches!(verified.is(&qb_model::ids::Digest([0; 32])), Err(BundleError::OtherBundle { .. })));
    let mut contents = Contents::new(&verified, Box::new(from_memory(&file)));
    let mut read = Vec::new();
    std::io::copy(&mut contents.artifact(0).unwrap(), &mut read).unwrap();
    assert_eq!(read, parts().1);
    assert!(contents.artifact(1).is_none());
}

#[test]
fn unsigned_and_foreign_bundles_are_refused() {
    let none: [PublicKey; 0] = [];
    assert!(matches!(verify_bundle(&bundle(&key(1)), &none), Err(BundleError::Unsigned { tried: 0 })));
    let other = [key(3).public_key()];
    assert!(matches!(verify_bundle(&bundle(&key(1)), &other), Err(BundleError::Unsigned { tried: 1 })));
    // The right bytes, signed for another purpose.
    let (unsigned, artifacts) = parts();
    let intent = Envelope::sign(Purpose::Intent, unsigned.manifest.clone(), &[&key(1)]);
    let result = verify_bundle(&[unsigned.head(&intent), artifacts].concat(), &[key(1).public_key()]);
    assert!(matches!(result, Err(BundleError::Damaged(_))));
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let good = bundle(&key(1));
    let allowed = [key(1).public_key()];
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        // A key id is a hint: a change there leaves the same manifest, digest and signature.
        if let Ok(verified) = verify_bundle(&bad, &allowed) {
            assert_eq!(verified.digest(), manifest_digest(&parts().0.manifest), "byte {at}");
        }
    }
    for length in [0, 3, 4, 100, good.len() - 1] {
        assert!(verify_bundle(&good[..length], &allowed).is_err(), "cut at {length}");
    }
    let mut longer = good;
    longer.push(0);
    assert!(verify_bundle(&longer, &allowed).is_err());
}

/// Feeds a bundle in pieces; gives what came, and how much was held at most.
fn feed(bundle: &[u8], piece: usize) -> Result<(Vec<u8>, usize, u32), BundleError> {
    let mut intake = Intake::new(vec![key(1).public_key()]);
    let (mut out, mut most, mut chunks) = (Vec::new(), 0, 0);
    for mut piece in bundle.chunks(piece) {
        loop {
            match intake.take(&mut piece)? {
                None => break,
                Some(Came::Head(_, bytes)) => out.extend_from_slice(bytes),
                Some(Came::Chunk(number, bytes)) => {
                    assert_eq!(number, chunks);
                    chunks += 1;
                    out.extend_from_slice(bytes);
                }
            }
        }
        most = most.max(intake.held());
    }
    intake.finish().map(|head| (out, most, head.chunks()))
}

#[test]
fn a_bundle_comes_in_pieces_of_any_size_and_little_is_held() {
    for sizes in
        [&[1][..], &[CHUNK_BYTES], &[CHUNK_BYTES - 1, 2, 3 * CHUNK_BYTES], &[9 * CHUNK_BYTES + 5, 0, 7]]
    {
        let bundle = sized(sizes);
        for piece in [1_000, 65_536, CHUNK_BYTES, bundle.len()] {
            let (out, most, chunks) = feed(&bundle, piece).unwrap();
            assert!(out == bundle, "{sizes:?} by {piece}");
            // A bundle of nine chunks is held like one of one.
            assert!(most <= CHUNK_BYTES.max(HEAD_BYTES), "{most} bytes were held");
            assert_eq!(chunks as usize, sizes.iter().sum::<usize>().div_ceil(CHUNK_BYTES));
        }
    }
}

#[test]
fn what_comes_damaged_is_refused_before_it_is_handed_out() {
    let good = sized(&[2 * CHUNK_BYTES + 9]);
    let artifacts = good.len() - (2 * CHUNK_BYTES + 9);
    let mut second = good.clone();
    second[artifacts + CHUNK_BYTES + 3] ^= 1;
    assert_eq!(feed(&second, 4_096).unwrap_err(), BundleError::Chunk { chunk: 1 });
    let mut table = good.clone();
    table[artifacts - 1] ^= 1;
    assert!(matches!(feed(&table, 4_096), Err(BundleError::Damaged(_))));
    let mut longer = good.clone();
    longer.push(0);
    assert!(feed(&longer, 4_096).unwrap_err().to_string().contains("goes on"));
    assert!(feed(&good[..good.len() - 1], 4_096).unwrap_err().to_string().contains("ends early"));
    let mut intake = Intake::new(vec![key(2).public_key()]);
    // The manifest alone is enough to refuse it: the table was not waited for.
    let envelope = 4 + u32::from_be_bytes(*good.first_chunk::<4>().unwrap()) as usize;
    assert!(matches!(intake.take(&mut &good[..envelope]), Err(BundleError::Unsigned { .. })));
}

#[test]
fn manifests_that_break_a_rule_are_refused() {
    let good: Manifest = serde_json::from_slice(&parts().0.manifest).unwrap();
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        let unsigned = Unsigned { manifest: serde_json::to_vec(&manifest).unwrap(), table: parts().0.table };
        let bytes = [unsigned.sign(&[&key(1)]), parts().1].concat();
        verify_bundle(&bytes, &[key(1).public_key()]).unwrap_err().to_string()
    };
    let two = |a: &str, b: &str| {
        let (a, b) = (file(a, false), file(b, true));
        with(&move |m: &mut Manifest| {
            let mut first = m.artifacts[0].clone();
            first.unpacked = first.size;
            let mut second = first.clone();
            (first.kind, second.kind) = (a.clone(), b.clone());
            second.name = "second".parse().unwrap();
            m.artifacts = vec![first, second];
        })
    };
    let cases = [
        ("version is not 2", with(&|m| m.v = 1)),
        ("arch", with(&|m| m.arch = "amd64".into())),
        ("1 to 256", with(&|m| m.artifacts.clear())),
        ("one name", with(&|m| m.artifacts.push(m.artifacts[0].clone()))),
        ("table of chunks", with(&|m| m.chunks.size += 32)),
        ("not the one of its manifest", with(&|m| m.chunks.sha256.0[0] ^= 1)),
        ("at most", with(&|m| m.artifacts[0].size = BUNDLE_BYTES + 1)),
        ("at most", with(&|m| m.artifacts[0].size = u64::from(u32::MAX) << 20)),
        ("100 times", with(&|m| m.artifacts[0].unpacked = m.artifacts[0].size * 101)),
        ("two sizes", with(&|m| m.artifacts[0].kind = file("a", false))),
        ("one place", two("bin/a", "bin/A")),
        ("folder of another", two("bin", "bin/a")),
        ("folder of another", two("a/b/c", "a")),
    ];
    for (want, got) in cases {
        assert!(got.contains(want), "{want}: {got}");
    }
    for place in ["../a", "/etc/passwd", "a/../b", "a b", ""] {
        let text = String::from_utf8(parts().0.manifest).unwrap();
        let kind = format!(r#"{{"file":{{"path":"{place}","executable":false}}}}"#);
        let manifest = text.replace(r#""tar""#, &kind).into_bytes();
        assert_ne!(manifest, parts().0.manifest);
        let unsigned = Unsigned { manifest, table: parts().0.table };
        let bytes = [unsigned.sign(&[&key(1)]), parts().1].concat();
        let result = verify_bundle(&bytes, &[key(1).public_key()]);
        assert!(matches!(result, Err(BundleError::Manifest(_))), "{place}: {result:?}");
    }
}

/// The same bundle, byte for byte, as the second implementation reads it (`tests/golden/verify.py`).
/// `QB_BLESS=1 cargo test` writes it.
#[test]
fn the_golden_bundle_is_what_is_built() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bundle-v2.json");
    let (mut tally, mut artifacts) = (Tally::default(), Vec::new());
    let mut add = |name: &str, kind, unpacked, bytes: &[u8]| {
        tally.add(name.parse().unwrap(), kind, unpacked, &mut &bytes[..]).unwrap();
        artifacts.extend_from_slice(bytes);
    };
    let (settings, image) = (parts().1, noise(CHUNK_BYTES + 300));
    add("kubelet", file("bin/kubelet", true), None, b"a program");
    add("pause", file("images/pause.tar", false), None, &image);
    add("settings", ArtifactKind::Tar, Some(settings.len() as u64), &settings);
    let unsigned = tally.finish(label()).unwrap();
    let head = unsigned.sign(&[&key(1)]);
    let all = [head.clone(), artifacts.clone()].concat();
    let verified = verify_bundle(&all, &[key(1).public_key()]).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let now = serde_json::to_string_pretty(&serde_json::json!({
        "about": "a bundle's beginning in hexadecimal; the artifacts: 9 bytes `a program`, then 1048876 bytes \
                  n ^ n>>8 ^ n>>16 mod 256 for n from 0, then `settings` in hexadecimal",
        "head": hex(&head),
        "settings": hex(&settings),
        "publisher": key(1).public_key().to_string(),
        "digest": verified.digest().to_string(),
        "directory": qb_drivers::bundle::directory_name(&verified.digest()),
        "chunks": verified.chunks(),
    }))
    .unwrap()
        + "\n";
    if std::env::var_os("QB_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == now, "QB_BLESS=1 cargo test writes {path}");
}

#[test]
fn a_bundle_for_something_else_compiles_to_nothing() {
    let mut manifest: Manifest = serde_json::from_slice(&parts().0.manifest).unwrap();
    manifest.arch = "aarch64".to_owned();
    let observed = Observed { arch: "x86_64".to_owned(), bundle: Some(manifest), ..Observed::default() };
    assert!(driver(&"rehearsal".parse().unwrap()).unwrap().compile(&order(), &observed).is_err());
}

fn order() -> qb_model::assignment::Assignment {
    use qb_model::action::NodeRole;
    use qb_model::assignment::{Assignment, Citation, Member, Stage};
    use qb_model::ids::{Digest, Generation, NodeId, SiteId};
    use qb_model::settings::Settings;
    let cites = Citation { digest: Digest([7; 32]), index: 12 };
    let node = NodeId([1; 32]);
    Assignment {
        site: SiteId(Digest([9; 32])),
        node,
        generation: Generation(4),
        cluster: "clus100".parse().unwrap(),
        driver: "rehearsal".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        bundle: Digest([8; 32]),
        settings: Settings::default(),
        role: NodeRole::ControlPlane,
        stage: Stage::Prepare,
        members: vec![Member {
            node,
            host: "lyon-r1-01".parse().unwrap(),
            address: "127.0.1.1".to_owned(),
            role: NodeRole::ControlPlane,
            slot: 0,
        }],
        first: node,
        cites,
        created_by: cites,
    }
}
