//! What a package may not hold.

use crate::common::{FORMATS, noise, spec};
use qb_package::{FileEntry, Format, PackageSpec, SpecError, limits};

type Change = fn(&mut PackageSpec);

#[test]
fn what_is_not_allowed_is_named() {
    let cases: &[(&str, Change, &str)] = &[
        ("upper case", |s| s.name = "Example".into(), "name: must be 2 to 64"),
        ("a name with a line", |s| s.name = "ex\nample".into(), "name: must be"),
        ("a version with a release", |s| s.version = "1-2".into(), "version: must be"),
        ("no release", |s| s.release = String::new(), "release: must be"),
        ("a field in a field", |s| s.summary = "x\nDepends: evil".into(), "summary: must be one line"),
        ("a maintainer with a line", |s| s.maintainer = "a\rb".into(), "maintainer: must be one line"),
        ("an address with a line", |s| s.url = Some("https://x\n".into()), "url: must be one line"),
        ("no description", |s| s.description = " \n".into(), "description: must be"),
        ("control characters", |s| s.description = "a\u{1b}[31m".into(), "description: must be"),
        ("a relative path", |s| add(s, "usr/x"), "\"usr/x\" is no path"),
        ("a way up", |s| add(s, "/usr/../etc/x"), "is no path"),
        ("a folder's slash", |s| add(s, "/usr/x/"), "is no path"),
        ("two slashes", |s| add(s, "/usr//x"), "is no path"),
        ("a blank", |s| add(s, "/usr/a b"), "is no path"),
        ("a long path", |s| add(s, &format!("/{}", "x".repeat(limits::PATH_BYTES))), "is no path"),
        ("the same path twice", |s| add(s, "/usr/bin/example"), "/usr/bin/example is there twice"),
        ("below a file", |s| add(s, "/usr/bin/example/x"), "lies below /usr/bin/example"),
        ("the site's file", |s| add(s, qb_package::SITE_FILE), "left to the site's package"),
        ("setuid", |s| s.files[0].mode = 0o4755, "mode 4755 is more than permissions"),
        ("sticky", |s| s.files[2].mode = 0o1777, "mode 1777 is more than permissions"),
        ("a link to nothing", |s| s.files[1] = FileEntry::link("/usr/bin/also", ""), "a link's target"),
        ("configuration that is a link", |s| s.files[1].config = true, "only a file"),
    ];
    for (name, change, wanted) in cases {
        for format in FORMATS {
            let mut changed = spec();
            change(&mut changed);
            let why = changed.build(format).expect_err(name).to_string();
            assert!(why.contains(wanted), "{name}, {format:?}: {why}");
        }
    }
}

fn add(spec: &mut PackageSpec, path: &str) {
    spec.files.push(FileEntry::file(path, 0o644, *b"x"));
}

#[test]
fn what_one_format_does_not_allow_is_named_there() {
    let cases: &[(Format, Change, &str)] = &[
        (Format::Deb, |s| s.deb.depends.push("a, b".into()), "one dependency each"),
        (Format::Deb, |s| s.deb.depends.push("a\nb".into()), "dependency: must be one line"),
        (Format::Deb, |s| s.deb.postinst = Some("echo\n".into()), "script postinst"),
        (Format::Deb, |s| s.deb.prerm = Some("#!/bin/sh\necho".into()), "script prerm"),
        (Format::Rpm, |s| s.rpm.depends.push("a >> 1".into()), "an rpm's is `name`"),
        (Format::Rpm, |s| s.rpm.depends.push("(a or b)".into()), "an rpm's is `name`"),
        (Format::Rpm, |s| s.rpm.conflicts = vec!["a".into(); 65], "more than 64 dependencies"),
        (Format::Rpm, |s| s.rpm.post = Some("a\0\n".into()), "script post"),
    ];
    for (format, change, wanted) in cases {
        let mut changed = spec();
        change(&mut changed);
        let why = changed.build(*format).unwrap_err().to_string();
        assert!(why.contains(wanted), "{why}");
        let other = FORMATS[usize::from(*format == Format::Deb)];
        assert!(changed.build(other).is_ok(), "{wanted}: of no concern to {other:?}");
    }
}

#[test]
fn an_entry_of_one_format_is_in_that_one_only() {
    let mut changed = spec();
    let only = |format, byte| FileEntry {
        only: Some(format),
        ..FileEntry::file("/usr/share/one", 0o644, vec![byte; 5000])
    };
    changed.files.extend([only(Format::Deb, 1), only(Format::Rpm, 2)]);
    for format in FORMATS {
        assert_ne!(changed.build(format), spec().build(format));
    }
    changed.files.push(only(Format::Rpm, 3));
    assert!(changed.build(Format::Deb).is_ok());
    let twice = SpecError::Duplicate { path: "/usr/share/one".into() };
    assert_eq!(changed.build(Format::Rpm), Err(twice));
}

#[test]
fn large_files_go_through() {
    let mut changed = spec();
    changed.files.push(FileEntry::file("/usr/lib/large", 0o644, noise(3 << 20)));
    for format in FORMATS {
        let vendor = crate::common::open(&changed, format);
        assert!(vendor.bytes().len() > 3 << 20);
        assert_eq!(vendor.file_name(), changed.file_name(format));
    }
    assert_eq!(changed.file_name(Format::Deb), "example_1.2.3-1_amd64.deb");
    assert_eq!(changed.file_name(Format::Rpm), "example-1.2.3-1.x86_64.rpm");
}
