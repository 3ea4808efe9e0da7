//! What the kernel says is mounted, `/proc/self/mountinfo`. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Bytes that are read: some ten thousand mounts.
pub(crate) const MOUNTS_BYTES: u64 = 16 << 20;

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where.
    pub(crate) point: PathBuf,
    /// The kind of file system.
    pub(crate) kind: String,
}

impl Mount {
    /// Where it is as seen from this root; none if it is outside.
    pub(crate) fn below(&self, root: &Path) -> Option<PathBuf> {
        self.point.strip_prefix(root).ok().map(|below| Path::new("/").join(below))
    }
}

/// Reads it, in the order in which they were mounted; none if a line is no mount: where that is not
/// known, nothing must be deleted.
pub(crate) fn parse(text: &str) -> Option<Vec<Mount>> {
    text.lines().map(line).collect()
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw`: any number of words before the `-`.
fn line(line: &str) -> Option<Mount> {
    let mut words = line.split(' ');
    let point = words.nth(4)?;
    // Options of the mount come before.
    words.next()?;
    words.find(|word| *word == "-")?;
    let kind = words.next().filter(|kind| !kind.is_empty())?.to_owned();
    let point = unescape(point)?;
    point.starts_with(b"/").then(|| Mount { point: PathBuf::from(OsString::from_vec(point)), kind })
}

/// Blanks, line ends and backslashes are written as `\040` and so on.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        if *first == b'\\' {
            let digits = more.get(..3)?;
            let value = std::str::from_utf8(digits).ok().and_then(|d| u8::from_str_radix(d, 8).ok())?;
            bytes.push(value);
            rest = &more[3..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden() {
        let text = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            90 22 0:45 / /var/lib/kubelet/pods/a/volumes/x\\040y rw - tmpfs tmpfs rw,size=4k\n\
            91 22 0:4 net:[4026532] /run/netns/cni-1 rw shared:7 master:2 - nsfs nsfs rw\n\
            92 22 0:46 / /mnt/a\\134b\\012c ro - overlay overlay ro,lowerdir=/a - b\n";
        let mounts = parse(text).unwrap();
        let points: Vec<_> = mounts.iter().map(|m| (m.point.to_str().unwrap(), m.kind.as_str())).collect();
        assert_eq!(
            points,
            [
                ("/", "ext4"),
                ("/var/lib/kubelet/pods/a/volumes/x y", "tmpfs"),
                ("/run/netns/cni-1", "nsfs"),
                ("/mnt/a\\b\nc", "overlay"),
            ]
        );
    }

    #[test]
    fn what_is_no_mount_is_refused() {
        for text in [
            "22 1 8:1 / / rw ext4 /dev/sda1 rw",
            "22 1 8:1 / relative rw - ext4 x rw",
            "22 1 8:1 / /bad\\9 rw - ext4 x rw",
            "22 1 8:1 / /bad\\777 rw - ext4 x rw",
            "22 1 8:1 / /bad\\04",
            "nothing",
            "22 1 8:1 / / rw - ",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("").unwrap(), []);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([0-9 /\\\\a-z:-]{0,40}\n){0,5}") {
            let _ = parse(&text);
        }
    }
}
