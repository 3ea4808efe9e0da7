//! The outer archive of a deb: `ar`, with members of fixed dates and owners.

/// How an ar archive begins.
pub(crate) const MAGIC: &[u8] = b"!<arch>\n";
/// Bytes of a member's header.
pub(crate) const HEADER: usize = 60;

/// A member's header. `name` has at most 16 bytes.
pub(crate) fn header(name: &str, date: u32, len: usize) -> [u8; HEADER] {
    let text = format!("{name:<16}{date:<12}{:<6}{:<6}{:<8}{len:<10}`\n", 0, 0, "100644");
    // Widths add up to 60 while name, date (u32: 10 digits) and length (bounded: 9) fit theirs.
    text.as_bytes().try_into().expect("fields of fixed width")
}

/// Appends a member, padded to an even length.
pub(crate) fn push(out: &mut Vec<u8>, name: &str, date: u32, content: &[u8]) {
    out.extend_from_slice(&header(name, date, content.len()));
    out.extend_from_slice(content);
    out.extend_from_slice(pad(content.len()));
}

/// What stands behind a member of this length.
pub(crate) fn pad(len: usize) -> &'static [u8] {
    if len.is_multiple_of(2) { b"" } else { b"\n" }
}

/// The member that begins at `at`: its name, its date, and where its content lies. None if there is
/// no whole member.
pub(crate) fn member(bytes: &[u8], at: usize) -> Option<(&str, u32, std::ops::Range<usize>)> {
    let header = bytes.get(at..at.checked_add(HEADER)?)?;
    let field = |from: usize, to: usize| std::str::from_utf8(&header[from..to]).ok().map(str::trim_end);
    let len: usize = field(48, 58)?.parse().ok()?;
    let start = at + HEADER;
    let end = start.checked_add(len)?;
    (end <= bytes.len()).then_some((field(0, 16)?, field(16, 28)?.parse().ok()?, start..end))
}
