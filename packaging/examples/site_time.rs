//! Figures of making a site's package, as JSON lines: a vendor's package of 40 MB, 25 MB of which no
//! compression makes smaller. Run with `--release`.

use bytes::Bytes;
use qb_package::{Arch, FileEntry, ForDeb, ForRpm, Format, PackageSpec, SITE_DIR, Vendor, verify};
use std::time::{Duration, Instant};

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn spec() -> PackageSpec {
    PackageSpec {
        name: "figures".into(),
        version: "1".into(),
        release: "1".into(),
        arch: Arch::X86_64,
        summary: "A large package".into(),
        description: "A large package.".into(),
        license: "Apache-2.0".into(),
        maintainer: "Nobody <nobody@example.invalid>".into(),
        url: None,
        deb: ForDeb::default(),
        rpm: ForRpm::default(),
        files: vec![
            FileEntry::file("/usr/bin/noise", 0o755, noise(25_000_000)),
            FileEntry::file("/usr/bin/text", 0o755, b"a line of text\n".repeat(1_000_000)),
            FileEntry::dir(SITE_DIR, 0o755),
        ],
        source_date: 1,
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

/// The median of nine runs.
fn median<T>(work: impl Fn() -> T) -> Duration {
    let mut all: Vec<Duration> = (0..9).map(|_| timed(&work).0).collect();
    all.sort();
    all[4]
}

fn main() {
    let spec = spec();
    let enroll = noise(4096);
    let millis = |d: Duration| d.as_secs_f64() * 1000.0;
    for format in [Format::Deb, Format::Rpm] {
        let (build, bytes) = timed(|| spec.build(format).expect("the description is allowed"));
        let bytes = Bytes::from(bytes);
        let open = median(|| Vendor::open(bytes.clone()).expect("our own package"));
        let vendor = Vendor::open(bytes.clone()).expect("our own package");
        let make = || vendor.with_site(&enroll).expect("a small file");
        let site = make();
        let copy = site.to_vec();
        println!(
            "{{\"format\":\"{}\",\"bytes\":{},\"build_ms\":{:.0},\"open_ms\":{:.1},\"with_site_ms\":{:.3},\"digest_ms\":{:.1},\"verify_ms\":{:.1}}}",
            format.name(),
            site.len(),
            millis(build),
            millis(open),
            millis(median(make)),
            millis(median(|| site.digest())),
            millis(median(|| verify(&copy, &vendor).expect("our own package"))),
        );
    }
}
