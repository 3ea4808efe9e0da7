//! `qb package` against a real relay, and packages that somebody changed (S31).

use std::path::{Path, PathBuf};

use qb_cli::ctx::read_charter;
use qb_model::dsse::{SecretKey, Signer as _};
use qb_package::{Arch, FileEntry, ForDeb, ForRpm, Format, PackageSpec, Vendor, digest};
use qb_relay::{Config, Relay, Timing};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::door::{Ran, qb};

const FORMATS: [Format; 2] = [Format::Deb, Format::Rpm];

fn spec() -> PackageSpec {
    let noise = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>();
    let script = || Some("#!/bin/sh\nset -e\necho started\n".to_owned());
    PackageSpec {
        name: "qb-agent".into(),
        version: "0.1.0".into(),
        release: "1".into(),
        arch: Arch::X86_64,
        summary: "agent of qb".into(),
        description: "For tests.".into(),
        license: "Apache-2.0".into(),
        maintainer: "Nobody <nobody@example.invalid>".into(),
        url: None,
        deb: ForDeb { postinst: script(), ..ForDeb::default() },
        rpm: ForRpm { post: script(), ..ForRpm::default() },
        files: vec![
            FileEntry::file("/usr/bin/qb-agent", 0o755, noise),
            FileEntry::dir("/usr/share/qb", 0o755),
        ],
        source_date: 1_700_000_000,
    }
}

fn vendor_of(spec: &PackageSpec, format: Format) -> Vendor {
    Vendor::open(spec.build(format).unwrap().into()).unwrap()
}

/// A relay with packages, and the site lyon that trusts it, registered there.
struct Place {
    folder: tempfile::TempDir,
    url: String,
    key: String,
    _runtime: tokio::runtime::Runtime,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let packages = folder.path().join("packages");
        std::fs::create_dir(&packages).unwrap();
        for format in FORMATS {
            let vendor = vendor_of(&spec(), format);
            std::fs::write(packages.join(vendor.file_name()), vendor.bytes()).unwrap();
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (url, key) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let listen = listener.local_addr().unwrap();
            let url = format!("http://localhost:{}", listen.port());
            let config = Config {
                listen,
                state: folder.path().join("relay"),
                url: url.clone(),
                tls: None,
                open: true,
                orgs: vec![],
                packages,
                timing: Timing::default(),
            };
            let relay = Relay::open(config).await.unwrap();
            let key = relay.public_key().to_string();
            tokio::spawn(qb_relay::serve(relay, listener, std::future::pending()));
            (url, key)
        });
        let place = Self { folder, url, key, _runtime: runtime };
        let at = ["--relay", &place.url, "--relay-key", &place.key, "--no-passphrase"];
        let own = format!("unix:{}", place.folder.path().join("none.sock").display());
        let made = place.qb(&[&["site", "create", "lyon", "--add-door", &own], &at[..]].concat());
        assert_eq!(made.code, 0, "{made:?}");
        let tied = place.qb(&["relay", "register", &place.url, "--org", "acme", "--yes"]);
        assert_eq!(tied.code, 0, "{tied:?}");
        place
    }

    fn qb(&self, args: &[&str]) -> Ran {
        qb(self.folder.path(), args)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn vendor(&self, format: Format) -> String {
        self.path("packages").join(vendor_of(&spec(), format).file_name()).display().to_string()
    }

    fn words(&self) -> String {
        let id = read_charter(&self.path("lyon.enroll.json")).unwrap().0.site_id();
        qb_model::words::words(&id.0.0).join(" ")
    }

    fn verify(&self, bytes: &[u8]) -> Ran {
        std::fs::write(self.path("x.pkg"), bytes).unwrap();
        let format = Format::of(bytes).unwrap_or(Format::Deb);
        self.qb(&["package", "verify", "x.pkg", "--vendor", &self.vendor(format)])
    }
}

#[test]
fn what_a_relay_hands_out_is_what_is_built_here_byte_for_byte() {
    let place = Place::new();
    for (format, flag) in FORMATS.into_iter().zip([None, Some("--rpm")]) {
        let fetch: Vec<&str> = ["package", "fetch", "-o", "./fetched"].into_iter().chain(flag).collect();
        let fetched = place.qb(&fetch);
        assert_eq!(fetched.code, 0, "{fetched:?}");
        assert!(fetched.err.contains("with itself") && fetched.out.contains(&place.words()), "{fetched:?}");
        let built = place.qb(&["package", "build", "--vendor", &place.vendor(format), "-o", "./built"]);
        assert_eq!(built.code, 0, "{built:?}");
        let [one, other] = ["fetched", "built"].map(|name| std::fs::read(place.path(name)).unwrap());
        assert_eq!(one, other, "{format:?}");
        let verified = place.verify(&one);
        assert_eq!(verified.code, 0, "{verified:?}");
        assert!(
            verified.out.contains("byte for byte") && verified.out.contains(&digest(&one)),
            "{verified:?}"
        );
        assert!(!verified.err.contains("with itself"), "the vendor's own was given: {verified:?}");
        let document = place.qb(&["package", "verify", "x.pkg", "-o", "json"]);
        let document: Value = serde_json::from_str(&document.out).unwrap();
        assert_eq!((&document["vendor"], &document["format"]), (&"relay".into(), &format.name().into()));
        assert_eq!(document["relays"][0]["key"], place.key);
        assert_eq!(document["vendor_sha256"], digest(vendor_of(&spec(), format).bytes()));
    }
    let named = place.qb(&["package", "build", "--vendor", &place.vendor(Format::Rpm), "-o", "json"]);
    assert_eq!(named.code, 0, "{named:?}");
    assert!(place.path("qb-agent-0.1.0-1.lyon.x86_64.rpm").is_file(), "{named:?}");
}

#[test]
fn the_line_names_what_was_verified_here() {
    let place = Place::new();
    let line = place.qb(&["package", "line"]);
    assert_eq!((line.code, line.out.lines().count()), (0, 1), "{line:?}");
    for format in FORMATS {
        let file = std::fs::read(place.path("lyon.enroll.json")).unwrap();
        let sha256 = vendor_of(&spec(), format).with_site(&file).unwrap().digest();
        assert!(line.out.contains(&sha256), "{line:?}");
        assert!(line.err.contains(&digest(vendor_of(&spec(), format).bytes())), "{line:?}");
    }
    assert!(line.err.contains(&place.words()) && line.out.contains(&place.words()), "{line:?}");
    assert!(line.out.contains(&format!("{}/packages/qb1", place.url)), "{line:?}");
    let both = ["--vendor", &place.vendor(Format::Deb), "--vendor", &place.vendor(Format::Rpm)];
    let own = place.qb(&[&["package", "line", "--cacert", "/etc/ca.crt"], &both[..]].concat());
    assert_eq!(own.code, 0, "{own:?}");
    assert!(own.out.contains("--cacert") && !own.err.contains("with itself"), "{own:?}");
    let one = place.qb(&["package", "line", "--vendor", &place.vendor(Format::Deb)]);
    assert_eq!(one.code, 2, "{one:?}");
    let odd = place.qb(&["package", "line", "--cacert", "/etc/$(x)"]);
    assert_eq!(odd.code, 2, "{odd:?}");
    let document = place.qb(&["package", "line", "-o", "json"]);
    let document: Value = serde_json::from_str(&document.out).unwrap();
    assert_eq!(document["line"].as_str().unwrap(), line.out.trim_end());
}

/// The bytes that an error names.
fn range(ran: &Ran) -> std::ops::Range<usize> {
    let at = ran.err.split("bytes ").nth(1).unwrap_or_else(|| panic!("{ran:?}"));
    let (from, rest) = at.split_once("..").unwrap();
    let to: String = rest.chars().take_while(char::is_ascii_digit).collect();
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn a_changed_package_is_told_with_its_bytes() {
    let place = Place::new();
    let file = std::fs::read(place.path("lyon.enroll.json")).unwrap();
    let other = tempfile::tempdir().unwrap();
    crate::door::charter(other.path());
    let foreign = std::fs::read(other.path().join("lyon.enroll.json")).unwrap();
    let key = SecretKey::from_bytes(&[9; 32]).public_key().to_string();
    let text = String::from_utf8(file.clone()).unwrap();
    // The charter's own mention is in its payload, which is base64.
    let swapped = text.replace(&place.key, &key);
    assert_ne!(swapped, text);
    for format in FORMATS {
        let vendor = vendor_of(&spec(), format);
        let good = vendor.with_site(&file).unwrap().to_vec();
        assert_eq!(place.verify(&good).code, 0);

        let ran = place.verify(&vendor.with_site(&foreign).unwrap().to_vec());
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.err.contains(&place.words()) && ran.err.contains("another site"), "{ran:?}");
        assert!(!range(&ran).is_empty(), "{ran:?}");

        let package = vendor.with_site(swapped.as_bytes()).unwrap().to_vec();
        let ran = place.verify(&package);
        assert_eq!(ran.code, 4, "no door says whether the site trusts it since: {ran:?}");
        assert!(ran.err.contains("the charter does not"), "{ran:?}");

        let mut evil = spec();
        for script in [&mut evil.deb.postinst, &mut evil.rpm.post].into_iter().flatten() {
            *script = script.replace("started", "hacked!");
        }
        let package = vendor_of(&evil, format).with_site(&file).unwrap().to_vec();
        let ran = place.verify(&package);
        assert_eq!(ran.code, 1, "{ran:?}");
        let script = if format == Format::Deb { "script postinst" } else { "script post" };
        assert!(ran.err.contains(script), "{ran:?}");
        assert!(range(&ran).end <= package.len() && !range(&ran).is_empty(), "{ran:?}");

        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x40;
        let ran = place.verify(&flipped);
        assert_eq!((ran.code, range(&ran)), (1, middle..middle + 1), "{ran:?}");

        let ran = place.verify(vendor.bytes());
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("qb package fetch"), "{ran:?}");
    }
    let ran = place.verify(b"no package");
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn what_is_no_vendor_s_package_is_refused() {
    let place = Place::new();
    let site = place.qb(&["package", "fetch", "-o", "./site.deb"]);
    assert_eq!(site.code, 0, "{site:?}");
    let ran = place.qb(&["package", "build", "--vendor", "site.deb"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("generic"), "{ran:?}");
    let mut other = spec();
    other.name = "qb-relay".into();
    std::fs::write(place.path("other.deb"), other.build(Format::Deb).unwrap()).unwrap();
    let ran = place.qb(&["package", "build", "--vendor", "other.deb"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let ran = place.qb(&["package", "verify", "site.deb", "--vendor", &place.vendor(Format::Rpm)]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let seeds = ["package", "build", "--vendor", &place.vendor(Format::Deb), "--seed", "lyon:7444"];
    assert_eq!(place.qb(&seeds).code, 2);
}

/// The package of the command line brings every page there is.
#[test]
fn every_page_is_in_the_package() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/qb.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let mut listed: Vec<&str> =
        text.split("{gen}/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    listed.retain(|name| name.ends_with(".1"));
    listed.sort_unstable();
    let mut made: Vec<String> = qb_cli::manual::pages().unwrap().into_iter().map(|page| page.name).collect();
    made.sort_unstable();
    assert_eq!(listed, made);
}
