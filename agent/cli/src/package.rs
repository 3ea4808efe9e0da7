//! What a package of a site is worth: whose it is, which relays it names, and whether it is the vendor's
//! but for that. Pure.

use std::ops::Range;

use qb_model::charter::{Charter, CharterRelay};
use qb_model::enrolment::Enrolment;
use qb_model::words::{fingerprint, words};
use qb_model::{Name, SiteId};
use qb_package::{Difference, Format, Vendor, digest, extract_site_file, verify_for};

use crate::error::{CliError, sentence};

/// A package that holds an enrolment file. Nothing else of it is verified yet.
#[derive(Debug, Clone)]
pub struct SitePackage {
    bytes: Vec<u8>,
    format: Format,
    file: Vec<u8>,
    enrolment: Enrolment,
}

fn site_words(id: SiteId) -> String {
    words(&id.0.0).join(" ")
}

/// `bytes 10..20` of a part of a package.
fn said(range: Option<Range<usize>>) -> String {
    range.map(|r| format!("bytes {}..{}: ", r.start, r.end)).unwrap_or_default()
}

impl SitePackage {
    /// Takes the enrolment file out of a package.
    ///
    /// # Errors
    /// It is no package of a site, or what it holds is no enrolment file.
    pub fn read(bytes: Vec<u8>) -> Result<Self, CliError> {
        let wrong = |why: String| CliError::failed(format!("This is no package of a site: {why}."));
        let file = extract_site_file(&bytes)
            .map_err(|e| wrong(e.to_string()).remedy("get the site's from its relay: qb package fetch"))?;
        let format = Format::of(&bytes).ok_or_else(|| wrong("neither a deb nor an rpm".to_owned()))?;
        let enrolment = Enrolment::parse(&file).map_err(|e| {
            let at = said(find(&bytes, &file));
            wrong(format!("{at}its enrolment file is not valid: {e}"))
        })?;
        Ok(Self { bytes, format, file, enrolment })
    }

    /// Its format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What it holds.
    pub fn enrolment(&self) -> &Enrolment {
        &self.enrolment
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the whole package in hex.
    pub fn sha256(&self) -> String {
        digest(&self.bytes)
    }

    /// Whether it is for this site.
    ///
    /// # Errors
    /// It is another's: names the words of both.
    pub fn check_site(&self, name: &Name, id: SiteId) -> Result<(), CliError> {
        let theirs = self.enrolment.site;
        if theirs == id {
            return Ok(());
        }
        let at = said(find(&self.bytes, &self.enrolment.charter));
        let called = Charter::verify(&self.enrolment.charter).map(|c| c.body().name.to_string());
        Err(CliError::refused(format!(
            "{at}the charter is of another site, {}: a machine with this package never knocks at {name}.",
            called.unwrap_or_else(|_| theirs.to_string())
        ))
        .remedy(format!(
            "its words:      {}\nwords of {name}: {}",
            site_words(theirs),
            site_words(id)
        )))
    }

    /// The relays in it that are not among these.
    pub fn strangers(&self, trusted: &[CharterRelay]) -> Vec<&CharterRelay> {
        self.enrolment.relays.iter().filter(|relay| !trusted.contains(relay)).collect()
    }

    /// Says that relays are not the site's.
    pub fn stranger(&self, name: &Name, relay: &CharterRelay) -> CliError {
        let key = relay.key.to_string();
        let at = said(find(&self.bytes, key.as_bytes()));
        CliError::refused(format!(
            "{at}the package names the relay {} with the key {}, which {name} does not trust.",
            relay.url,
            fingerprint(&relay.key.0)
        ))
        .remedy("do not install this package; those that it trusts: qb relay list")
    }

    /// Whether the rest is the vendor's, byte for byte.
    ///
    /// # Errors
    /// It is not: names the part and the bytes.
    pub fn check_vendor(&self, vendor: &Vendor) -> Result<(), CliError> {
        verify_for(&self.bytes, vendor, &self.file).map_err(|difference| differs(&difference))
    }
}

/// What differs, as an error.
fn differs(difference: &Difference) -> CliError {
    let also: Vec<String> = difference.also.iter().take(4).map(ToString::to_string).collect();
    let also = if also.is_empty() { String::new() } else { format!("also different: {}\n", also.join(", ")) };
    CliError::failed(sentence(&difference.to_string())).remedy(format!(
        "{also}do not install it, unless the vendor's package is of another version than this one"
    ))
}

/// Where some bytes lie, looked for from the end, where the enrolment file is.
fn find(bytes: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let at = bytes.windows(part.len().max(1)).rposition(|window| window == part)?;
    Some(at..at + part.len())
}
