//! The bytes of packages: the same for the same inputs, in the order that the formats want.

use crate::common::{ENROLL, FORMATS, spec, vendor};
use flate2::read::MultiGzDecoder;
use qb_package::{Format, digest};
use std::io::Read;

#[test]
fn the_same_description_gives_the_same_bytes_in_any_order_of_files() {
    for format in FORMATS {
        let first = spec().build(format).unwrap();
        let mut turned = spec();
        turned.files.reverse();
        assert_eq!(turned.build(format).unwrap(), first, "{format:?}");
        let mut later = spec();
        later.source_date += 1;
        assert_ne!(later.build(format).unwrap(), first, "{format:?}");
    }
}

/// Pins everything that does not depend on a compression library. Who changes the builder's bytes
/// changes what `verify` says of packages that are already out, and has to know.
#[test]
fn the_bytes_of_small_packages_are_pinned() {
    let mut small = spec();
    for entry in &mut small.files {
        if entry.path == "/usr/bin/example" {
            entry.content = qb_package::Content::File(b"#!/bin/sh\n".to_vec());
        }
    }
    let got = FORMATS.map(|format| {
        let vendor = crate::common::open(&small, format);
        let site = vendor.with_site(ENROLL).unwrap();
        let [head, shared, tail] = site.chunks();
        assert_eq!(site.len(), head.len() + shared.len() + tail.len());
        assert_eq!(site.digest(), digest(&site.to_vec()));
        // The compressed part is not ours to pin: its length ends a deb's head, its digest is in an rpm's.
        match format {
            Format::Deb => {
                // Nor is the byte that pads an odd length.
                let tail = tail.strip_suffix(b"\n").unwrap_or(&tail);
                format!("head {} tail {}", digest(&head[..head.len() - 60]), digest(tail))
            }
            Format::Rpm => format!("head of {} bytes tail {}", head.len(), digest(&tail)),
        }
    });
    assert_eq!(
        got,
        [
            "head 90768af3278e160482c79947f2f2cab87c52d829dd3a2ea8390f01433f2d7cd3 \
             tail 5a6797c350a644adb4e0e2ce0d25e4de61f1793cce4b67ca301f033eecdaa332",
            "head of 3092 bytes \
             tail 304562145d57fca8571187066cd9e55328391322f28c91c1a5da12e6088c2265"
        ]
    );
}

pub(crate) fn unpack(member: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    MultiGzDecoder::new(member).read_to_end(&mut out).unwrap();
    out
}

/// Members of an ar archive: names and contents.
pub(crate) fn members(deb: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut rest = deb.strip_prefix(b"!<arch>\n").unwrap();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (header, after) = rest.split_at(60);
        let len: usize = std::str::from_utf8(&header[48..58]).unwrap().trim().parse().unwrap();
        assert_eq!(&header[58..], b"`\n");
        let name = std::str::from_utf8(&header[..16]).unwrap().trim().to_owned();
        all.push((name, after[..len].to_vec()));
        rest = &after[len + len % 2..];
    }
    all
}

/// Names and contents of a tar archive.
fn entries(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut all, mut at) = (Vec::new(), 0);
    while tar[at] != 0 {
        let text = |from: usize, to: usize| {
            std::str::from_utf8(&tar[at + from..at + to]).unwrap().trim_end_matches('\0').to_owned()
        };
        let size = usize::from_str_radix(&text(124, 136), 8).unwrap();
        all.push((text(0, 100), tar[at + 512..at + 512 + size].to_vec()));
        at += 512 + size.next_multiple_of(512);
    }
    assert_eq!(tar[at..], [0; 1024], "two empty blocks end the archive");
    all
}

#[test]
fn a_deb_has_its_members_and_they_hold_what_was_described() {
    let deb = members(vendor(Format::Deb).bytes());
    let names: Vec<&str> = deb.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.gz"]);
    assert_eq!(deb[0].1, b"2.0\n");
    let control = entries(&unpack(&deb[1].1));
    let names: Vec<&str> = control.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["./", "./control", "./md5sums", "./conffiles", "./preinst", "./postinst", "./prerm", "./postrm"]
    );
    assert_eq!(
        String::from_utf8_lossy(&control[1].1),
        "Package: example\nVersion: 1.2.3-1\nArchitecture: amd64\n\
         Maintainer: Nobody <nobody@example.invalid>\nInstalled-Size: 113\nDepends: libc6 (>= 2.28)\n\
         Recommends: systemd\nSection: admin\nPriority: optional\nHomepage: https://example.invalid/\n\
         Description: An example of a package\n It has everything.\n .\n Also a second paragraph.\n"
    );
    assert_eq!(String::from_utf8_lossy(&control[3].1), "/etc/example/example.toml\n");
    let sums = String::from_utf8_lossy(&control[2].1).into_owned();
    let paths: Vec<&str> = sums.lines().map(|line| &line[34..]).collect();
    assert_eq!(
        paths,
        ["usr/bin/example", "usr/share/doc/example/README", "usr/share/empty", "usr/share/zzz/last"]
    );
    let names: Vec<String> = entries(&unpack(&deb[2].1)).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "./",
            "./etc/",
            "./etc/example/",
            "./etc/example/example.toml",
            "./usr/",
            "./usr/bin/",
            "./usr/bin/also",
            "./usr/bin/example",
            "./usr/share/",
            "./usr/share/doc/",
            "./usr/share/doc/example/",
            "./usr/share/doc/example/README",
            "./usr/share/empty",
            "./usr/share/qb/",
            "./usr/share/zzz/",
            "./usr/share/zzz/last"
        ]
    );
}

#[test]
fn a_sites_deb_has_one_entry_and_one_sum_more() {
    let vendor = vendor(Format::Deb);
    let generic = members(vendor.bytes());
    let site = members(&vendor.with_site(ENROLL).unwrap().to_vec());
    let mut before = entries(&unpack(&generic[2].1));
    let after = entries(&unpack(&site[2].1));
    before.push(("./usr/share/qb/site.enroll.json".into(), ENROLL.to_vec()));
    assert_eq!(after, before);
    let (before, after) = (entries(&unpack(&generic[1].1)), entries(&unpack(&site[1].1)));
    for ((name, old), (_, new)) in before.iter().zip(&after) {
        if name == "./md5sums" {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let new = text(new);
            let (more, rest): (Vec<&str>, Vec<&str>) =
                new.lines().partition(|line| line.ends_with("  usr/share/qb/site.enroll.json"));
            assert_eq!((more.len(), rest), (1, text(old).lines().collect()));
            assert!(new.lines().is_sorted_by_key(|line| &line[34..]));
        } else {
            assert_eq!(old, new, "{name}");
        }
    }
}

#[test]
fn the_vendors_packed_files_are_shared_not_copied() {
    for format in FORMATS {
        let vendor = vendor(format);
        let [_, shared, tail] = vendor.with_site(ENROLL).unwrap().chunks();
        assert!(vendor.bytes().as_ptr_range().contains(&shared.as_ptr()), "{format:?}");
        assert!(shared.len() > 100_000 && tail.len() < 4096, "{format:?}");
        assert_eq!(vendor.with_site(ENROLL).unwrap().to_vec(), vendor.with_site(ENROLL).unwrap().to_vec());
    }
}
