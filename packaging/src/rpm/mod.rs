//! The rpm (format 4): lead, signature header, header, payload.
//!
//! The payload is two gzip members: the vendor's files, compressed, and the archive's end, stored.
//! Digests are those that rpm has checked since 4.14: SHA-256 of the header, and in the header
//! SHA-256 of the packed payload. Header and payload have no common MD5: rpm needs none since then,
//! FIPS hosts refuse it, and the newest format has dropped it. The header's SHA-1 is the package's
//! name in rpm's database.

mod cpio;
mod files;
pub(crate) mod header;
mod open;

pub(crate) use open::{Rpm, is_end, layout, site_file};

use crate::error::SpecError;
use crate::gzip;
use crate::spec::{Content, FileEntry, Format, PackageSpec};
use files::File;
use header::{Tags, Value};
use sha2::{Digest, Sha256};

/// How an rpm begins.
pub(crate) const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
/// Bytes of the lead.
const LEAD: usize = 96;

/// Tags by their names in rpm.
mod tag {
    pub(super) const SHA1: u32 = 269;
    pub(super) const SHA256: u32 = 273;
    pub(super) const SIGNED_SIZE: u32 = 1000;
    pub(super) const PAYLOAD_SIZE: u32 = 1007;

    pub(super) const I18N_TABLE: u32 = 100;
    pub(super) const NAME: u32 = 1000;
    pub(super) const VERSION: u32 = 1001;
    pub(super) const RELEASE: u32 = 1002;
    pub(super) const SUMMARY: u32 = 1004;
    pub(super) const DESCRIPTION: u32 = 1005;
    pub(super) const BUILD_TIME: u32 = 1006;
    pub(super) const BUILD_HOST: u32 = 1007;
    pub(super) const SIZE: u32 = 1009;
    pub(super) const LICENSE: u32 = 1014;
    pub(super) const PACKAGER: u32 = 1015;
    pub(super) const GROUP: u32 = 1016;
    pub(super) const URL: u32 = 1020;
    pub(super) const OS: u32 = 1021;
    pub(super) const ARCH: u32 = 1022;
    pub(super) const PRE: u32 = 1023;
    pub(super) const POST: u32 = 1024;
    pub(super) const PREUN: u32 = 1025;
    pub(super) const POSTUN: u32 = 1026;
    pub(super) const SOURCE_RPM: u32 = 1044;
    pub(super) const PROVIDE_NAME: u32 = 1047;
    pub(super) const REQUIRE_FLAGS: u32 = 1048;
    pub(super) const REQUIRE_NAME: u32 = 1049;
    pub(super) const REQUIRE_VERSION: u32 = 1050;
    pub(super) const CONFLICT_FLAGS: u32 = 1053;
    pub(super) const CONFLICT_NAME: u32 = 1054;
    pub(super) const CONFLICT_VERSION: u32 = 1055;
    pub(super) const RPM_VERSION: u32 = 1064;
    pub(super) const PRE_PROG: u32 = 1085;
    pub(super) const POST_PROG: u32 = 1086;
    pub(super) const PREUN_PROG: u32 = 1087;
    pub(super) const POSTUN_PROG: u32 = 1088;
    pub(super) const PROVIDE_FLAGS: u32 = 1112;
    pub(super) const PROVIDE_VERSION: u32 = 1113;
    pub(super) const PAYLOAD_FORMAT: u32 = 1124;
    pub(super) const PAYLOAD_COMPRESSOR: u32 = 1125;
    pub(super) const PAYLOAD_FLAGS: u32 = 1126;
    pub(super) const POSTTRANS: u32 = 1152;
    pub(super) const POSTTRANS_PROG: u32 = 1154;
    pub(super) const RECOMMEND_NAME: u32 = 5046;
    pub(super) const RECOMMEND_VERSION: u32 = 5047;
    pub(super) const RECOMMEND_FLAGS: u32 = 5048;
    pub(super) const ENCODING: u32 = 5062;
    pub(super) const PAYLOAD_DIGEST: u32 = 5092;
    pub(super) const PAYLOAD_DIGEST_ALGO: u32 = 5093;
}

/// rpm's number of SHA-256.
const SHA256: u32 = 8;

/// How a dependency compares, and where it comes from.
mod sense {
    pub(super) const LESS: u32 = 1 << 1;
    pub(super) const GREATER: u32 = 1 << 2;
    pub(super) const EQUAL: u32 = 1 << 3;
    pub(super) const POSTTRANS: u32 = 1 << 5;
    pub(super) const INTERPRETER: u32 = 1 << 8;
    pub(super) const PRE: u32 = 1 << 9;
    pub(super) const POST: u32 = 1 << 10;
    pub(super) const PREUN: u32 = 1 << 11;
    pub(super) const POSTUN: u32 = 1 << 12;
    pub(super) const RPMLIB: u32 = 1 << 24;
}

/// The only interpreter of scripts.
const SHELL: &str = "/bin/sh";
/// The features of rpm that a package of this builder needs, with the version that brought each.
const FEATURES: [(&str, &str); 3] = [
    ("rpmlib(CompressedFileNames)", "3.0.4-1"),
    ("rpmlib(FileDigests)", "4.6.0-1"),
    ("rpmlib(PayloadFilesHavePrefix)", "4.0-1"),
];

/// Builds the package. The description was checked, apart from the dependencies' form.
pub(crate) fn write(spec: &PackageSpec) -> Result<Vec<u8>, SpecError> {
    let entries = spec.entries(Format::Rpm);
    let mut all: Vec<File> = Vec::with_capacity(entries.len());
    let mut headers = Vec::with_capacity(entries.len());
    for (n, entry) in entries.values().enumerate() {
        // At most limits::ENTRIES of them.
        let file = File::new(entry, n as u32 + 1, spec.source_date);
        headers.push(file.cpio_header());
        all.push(file);
    }
    let mut unpacked = 0;
    let files = gzip::deflate(headers.iter().zip(entries.values()).flat_map(|(header, entry)| {
        let content = payload_bytes(entry);
        let padding = cpio::padding(content.len());
        unpacked += header.len() + content.len() + padding.len();
        [&header[..], content, padding]
    }));
    let end = cpio::end();
    let tail = gzip::stored(&end);
    let payload = Payload {
        packed: files.len() + tail.len(),
        unpacked: unpacked + end.len(),
        digest: Sha256::new().chain_update(&files).chain_update(&tail).finalize().into(),
    };
    let mut out = head(&tags(spec)?, &all, &payload);
    out.extend_from_slice(&files);
    out.extend_from_slice(&tail);
    Ok(out)
}

fn payload_bytes(entry: &FileEntry) -> &[u8] {
    match &entry.content {
        Content::File(bytes) => bytes,
        Content::Link(target) => target.as_bytes(),
        Content::Dir => &[],
    }
}

/// What the headers say of the payload.
struct Payload {
    packed: usize,
    unpacked: usize,
    digest: [u8; 32],
}

/// Everything before the payload. `tags` are those that do not follow from files and payload.
fn head(tags: &Tags, files: &[File], payload: &Payload) -> Vec<u8> {
    let mut tags = tags.clone();
    files::insert(&mut tags, files);
    // Sizes are bounded below 4 GiB: limits::PACKAGE_BYTES, limits::UNPACKED_BYTES.
    tags.insert(tag::SIZE, Value::Int32(vec![files.iter().map(|f| f.size).sum()]));
    tags.insert(tag::PAYLOAD_DIGEST, Value::Texts(vec![crate::hex(&payload.digest)]));
    let main = header::encode(header::IMMUTABLE, &tags);
    let signatures = Tags::from([
        (tag::SHA1, Value::Text(crate::hex(&sha1::Sha1::digest(&main)))),
        (tag::SHA256, Value::Text(crate::hex(&Sha256::digest(&main)))),
        (tag::SIGNED_SIZE, Value::Int32(vec![(main.len() + payload.packed) as u32])),
        (tag::PAYLOAD_SIZE, Value::Int32(vec![payload.unpacked as u32])),
    ]);
    let mut out = lead(&tags);
    out.extend_from_slice(&header::encode(header::SIGNATURES, &signatures));
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend_from_slice(&main);
    out
}

/// The lead, which only `file` still looks into: what the tags say, in the words of 1995.
fn lead(tags: &Tags) -> Vec<u8> {
    let text = |tag| match tags.get(&tag) {
        Some(Value::Text(text)) => text.as_str(),
        _ => "",
    };
    let name = format!("{}-{}-{}", text(tag::NAME), text(tag::VERSION), text(tag::RELEASE));
    let machine: u16 = if text(tag::ARCH) == "aarch64" { 19 } else { 1 };
    let mut out = LEAD_MAGIC.to_vec();
    out.extend_from_slice(&[3, 0, 0, 0]);
    out.extend_from_slice(&machine.to_be_bytes());
    out.extend_from_slice(&name.as_bytes()[..name.len().min(65)]);
    out.resize(76, 0);
    let (linux, headers) = ([0, 1], [0, 5]);
    out.extend_from_slice(&linux);
    out.extend_from_slice(&headers);
    out.resize(LEAD, 0);
    out
}

/// The tags that follow from the description alone.
fn tags(spec: &PackageSpec) -> Result<Tags, SpecError> {
    let text = |t: &str| Value::Text(t.to_owned());
    let local = |t: &str| Value::Local(t.to_owned());
    let mut tags = Tags::from([
        (tag::I18N_TABLE, Value::Texts(vec!["C".into()])),
        (tag::NAME, text(&spec.name)),
        (tag::VERSION, text(&spec.version)),
        (tag::RELEASE, text(&spec.release)),
        (tag::SUMMARY, local(&spec.summary)),
        (tag::DESCRIPTION, local(spec.description.trim())),
        (tag::BUILD_TIME, Value::Int32(vec![spec.source_date])),
        (tag::BUILD_HOST, text("localhost")),
        (tag::LICENSE, text(&spec.license)),
        (tag::PACKAGER, text(&spec.maintainer)),
        (tag::GROUP, local("Unspecified")),
        (tag::OS, text("linux")),
        (tag::ARCH, text(spec.arch.name(Format::Rpm))),
        (tag::SOURCE_RPM, text(&format!("{}-{}-{}.src.rpm", spec.name, spec.version, spec.release))),
        (tag::RPM_VERSION, text("4.14.0")),
        (tag::PAYLOAD_FORMAT, text("cpio")),
        (tag::PAYLOAD_COMPRESSOR, text("gzip")),
        (tag::PAYLOAD_FLAGS, text("9")),
        (tag::ENCODING, text("utf-8")),
        (tag::PAYLOAD_DIGEST_ALGO, Value::Int32(vec![SHA256])),
    ]);
    if let Some(url) = &spec.url {
        tags.insert(tag::URL, text(url));
    }
    scripts(spec, &mut tags);
    dependencies(spec, &mut tags)?;
    Ok(tags)
}

/// The scripts that are there, with their tags and where they count as a dependency.
fn script_list(spec: &PackageSpec) -> impl Iterator<Item = (u32, u32, u32, &String)> {
    let rpm = &spec.rpm;
    [
        (tag::PRE, tag::PRE_PROG, sense::PRE, &rpm.pre),
        (tag::POST, tag::POST_PROG, sense::POST, &rpm.post),
        (tag::PREUN, tag::PREUN_PROG, sense::PREUN, &rpm.preun),
        (tag::POSTUN, tag::POSTUN_PROG, sense::POSTUN, &rpm.postun),
        (tag::POSTTRANS, tag::POSTTRANS_PROG, sense::POSTTRANS, &rpm.posttrans),
    ]
    .into_iter()
    .filter_map(|(tag, program, sense, text)| Some((tag, program, sense, text.as_ref()?)))
}

fn scripts(spec: &PackageSpec, tags: &mut Tags) {
    for (tag, program, _, text) in script_list(spec) {
        tags.insert(tag, Value::Text(text.clone()));
        tags.insert(program, Value::Texts(vec![SHELL.into()]));
    }
}

/// One dependency as rpm keeps it: name, version, comparison.
type Dependency = (String, String, u32);

fn dependencies(spec: &PackageSpec, tags: &mut Tags) -> Result<(), SpecError> {
    let list = |all: &[String]| all.iter().map(|one| dependency(one)).collect::<Result<Vec<_>, _>>();
    let mut requires = list(&spec.rpm.depends)?;
    requires.extend(
        script_list(spec).map(|(_, _, sense, _)| (SHELL.into(), String::new(), sense | sense::INTERPRETER)),
    );
    requires
        .extend(FEATURES.map(|(name, version)| {
            (name.into(), version.into(), sense::LESS | sense::EQUAL | sense::RPMLIB)
        }));
    let own = (spec.name.clone(), format!("{}-{}", spec.version, spec.release), sense::EQUAL);
    let mut put = |mut all: Vec<Dependency>, [name, version, flags]: [u32; 3]| {
        all.sort();
        all.dedup();
        if !all.is_empty() {
            tags.insert(flags, Value::Int32(all.iter().map(|d| d.2).collect()));
            tags.insert(version, Value::Texts(all.iter().map(|d| d.1.clone()).collect()));
            tags.insert(name, Value::Texts(all.into_iter().map(|d| d.0).collect()));
        }
    };
    put(requires, [tag::REQUIRE_NAME, tag::REQUIRE_VERSION, tag::REQUIRE_FLAGS]);
    put(vec![own], [tag::PROVIDE_NAME, tag::PROVIDE_VERSION, tag::PROVIDE_FLAGS]);
    put(list(&spec.rpm.conflicts)?, [tag::CONFLICT_NAME, tag::CONFLICT_VERSION, tag::CONFLICT_FLAGS]);
    put(list(&spec.rpm.recommends)?, [tag::RECOMMEND_NAME, tag::RECOMMEND_VERSION, tag::RECOMMEND_FLAGS]);
    Ok(())
}

/// `name`, or `name OP version`.
fn dependency(text: &str) -> Result<Dependency, SpecError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let sense = |op| match op {
        "<" => Some(sense::LESS),
        "<=" => Some(sense::LESS | sense::EQUAL),
        "=" => Some(sense::EQUAL),
        ">=" => Some(sense::GREATER | sense::EQUAL),
        ">" => Some(sense::GREATER),
        _ => None,
    };
    let why = || SpecError::Field {
        field: "dependency",
        why: format!("{text:?}: an rpm's is `name` or `name OP version`, OP one of < <= = >= >"),
    };
    match words[..] {
        [name] if !name.starts_with('(') => Ok((name.into(), String::new(), 0)),
        [name, op, version] if !name.starts_with('(') => {
            Ok((name.into(), version.into(), sense(op).ok_or_else(why)?))
        }
        _ => Err(why()),
    }
}
