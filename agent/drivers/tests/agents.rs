//! Bundles of the agent: what is built fits and unpacks, and nothing else does.
#![allow(clippy::unwrap_used)]

use std::io::Read as _;

use qb_drivers::agent::{
    AgentBundle, Host, Programs, VersionFloors, build_agent_bundle, check_form, elf_arch, unpack_program,
};
use qb_drivers::build_rehearsal_bundle;
use qb_drivers::bundle::{
    Artifact, BundleError, Contents, HEAD_BYTES, from_memory, peek, signed_by, verify_bundle,
};
use qb_model::agent_order::AgentOrder;
use qb_model::assignment::Citation;
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::{Digest, Generation, Millis, NodeId, SiteId, Version};
use sha2::{Digest as _, Sha256};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// An executable by its head, with content that does not pack well.
fn elf(machine: u16, fill: u8) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend_from_slice(&3u16.to_le_bytes());
    file.extend_from_slice(&machine.to_le_bytes());
    let mut block = [fill; 32];
    for _ in 0..5_000 {
        block = Sha256::digest(block).into();
        file.extend_from_slice(&block);
    }
    file
}

const X86: u16 = 62;
const ARM: u16 = 183;

fn built(version_text: &str, signer: &SecretKey) -> Vec<u8> {
    let (agent, exec) = (elf(X86, 1), elf(X86, 2));
    let programs = Programs { agent: &agent, exec: &exec };
    let (unsigned, artifacts) =
        build_agent_bundle(&version(version_text), &version("0.1.0"), Millis(5), &programs).unwrap();
    [unsigned.sign(&[signer]), artifacts].concat()
}

fn order(bundle: Digest, version_text: &str) -> AgentOrder {
    AgentOrder {
        site: SiteId(Digest([1; 32])),
        node: NodeId([2; 32]),
        generation: Generation(1),
        bundle,
        version: version(version_text),
        cites: Citation { digest: Digest([3; 32]), index: 9 },
    }
}

fn fit(
    file: &[u8],
    order: &AgentOrder,
    arch: &str,
    runs: &str,
    floors: &VersionFloors,
) -> Result<(), BundleError> {
    let publishers = [key(1).public_key(), key(2).public_key()];
    let bundle = verify_bundle(file, &publishers)?;
    let agent = version(runs);
    AgentBundle::fit(bundle, order, &Host { arch, agent: &agent }, floors).map(drop)
}

#[test]
fn what_is_built_unpacks_to_the_same_programs() {
    let file = built("0.2.0", &key(1));
    assert_eq!(file, built("0.2.0", &key(1)), "the same bytes each time");
    let (digest, manifest) = peek(&file[..HEAD_BYTES.min(file.len())]).unwrap();
    assert_eq!((manifest.arch.as_str(), manifest.driver.as_str()), ("x86_64", "agent"));
    assert_eq!(signed_by(&file, &[key(1).public_key()]), Ok(key(1).public_key()));
    assert!(matches!(signed_by(&file, &[key(3).public_key()]), Err(BundleError::Unsigned { .. })));
    let bundle = verify_bundle(&file, &[key(1).public_key()]).unwrap();
    let agent = version("0.1.0");
    let host = Host { arch: "x86_64", agent: &agent };
    let fits = AgentBundle::fit(bundle, &order(digest, "0.2.0"), &host, &VersionFloors::default()).unwrap();
    let wants = [("qb-agent", elf(X86, 1)), ("qb-exec", elf(X86, 2))];
    assert_eq!(fits.head().manifest().artifacts.len(), 2);
    let mut contents = Contents::new(fits.head(), Box::new(from_memory(&file)));
    for (number, (name, want)) in wants.into_iter().enumerate() {
        let mut reader = contents.artifact(number).unwrap();
        let (artifact, mut packed) = (reader.artifact(), Vec::new());
        reader.read_to_end(&mut packed).unwrap();
        let unpack_program = |artifact: &Artifact, packed: &[u8], out: &mut Vec<u8>| {
            unpack_program(artifact, &mut &packed[..], out)
        };
        let packed = packed.as_slice();
        let mut out = Vec::new();
        let digest = unpack_program(artifact, packed, &mut out).unwrap();
        assert_eq!((artifact.name.as_str(), &out), (name, &want));
        assert_eq!(digest.as_bytes().as_slice(), Sha256::digest(&want).as_slice());
        // Larger or smaller than declared, or damaged.
        for change in [-1i64, 1] {
            let mut other = artifact.clone();
            other.unpacked = other.unpacked.checked_add_signed(change).unwrap();
            assert!(unpack_program(&other, packed, &mut Vec::new()).is_err());
        }
        assert!(unpack_program(artifact, &packed[..packed.len() / 2], &mut Vec::new()).is_err());
    }
}

#[test]
fn only_what_was_ordered_and_runs_here_fits() {
    let file = built("0.2.0", &key(1));
    let (digest, _) = peek(&file).unwrap();
    let none = VersionFloors::default();
    let good = order(digest, "0.2.0");
    assert_eq!(fit(&file, &good, "x86_64", "0.1.0", &none), Ok(()));
    let other = fit(&file, &order(Digest([9; 32]), "0.2.0"), "x86_64", "0.1.0", &none);
    assert!(matches!(other, Err(BundleError::OtherBundle { .. })));
    let unfit = |result: Result<(), BundleError>| match result {
        Err(BundleError::Unfit { have, want }) => format!("{have} | {want}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(unfit(fit(&file, &order(digest, "0.3.0"), "x86_64", "0.1.0", &none)), "version 0.2.0 | 0.3.0");
    assert_eq!(unfit(fit(&file, &good, "aarch64", "0.1.0", &none)), "for x86_64 | aarch64");
    let old = unfit(fit(&file, &good, "x86_64", "0.0.9", &none));
    assert_eq!(old, "for agents from 0.1.0 on | one for agent 0.0.9");
    // A rehearsal's bundle, rightly signed and ordered.
    let (unsigned, artifacts) = build_rehearsal_bundle(&version("0.2.0"), Millis(5)).unwrap();
    let rehearsal = [unsigned.sign(&[&key(1)]), artifacts].concat();
    let (digest, _) = peek(&rehearsal).unwrap();
    let text = unfit(fit(&rehearsal, &order(digest, "0.2.0"), "x86_64", "0.1.0", &none));
    assert_eq!(text, "of driver rehearsal | one of agent");
}

/// S59: a version that was passed does not come back; a stolen key's 99.0.0 stops no successor's fix.
#[test]
fn versions_do_not_go_back_by_publisher() {
    let ordered = |text: &str, signer: u8, floors: &mut VersionFloors| {
        let file = built(text, &key(signer));
        let (digest, manifest) = peek(&file).unwrap();
        let result = fit(&file, &order(digest, text), "x86_64", "0.1.0", floors);
        if result.is_ok() {
            floors.raise(&key(signer).public_key(), &manifest);
        }
        result.is_ok()
    };
    let mut floors = VersionFloors::default();
    assert!(ordered("0.2.0", 1, &mut floors));
    assert!(ordered("0.2.0", 1, &mut floors), "the same again");
    assert!(!ordered("0.1.9", 1, &mut floors) && !ordered("0.2.0-rc1", 1, &mut floors));
    assert!(ordered("0.10.0", 1, &mut floors), "numbers, not texts");
    assert!(!ordered("0.9.0", 1, &mut floors));
    assert!(ordered("99.0.0", 1, &mut floors));
    assert!(ordered("0.10.1", 2, &mut floors), "the successor's fix");
    let stored = serde_json::to_vec(&floors).unwrap();
    assert_eq!(serde_json::from_slice::<VersionFloors>(&stored).unwrap(), floors);
}

#[test]
fn only_executables_of_one_known_machine_are_packed() {
    assert_eq!(elf_arch("x", &elf(X86, 1)), Ok("x86_64"));
    assert_eq!(elf_arch("x", &elf(ARM, 1)), Ok("aarch64"));
    let mut shared = elf(X86, 1);
    shared[16] = 1;
    let mut narrow = elf(X86, 1);
    narrow[4] = 1;
    for (file, why) in [
        (elf(40, 1), "is for machine 40"),
        (shared, "is no executable"),
        (narrow, "is no ELF file of 64 bits, little endian"),
        (b"#!/bin/sh\nexit 0\n# padding".to_vec(), "is no ELF file of 64 bits, little endian"),
        (Vec::new(), "is no ELF file"),
    ] {
        let want = BundleError::Program { name: "x".into(), why: why.into() };
        assert_eq!(elf_arch("x", &file), Err(want));
    }
    let (agent, exec) = (elf(X86, 1), elf(ARM, 2));
    let programs = Programs { agent: &agent, exec: &exec };
    let mixed = build_agent_bundle(&version("0.2.0"), &version("0.1.0"), Millis(5), &programs).unwrap_err();
    let want = "qb-exec is not for x86_64, as qb-agent is: take the programs of a release for Linux, x86_64 or aarch64";
    assert_eq!(mixed.to_string(), want);
}

#[test]
fn the_form_of_a_manifest_is_exact() {
    let (_, good) = peek(&built("0.2.0", &key(1))).unwrap();
    assert_eq!(check_form(&good), Ok(()));
    let refused = |change: &dyn Fn(&mut qb_drivers::bundle::Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        assert!(check_form(&manifest).is_err());
    };
    refused(&|m| m.artifacts.reverse());
    refused(&|m| drop(m.artifacts.pop()));
    refused(&|m| m.artifacts[0].kind = qb_drivers::bundle::ArtifactKind::Tar);
    refused(&|m| m.artifacts[0].unpacked = m.artifacts[0].size * 101);
    refused(&|m| m.artifacts[0].unpacked = 65 << 20);
    refused(&|m| m.driver = "rehearsal".parse().unwrap());
    refused(&|m| m.name = "other".parse().unwrap());
}
