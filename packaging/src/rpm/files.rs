//! The list of files in an rpm's header: one array for each property.

use super::cpio;
use super::header::{Tags, Value};
use crate::spec::{Content, FileEntry};
use sha2::{Digest, Sha256};

const SIZES: u32 = 1028;
const MODES: u32 = 1030;
const RDEVS: u32 = 1033;
const DATES: u32 = 1034;
const DIGESTS: u32 = 1035;
const LINKS: u32 = 1036;
const FLAGS: u32 = 1037;
const USERS: u32 = 1039;
const GROUPS: u32 = 1040;
const VERIFY: u32 = 1045;
const DEVICES: u32 = 1095;
const INODES: u32 = 1096;
const LANGUAGES: u32 = 1097;
const DIR_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIR_NAMES: u32 = 1118;
const DIGEST_ALGO: u32 = 5011;

/// Every tag of this list.
pub(super) const ALL: [u32; 17] = [
    SIZES,
    MODES,
    RDEVS,
    DATES,
    DIGESTS,
    LINKS,
    FLAGS,
    USERS,
    GROUPS,
    VERIFY,
    DEVICES,
    INODES,
    LANGUAGES,
    DIR_INDEXES,
    BASE_NAMES,
    DIR_NAMES,
    DIGEST_ALGO,
];

const IS_FILE: u16 = 0o100_000;
const IS_LINK: u16 = 0o120_000;
const IS_DIR: u16 = 0o040_000;
const IS_ANY: u16 = 0o170_000;
const CONFIG: u32 = 1 << 0;
const DOC: u32 = 1 << 1;
const NO_REPLACE: u32 = 1 << 4;

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) size: u32,
    /// Type and permissions.
    pub(super) mode: u16,
    date: u32,
    /// SHA-256 in hex; empty for what is no file.
    digest: String,
    link: String,
    flags: u32,
    /// Unique: rpm takes equal ones for hard links.
    pub(super) inode: u32,
}

impl File {
    /// A package's entry, with its number in the payload.
    pub(super) fn new(entry: &FileEntry, inode: u32, date: u32) -> File {
        let mut file = File {
            path: entry.path.clone(),
            // Bounded by limits::PACKAGE_BYTES.
            size: super::payload_bytes(entry).len() as u32,
            // Permissions only: at most 0777.
            mode: entry.mode as u16,
            date,
            digest: String::new(),
            link: String::new(),
            flags: if entry.config { CONFIG | NO_REPLACE } else { 0 } | if entry.doc { DOC } else { 0 },
            inode,
        };
        match &entry.content {
            Content::File(bytes) => {
                file.mode |= IS_FILE;
                file.digest = crate::hex(&Sha256::digest(bytes));
            }
            Content::Link(target) => {
                file.mode = IS_LINK | 0o777;
                file.link.clone_from(target);
            }
            Content::Dir => file.mode |= IS_DIR,
        }
        file
    }

    pub(super) fn is_dir(&self) -> bool {
        self.mode & IS_ANY == IS_DIR
    }

    /// The header of the file in the payload.
    pub(super) fn cpio_header(&self) -> Vec<u8> {
        let name = format!(".{}", self.path);
        cpio::Entry { inode: self.inode, mode: self.mode, date: self.date, size: self.size, name: &name }
            .header()
    }
}

/// Puts the list into a header. Files are sorted by path: rpm looks them up by halving.
pub(super) fn insert(tags: &mut Tags, files: &[File]) {
    let numbers = |of: fn(&File) -> u32| Value::Int32(files.iter().map(of).collect());
    let texts = |of: fn(&File) -> &str| Value::Texts(files.iter().map(|f| of(f).to_owned()).collect());
    let mut dirs: Vec<&str> = Vec::new();
    let mut indexes = Vec::with_capacity(files.len());
    let mut bases = Vec::with_capacity(files.len());
    for file in files {
        // A path is absolute: it has a slash.
        let (dir, base) = file.path.split_at(file.path.rfind('/').map_or(0, |at| at + 1));
        let index = dirs.iter().position(|d| *d == dir).unwrap_or_else(|| {
            dirs.push(dir);
            dirs.len() - 1
        });
        indexes.push(index as u32);
        bases.push(base.to_owned());
    }
    tags.extend([
        (SIZES, numbers(|f| f.size)),
        (MODES, Value::Int16(files.iter().map(|f| f.mode).collect())),
        (RDEVS, Value::Int16(vec![0; files.len()])),
        (DATES, numbers(|f| f.date)),
        (DIGESTS, texts(|f| &f.digest)),
        (LINKS, texts(|f| &f.link)),
        (FLAGS, numbers(|f| f.flags)),
        (USERS, texts(|_| "root")),
        (GROUPS, texts(|_| "root")),
        (VERIFY, numbers(|_| u32::MAX)),
        (DEVICES, numbers(|_| 1)),
        (INODES, numbers(|f| f.inode)),
        (LANGUAGES, texts(|_| "")),
        (DIR_INDEXES, Value::Int32(indexes)),
        (BASE_NAMES, Value::Texts(bases)),
        (DIR_NAMES, Value::Texts(dirs.into_iter().map(str::to_owned).collect())),
        (DIGEST_ALGO, Value::Int32(vec![super::SHA256])),
    ]);
}

/// Takes the list out of a header. None if an array is missing or short; what the list does not keep
/// is compared by the caller, who writes the header again.
pub(super) fn take(tags: &mut Tags) -> Option<Vec<File>> {
    let mut own: Tags = ALL.iter().filter_map(|tag| tags.remove_entry(tag)).collect();
    let mut numbers = |tag| match own.remove(&tag) {
        Some(Value::Int32(all)) => Some(all.into_iter()),
        _ => None,
    };
    let (mut sizes, mut dates, mut flags) = (numbers(SIZES)?, numbers(DATES)?, numbers(FLAGS)?);
    let (mut inodes, indexes) = (numbers(INODES)?, numbers(DIR_INDEXES)?);
    let mut texts = |tag| match own.remove(&tag) {
        Some(Value::Texts(all)) => Some(all.into_iter()),
        _ => None,
    };
    let (mut digests, mut links, mut bases) = (texts(DIGESTS)?, texts(LINKS)?, texts(BASE_NAMES)?);
    let dirs: Vec<String> = texts(DIR_NAMES)?.collect();
    let Some(Value::Int16(modes)) = own.remove(&MODES) else { return None };
    let mut modes = modes.into_iter();
    indexes
        .map(|index| {
            let dir = dirs.get(index as usize)?;
            Some(File {
                path: format!("{dir}{}", bases.next()?),
                size: sizes.next()?,
                mode: modes.next()?,
                date: dates.next()?,
                digest: digests.next()?,
                link: links.next()?,
                flags: flags.next()?,
                inode: inodes.next()?,
            })
        })
        .collect()
}
