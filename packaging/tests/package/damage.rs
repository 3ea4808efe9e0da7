//! Damaged and hostile packages: an error, never a panic, never a package made from them that differs
//! from what was opened.

use crate::common::{ENROLL, FORMATS, spec};
use crate::structure::{members, unpack};
use bytes::Bytes;
use proptest::prelude::*;
use qb_package::{Format, Vendor, extract_site_file, verify};
use std::sync::LazyLock;

/// Small packages, so that damage hits headers often: the vendor's and the site's.
static SMALL: LazyLock<[(Vec<u8>, Vec<u8>); 2]> = LazyLock::new(|| {
    FORMATS.map(|format| {
        let mut small = spec();
        small.files.retain(|e| e.path != "/usr/bin/example");
        let vendor = crate::common::open(&small, format);
        (vendor.bytes().to_vec(), vendor.with_site(ENROLL).unwrap().to_vec())
    })
});

#[derive(Debug, Clone)]
enum Damage {
    /// Other bytes at a place.
    Write(prop::sample::Index, Vec<u8>),
    /// A number that is larger than everything.
    Huge(prop::sample::Index),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    /// A piece of the package again somewhere else.
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    use any as arbitrary;
    type Index = prop::sample::Index;
    let bytes = || prop::collection::vec(arbitrary::<u8>(), 1..9);
    prop_oneof![
        (arbitrary::<Index>(), bytes()).prop_map(|(at, b)| Damage::Write(at, b)),
        arbitrary::<Index>().prop_map(Damage::Huge),
        arbitrary::<Index>().prop_map(Damage::Cut),
        (arbitrary::<Index>(), 1..700_usize).prop_map(|(at, n)| Damage::Remove(at, n)),
        (arbitrary::<Index>(), bytes()).prop_map(|(at, b)| Damage::Insert(at, b)),
        (arbitrary::<Index>(), arbitrary::<Index>(), 1..700_usize)
            .prop_map(|(a, b, n)| Damage::Copy(a, b, n)),
    ]
}

fn apply(mut bytes: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for one in damage {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match one {
            Damage::Write(at, new) => {
                let at = at.index(len);
                let n = new.len().min(len - at);
                bytes[at..at + n].copy_from_slice(&new[..n]);
            }
            Damage::Huge(at) => {
                let at = at.index(len);
                bytes[at..len.min(at + 4)].fill(0xff);
            }
            Damage::Cut(at) => bytes.truncate(at.index(len)),
            Damage::Remove(at, n) => {
                let at = at.index(len);
                bytes.drain(at..len.min(at + n));
            }
            Damage::Insert(at, new) => {
                let at = at.index(len);
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Copy(from, to, n) => {
                let from = from.index(len);
                let piece = bytes[from..len.min(from + n)].to_vec();
                let to = to.index(len);
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_vendors_package_is_refused_or_taken_whole(
        rpm in any::<bool>(), damage in prop::collection::vec(damage(), 1..4)
    ) {
        let original = &SMALL[usize::from(rpm)].0;
        let bytes = apply(original.clone(), &damage);
        if let Ok(vendor) = Vendor::open(Bytes::from(bytes.clone())) {
            // What is taken is a package of this builder: made for a site, it opens and compares.
            let site = vendor.with_site(ENROLL).unwrap().to_vec();
            prop_assert_eq!(verify(&site, &vendor).unwrap().site_file, ENROLL);
        }
        let _ = extract_site_file(&bytes);
    }

    #[test]
    fn a_damaged_package_of_a_site_never_verifies(
        rpm in any::<bool>(), damage in prop::collection::vec(damage(), 1..4)
    ) {
        let (vendor, site) = &SMALL[usize::from(rpm)];
        let bytes = apply(site.clone(), &damage);
        let vendor = Vendor::open(Bytes::from(vendor.clone())).unwrap();
        match verify(&bytes, &vendor) {
            Ok(verified) => {
                // Damage may have been none, or have hit the file in a way that is a whole package:
                // then it is that package.
                prop_assert_eq!(vendor.with_site(&verified.site_file).unwrap().to_vec(), bytes);
            }
            Err(why) => prop_assert!(why.range.end <= bytes.len(), "{}", why),
        }
    }

    #[test]
    fn any_bytes_behind_a_magic_number_are_refused(rpm in any::<bool>(), rest in prop::collection::vec(any::<u8>(), 0..2000)) {
        let magic: &[u8] = if rpm { &[0xed, 0xab, 0xee, 0xdb] } else { b"!<arch>\n" };
        let bytes = [magic, &rest].concat();
        prop_assert!(Vendor::open(Bytes::from(bytes.clone())).is_err());
        prop_assert!(extract_site_file(&bytes).is_err());
    }
}

/// The unpacked files of a deb.
fn payload(deb: &[u8]) -> Vec<u8> {
    unpack(&members(deb)[2].1)
}

#[test]
fn a_flipped_byte_of_a_vendors_package_is_refused_wherever_it_is() {
    for (n, format) in FORMATS.into_iter().enumerate() {
        let original = &SMALL[n].0;
        for at in (0..original.len()).step_by(3) {
            let mut bytes = original.clone();
            bytes[at] ^= 0x40;
            // Deflate can say the same in two ways, and a deb has no digest over its compressed bytes:
            // what is taken unpacks to the same. An rpm has one.
            if Vendor::open(Bytes::from(bytes.clone())).is_ok() {
                assert_eq!(format, Format::Deb, "byte {at}");
                assert_eq!(payload(&bytes), payload(original), "byte {at}");
            }
        }
    }
}
