//! The document that a door hands out, and the same in bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Unverified;
use crate::envelope::Envelope;
use crate::ids::{Digest, Millis, PublicKey};
use crate::key::Signature;
use crate::limits::{ATTESTED_INTENTS, ENVELOPE_BYTES, TRUST_ENTRIES, VOTER_LINKS, VOTER_SIGNATURES};
use crate::trust::TrustEntry;

/// Bytes of a body that voters sign, as base64: both kinds have at most 512.
const BODY_TEXT: usize = 512 * 4 / 3 + 4;
/// Removals are taken above the bound of the trust log, so a log can be longer; not twice as long.
const TRUST_LINES: usize = 2 * TRUST_ENTRIES;

/// A signature as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureLine {
    /// The voter's key.
    pub key: PublicKey,
    /// 64 bytes, base64 of the standard alphabet.
    pub sig: String,
}

/// A body with its signatures, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyLine {
    /// The signed bytes, base64 of the standard alphabet.
    pub body: String,
    /// Who signed.
    pub signatures: Vec<SignatureLine>,
}

/// An intent with its place, as JSON: an entry of the trust log, or an authorization of a voter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryLine {
    /// Its record in the audit chain.
    pub index: u64,
    /// Log time when it was applied.
    pub log_time: Millis,
    /// Its envelope (JSON text).
    pub envelope: String,
}

/// Everything that is needed to verify a site's view from its charter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Version of this document: 1.
    pub v: u8,
    /// The charter's envelope (JSON text).
    pub charter: String,
    /// The trust log, oldest first. Digests and heads follow from it.
    pub trust: Vec<EntryLine>,
    /// Envelope of the founding intent (JSON text); none before founding.
    pub founding: Option<String>,
    /// The intents that let the present voters in; not the founding one.
    pub roster: Vec<EntryLine>,
    /// The links from the founding set to the present one, oldest first.
    pub voters: Vec<BodyLine>,
    /// The newest checkpoint that a majority signed; none if there is none yet.
    pub checkpoint: Option<BodyLine>,
    /// Why there is no newer one, as the answering node sees it. A hint for people: not signed.
    pub why: Option<String>,
}

/// Bytes that several nodes sign.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SignedBody {
    /// The signed bytes.
    pub body: Vec<u8>,
    /// Signatures, unverified.
    pub signatures: Vec<KeySignature>,
}

/// A signature and whose it is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySignature {
    /// The key.
    pub key: PublicKey,
    /// The signature.
    pub sig: Signature,
}

/// An intent's envelope and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CitedEnvelope {
    /// Its record in the audit chain.
    pub index: u64,
    /// Log time when it was applied.
    pub log_time: Millis,
    /// The envelope.
    pub envelope: Vec<u8>,
}

/// An [`Attestation`] in bytes: bounded and decoded, nothing verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The charter's envelope.
    pub charter: Vec<u8>,
    /// The trust log.
    pub trust: Vec<TrustEntry>,
    /// Envelope of the founding intent.
    pub founding: Option<Vec<u8>>,
    /// The intents that let the present voters in.
    pub roster: Vec<CitedEnvelope>,
    /// Links from the founding set.
    pub voters: Vec<SignedBody>,
    /// The newest checkpoint.
    pub checkpoint: Option<SignedBody>,
    /// The door's hint why there is no newer one.
    pub why: Option<String>,
}

fn text(bytes: &[u8]) -> String {
    // An envelope is JSON text: strict parsing took it before it got anywhere.
    String::from_utf8_lossy(bytes).into_owned()
}

fn bound(what: &str, have: usize, most: usize) -> Result<(), Unverified> {
    let fail = || Unverified::Form(format!("{have} {what}, {most} at most"));
    if have <= most { Ok(()) } else { Err(fail()) }
}

fn base64(what: &str, text: &str) -> Result<Vec<u8>, Unverified> {
    STANDARD.decode(text).map_err(|_| Unverified::Form(format!("{what} is not canonical base64")))
}

impl From<&SignedBody> for BodyLine {
    fn from(signed: &SignedBody) -> Self {
        let line = |s: &KeySignature| SignatureLine { key: s.key, sig: STANDARD.encode(s.sig.0) };
        Self { body: STANDARD.encode(&signed.body), signatures: signed.signatures.iter().map(line).collect() }
    }
}

impl SignedBody {
    fn read(line: &BodyLine) -> Result<Self, Unverified> {
        bound("bytes of a signed body", line.body.len(), BODY_TEXT)?;
        bound("signatures", line.signatures.len(), VOTER_SIGNATURES)?;
        let one = |s: &SignatureLine| {
            bound("characters of a signature", s.sig.len(), 88)?;
            let sig = base64("a signature", &s.sig)?.try_into();
            let sig = sig.map_err(|_| Unverified::Form("a signature has not 64 bytes".into()))?;
            Ok(KeySignature { key: s.key, sig: Signature(sig) })
        };
        let signatures = line.signatures.iter().map(one).collect::<Result<_, _>>()?;
        Ok(Self { body: base64("a signed body", &line.body)?, signatures })
    }
}

impl Attestation {
    /// Decodes what is base64 and derives digests and heads. Verifies nothing.
    ///
    /// # Errors
    /// A bound or a form is broken.
    pub fn decode(&self) -> Result<Proof, Unverified> {
        if self.v != 1 {
            return Err(Unverified::Form(format!("its version is {}, this program reads 1", self.v)));
        }
        bound("bytes of a charter", self.charter.len(), ENVELOPE_BYTES)?;
        bound("entries of the trust log", self.trust.len(), TRUST_LINES)?;
        bound("authorizations", self.roster.len(), ATTESTED_INTENTS)?;
        bound("links of voters", self.voters.len(), VOTER_LINKS)?;
        let envelopes = self.trust.iter().chain(&self.roster).map(|l| l.envelope.len());
        for len in envelopes.chain(self.founding.iter().map(String::len)) {
            bound("bytes of an envelope", len, ENVELOPE_BYTES)?;
        }
        let cited = |l: &EntryLine| CitedEnvelope {
            index: l.index,
            log_time: l.log_time,
            envelope: l.envelope.clone().into_bytes(),
        };
        Ok(Proof {
            charter: self.charter.clone().into_bytes(),
            trust: entries(&self.charter, &self.trust)?,
            founding: self.founding.clone().map(String::into_bytes),
            roster: self.roster.iter().map(cited).collect(),
            voters: self.voters.iter().map(SignedBody::read).collect::<Result<_, _>>()?,
            checkpoint: self.checkpoint.as_ref().map(SignedBody::read).transpose()?,
            why: self.why.clone(),
        })
    }
}

/// The entries of a trust log: `parent` and `digest` are derived, so that they cannot be lied about.
fn entries(charter: &str, lines: &[EntryLine]) -> Result<Vec<TrustEntry>, Unverified> {
    let digest = |text: &str| -> Result<Digest, Unverified> {
        Envelope::parse(text.as_bytes()).map(|e| e.digest()).map_err(|e| Unverified::Form(e.to_string()))
    };
    let mut head = digest(charter)?;
    let mut all = Vec::with_capacity(lines.len());
    for line in lines {
        let entry = TrustEntry {
            parent: head,
            digest: digest(&line.envelope)?,
            index: line.index,
            log_time: line.log_time,
            envelope: line.envelope.clone().into_bytes(),
        };
        head = entry.head();
        all.push(entry);
    }
    Ok(all)
}

impl From<&Proof> for Attestation {
    fn from(proof: &Proof) -> Self {
        let entry =
            |e: &TrustEntry| EntryLine { index: e.index, log_time: e.log_time, envelope: text(&e.envelope) };
        let cited = |c: &CitedEnvelope| EntryLine {
            index: c.index,
            log_time: c.log_time,
            envelope: text(&c.envelope),
        };
        Self {
            v: 1,
            charter: text(&proof.charter),
            trust: proof.trust.iter().map(entry).collect(),
            founding: proof.founding.as_deref().map(text),
            roster: proof.roster.iter().map(cited).collect(),
            voters: proof.voters.iter().map(BodyLine::from).collect(),
            checkpoint: proof.checkpoint.as_ref().map(BodyLine::from),
            why: proof.why.clone(),
        }
    }
}
