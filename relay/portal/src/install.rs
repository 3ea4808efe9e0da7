//! The line that puts a site's package on a machine: picks deb or rpm, downloads it from a relay, checks
//! its digest, installs it. For POSIX sh, with what a fresh Debian, Ubuntu, RHEL, Rocky or SUSE has.
//!
//! Whoever makes the line vouches for its digests. A relay's own line proves nothing against that relay.

/// What the line is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The relay's address: `https://relay.example`.
    pub relay: &'a str,
    /// The site's id.
    pub site: &'a str,
    /// The site's words, which the machine must print.
    pub words: &'a str,
    /// SHA-256 of the deb in hex.
    pub deb: &'a str,
    /// SHA-256 of the rpm in hex.
    pub rpm: &'a str,
    /// A file on the machine with the issuers that it is to trust for the download; none: its own.
    pub cacert: Option<&'a str>,
}

/// A part of the line that no shell should see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {text:?} cannot stand in a line for a shell: it must be letters, digits and `-_.:/[]~%+@,`, and begin with no `-`"
)]
pub struct Unquotable {
    what: &'static str,
    text: String,
}

/// Whether a text means nothing but itself between double quotes that stand between single ones.
fn plain(what: &'static str, text: &str, more: &str) -> Result<(), Unquotable> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:/[]~%+@,".contains(c) || more.contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(allowed) {
        return Ok(());
    }
    Err(Unquotable { what, text: text.chars().take(80).collect() })
}

/// The line, without a newline.
///
/// # Errors
/// A part holds what a shell would understand as something else.
pub fn line(of: &Line<'_>) -> Result<String, Unquotable> {
    let Line { relay, site, words, deb, rpm, cacert } = *of;
    plain("the relay's address", relay, "")?;
    plain("the site's id", site, "")?;
    plain("the site's words", words, " ")?;
    plain("the digest", deb, "")?;
    plain("the digest", rpm, "")?;
    let (curl, wget) = match cacert {
        None => (String::new(), String::new()),
        Some(file) => {
            plain("the file of issuers", file, "")?;
            (format!("--cacert \"{file}\" "), format!("--ca-certificate=\"{file}\" "))
        }
    };
    let parts = [
        "set -eu".to_owned(),
        format!("u=\"{relay}/packages/{site}\""),
        "r=; [ \"$(id -u)\" = 0 ] || r=sudo".to_owned(),
        "[ \"$(uname -m)\" = x86_64 ] || { echo \"qb: this machine is no x86_64\" >&2; exit 1; }".to_owned(),
        // Anew, whatever is there: apt takes another site's package of the same version for this one.
        format!(
            "if command -v apt-get >/dev/null; then f=deb s={deb} i=\"apt-get -y install --reinstall\"; \
             else f=rpm s={rpm} i=\"dnf -y install\"; \
             command -v dnf >/dev/null || i=\"zypper -n install --allow-unsigned-rpm\"; fi"
        ),
        "d=$(mktemp -d /tmp/qb-agent.XXXXXX)".to_owned(),
        "trap \"rm -rf $d\" EXIT".to_owned(),
        // apt reads as a user of its own.
        "chmod 755 $d".to_owned(),
        "p=$d/qb-agent.$f".to_owned(),
        format!(
            "if command -v curl >/dev/null; then curl -fsS {curl}-o $p \"$u/qb-agent.$f\"; \
             else wget -q {wget}-O $p \"$u/qb-agent.$f\"; fi"
        ),
        "echo \"$s  $p\" | sha256sum -c - || { echo \"qb: not the package that this line is for; \
         nothing is installed: make the line again with qb package line\" >&2; exit 1; }"
            .to_owned(),
        "$r $i $p".to_owned(),
        format!("echo \"qb: now compare. The site words that qb-agent id prints here must be: {words}\""),
    ];
    Ok(format!("sh -c '{}'", parts.join("; ")))
}

/// The name of a site's package as a file: the vendor's with the site in it, as it is downloaded.
pub fn file_name(format: &str, version: &str, site: &qb_model::Name, arch: &str) -> String {
    match format {
        "rpm" => format!("qb-agent-{version}.{site}.{arch}.rpm"),
        _ => format!("qb-agent_{version}_{site}_{arch}.{format}"),
    }
}
