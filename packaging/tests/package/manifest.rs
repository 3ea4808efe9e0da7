//! Descriptions of packages.

use qb_package::{Arch, Content, Facts, Format, Manifest, ManifestError};

const EXAMPLE: &str = include_str!("example/example.toml");

fn facts() -> Facts {
    Facts { version: "1.0.0".into(), release: "1".into(), arch: Arch::X86_64, source_date: 1 }
}

#[test]
fn a_description_becomes_a_package() {
    let mut asked = Vec::new();
    let spec = Manifest::parse(EXAMPLE)
        .unwrap()
        .package(&facts(), &mut |from| {
            asked.push(from.to_owned());
            Ok(b"#!/bin/sh\n".to_vec())
        })
        .unwrap();
    let script = "scripts/example.postinst";
    let own = "{out}/../example-1.0.0.conf";
    assert_eq!(
        asked,
        [script, script, "{bin}/example", "{gen}/example.1", "example.conf", "example.conf", own]
    );
    assert_eq!(spec.files[4].path, "/usr/share/example/1.0.0/self.conf");
    let modes: Vec<(&str, u32)> = spec.files.iter().map(|f| (f.path.as_str(), f.mode)).collect();
    assert_eq!(modes[0], ("/usr/bin/example", 0o755));
    assert_eq!(modes[2], ("/etc/example/example.conf", 0o644));
    assert_eq!(modes[6], ("/usr/share/qb", 0o755));
    assert!(spec.files[2].config && spec.files[1].doc && spec.files[3].only == Some(Format::Deb));
    let Content::File(page) = &spec.files[1].content else { panic!("no file") };
    assert_eq!(page[..2], [0x1f, 0x8b], "a manual page is compressed on its way");
    assert_eq!(spec.deb.postinst, spec.rpm.post);
    assert_eq!(spec.license, "Apache-2.0");
    for format in [Format::Deb, Format::Rpm] {
        spec.build(format).unwrap();
    }
}

#[test]
fn what_means_nothing_is_named() {
    let cases = [
        ("colour = 1\n", "", "unknown field `colour`"),
        ("[[file]]\nfrom = \"x\"\n", "", "missing field `to`"),
        ("", "[scripts.rpm]\npostinst = \"x\"\n", "unknown field `postinst`"),
        ("", "[scripts.apk]\n", "unknown field `apk`"),
        ("", "[[file]]\nto = \"/a\"\nfrom = \"b\"\nowner = \"qb\"\n", "unknown field `owner`"),
        ("", "[[dir]]\nto = \"/a\"\nonly = \"apk\"\n", "unknown variant `apk`"),
        ("", "[depends]\ndeb = \"one\"\n", "expected a sequence"),
    ];
    for (before, after, wanted) in cases {
        let text = format!("name = \"a\"\nsummary = \"b\"\ndescription = \"c\"\n{before}\n{after}");
        let why = Manifest::parse(&text).unwrap_err().to_string();
        assert!(why.contains(wanted), "{why}");
    }
}

#[test]
fn modes_and_sources_are_judged() {
    for mode in ["rw", "", "0o755", "+755", "899"] {
        let text = EXAMPLE.replace("0755", mode);
        let read = &mut |_: &str| Ok(b"#!/bin/sh\n".to_vec());
        let why = Manifest::parse(&text).unwrap().package(&facts(), read).unwrap_err();
        assert!(matches!(why, ManifestError::Mode { .. }), "{mode:?}: {why}");
    }
    let manifest = Manifest::parse(EXAMPLE).unwrap();
    let why = manifest.package(&facts(), &mut |_| Err("is not built".into())).unwrap_err();
    assert_eq!(why.to_string(), "scripts/example.postinst: is not built");
    let why = manifest.package(&facts(), &mut |_| Ok(vec![0xff])).unwrap_err();
    assert_eq!(why.to_string(), "scripts/example.postinst: a script is UTF-8 text");
}
