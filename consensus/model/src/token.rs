//! Join tokens (security rules 4): a token is an ed25519 key. The site knows the public half, from a
//! `token.mint` intent; the private half is in a file on the machine, signs, and never travels.
//!
//! ```text
//! machine ── knock + TokenUse{site, node, voter, nonce} signed by the token ──> voter
//! voter   ── TokenEntry{that, host, address, mint intent} signed by the voter ──> log
//! anybody ── charter, trust log, entry ──> an admin minted it, and it lets this node in
//! ```

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::action::{Action, Label};
use crate::assignment::{Citation, signed_intent};
use crate::dsse::{Purpose, SecretKey, Signer, verify};
use crate::envelope::{Envelope, EnvelopeError};
use crate::ids::{Cidr, Digest, HostGlob, HostName, Millis, NodeId, PublicKey, SiteId};
use crate::key::{KeyId, KeyKind};
use crate::statement::{Statement as _, StatementError, TokenEntry, TokenUse, read_body};
use crate::trust::TrustState;

/// Bytes of a token's file at most.
pub const SECRET_BYTES: u64 = 512;
/// First word of a token's file.
const SECRET_FORM: &str = "qb-join-token-1";

/// What a token allows, as its mint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The token's public key.
    pub token: PublicKey,
    /// Machines that it lets in.
    pub uses: u16,
    /// When it ends, by log time.
    pub expires: Millis,
    /// Host names that it is for.
    pub host: Option<HostGlob>,
    /// Where its machines knock from; everywhere if none.
    pub addresses: Vec<Cidr>,
    /// Labels of its machines.
    pub labels: Vec<Label>,
}

/// Why an entry by a token does not stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not an envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A part of it is not signed or not of its form.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Its envelope is not signed by the voter that it names, and by nobody else.
    #[error("the entry is not signed by the voter that it names, and by it alone")]
    Voter,
    /// What the token's key signed is for another site, voter or node.
    #[error("the token was used for another {0}")]
    Other(&'static str),
    /// No admin minted the token.
    #[error("no admin's intent mints the token: {0}")]
    Mint(String),
    /// The token has ended.
    #[error("the token ended at {expires} ms, site time is {at} ms")]
    Expired {
        /// When it ended.
        expires: Millis,
        /// The site's time.
        at: Millis,
    },
    /// The host name does not fit.
    #[error("the token is for hosts named {glob}, this one is {host}")]
    Host {
        /// What the mint says.
        glob: HostGlob,
        /// What the host says.
        host: HostName,
    },
    /// The address does not fit.
    #[error("the token is not for machines at {0}")]
    Address(String),
}

impl Terms {
    /// The terms of a mint; none of another action.
    pub fn of(action: &Action) -> Option<Self> {
        let Action::TokenMint { token, uses, expires_ms, host, addresses, labels } = action else {
            return None;
        };
        Some(Self {
            token: *token,
            uses: *uses,
            expires: *expires_ms,
            host: host.clone(),
            addresses: addresses.clone(),
            labels: labels.clone(),
        })
    }

    /// Whether the token lets a machine of this name in from this address at this time.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn fits(&self, host: &HostName, address: &str, at: Millis) -> Result<(), TokenError> {
        if at > self.expires {
            return Err(TokenError::Expired { expires: self.expires, at });
        }
        if let Some(glob) = self.host.as_ref().filter(|glob| !matches(glob, host)) {
            return Err(TokenError::Host { glob: glob.clone(), host: host.clone() });
        }
        let ip = address.parse::<IpAddr>().ok();
        let within = |block: &Cidr| ip.is_some_and(|ip| contains(block, ip));
        if self.addresses.is_empty() || self.addresses.iter().any(within) {
            Ok(())
        } else {
            Err(TokenError::Address(address.to_owned()))
        }
    }
}

/// An entry whose signatures by voter and token are valid. Only [`Entry::open`] makes one. Whether an
/// admin minted the token is still open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    said: TokenEntry,
    node: NodeId,
    digest: Digest,
    envelope: Vec<u8>,
}

impl Entry {
    /// Whether an envelope is one of an entry by a token, whatever is in it.
    pub fn is_one(envelope: &[u8]) -> bool {
        Envelope::parse(envelope).is_ok_and(|e| e.purpose() == Purpose::TokenEntry)
    }

    /// Reads an entry and verifies the signatures of the voter and of the token.
    ///
    /// # Errors
    /// Anything that is not exact, valid and about one and the same node.
    pub fn open(envelope: &[u8]) -> Result<Self, TokenError> {
        let read = Envelope::parse(envelope)?;
        if read.purpose() != Purpose::TokenEntry {
            return Err(TokenError::Voter);
        }
        let said: TokenEntry = read_body(read.payload())?;
        signed_by(&read, &said.voter.public_key())?;
        let used = said.token_use.open::<TokenUse>()?.into_value();
        if used.site != said.site {
            return Err(TokenError::Other("site"));
        }
        if used.voter != said.voter {
            return Err(TokenError::Other("voter"));
        }
        Ok(Self { node: used.node, digest: read.digest(), envelope: read.to_bytes(), said })
    }

    /// The node that comes in.
    pub fn node(&self) -> NodeId {
        self.node
    }
    /// The token's public key.
    pub fn token(&self) -> PublicKey {
        self.said.token_use.key
    }
    /// What the voter says.
    pub fn said(&self) -> &TokenEntry {
        &self.said
    }
    /// The entry's digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// The envelope.
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// The mint that it cites.
    ///
    /// # Errors
    /// What it carries is no envelope.
    pub fn mint(&self) -> Result<Citation, TokenError> {
        Ok(Citation { digest: Envelope::parse(&self.said.mint)?.digest(), index: self.said.mint_index })
    }

    /// Verifies that admins of its time minted the token. `trust` is the site's, at any later time.
    ///
    /// # Errors
    /// They did not, or for another key.
    pub fn terms(&self, trust: &TrustState) -> Result<Terms, TokenError> {
        if self.said.site != trust.site() {
            return Err(TokenError::Other("site"));
        }
        let cites = self.mint()?;
        let minted = signed_intent(&self.said.mint, trust, &cites, self.said.minted_at);
        let minted = minted.map_err(TokenError::Mint)?;
        let terms = Terms::of(&minted.action).filter(|terms| terms.token == self.token());
        terms.ok_or_else(|| TokenError::Mint("the intent that it cites mints another one or none".into()))
    }

    /// Verifies the whole entry as it was accepted at log time `at`: minted by admins, not ended, name
    /// and address fit. How often it was used, and whether it was ended early, the log alone tells.
    ///
    /// # Errors
    /// The first thing that does not stand.
    pub fn verify(&self, trust: &TrustState, at: Millis) -> Result<Terms, TokenError> {
        let terms = self.terms(trust)?;
        terms.fits(&self.said.host, &self.said.address, at)?;
        Ok(terms)
    }
}

fn signed_by(envelope: &Envelope, voter: &PublicKey) -> Result<(), TokenError> {
    let [line] = envelope.signatures() else { return Err(TokenError::Voter) };
    let by = KeyId { kind: KeyKind::Ed25519, key: *voter };
    let sig: [u8; 64] = line.sig.as_slice().try_into().map_err(|_| TokenError::Voter)?;
    let stands = line.keyid == by.to_string()
        && crate::key::check_public_key(voter).is_ok()
        && verify(Purpose::TokenEntry, envelope.payload(), voter, &sig);
    if stands { Ok(()) } else { Err(TokenError::Voter) }
}

/// Signs an entry as the voter that it names. The envelope's bytes.
pub fn sign_entry(said: &TokenEntry, voter: &dyn Signer) -> Vec<u8> {
    Envelope::sign(Purpose::TokenEntry, said.to_body(), &[voter]).to_bytes()
}

/// Whether a host name fits a pattern. Takes at most length times length steps.
pub fn matches(glob: &HostGlob, host: &HostName) -> bool {
    let (glob, host) = (glob.as_str().as_bytes(), host.as_str().as_bytes());
    let (mut g, mut h) = (0, 0);
    // Where the last `*` stands, and how far its text reaches for now.
    let mut star: Option<(usize, usize)> = None;
    while h < host.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, h));
                g += 1;
            }
            Some(c) if *c == b'?' || *c == host[h] => (g, h) = (g + 1, h + 1),
            _ => {
                let Some((at, reach)) = star else { return false };
                star = Some((at, reach + 1));
                (g, h) = (at + 1, reach + 1);
            }
        }
    }
    glob[g..].iter().all(|c| *c == b'*')
}

/// Address and prefix of a block whose text is well formed and has no bit set behind the prefix.
pub(crate) fn block(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, bits) = text.split_once('/')?;
    let (ip, bits) = (ip.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
    let rest = match ip {
        IpAddr::V4(v4) if bits <= 32 => u128::from(v4.to_bits()) & !mask(bits, 32),
        IpAddr::V6(v6) if bits <= 128 => v6.to_bits() & !mask(bits, 128),
        _ => return None,
    };
    (rest == 0).then_some((ip, bits))
}

/// The prefix's bits of an address of `width` bits; those above the width do not matter.
fn mask(bits: u8, width: u8) -> u128 {
    u128::MAX.checked_shl(u32::from(width - bits)).unwrap_or(0)
}

fn contains(within: &Cidr, ip: IpAddr) -> bool {
    match (block(within.as_str()), ip) {
        (Some((IpAddr::V4(net), bits)), IpAddr::V4(ip)) => {
            u128::from(net.to_bits() ^ ip.to_bits()) & mask(bits, 32) == 0
        }
        (Some((IpAddr::V6(net), bits)), IpAddr::V6(ip)) => {
            (net.to_bits() ^ ip.to_bits()) & mask(bits, 128) == 0
        }
        _ => false,
    }
}

/// A token's private half with the site that it is for.
pub struct Secret {
    /// The site.
    pub site: SiteId,
    /// The key.
    pub key: SecretKey,
}

/// The text of a token's file. It is a secret: whoever shows it gives it away.
pub fn secret_text(site: SiteId, seed: &[u8; 32]) -> String {
    format!("{SECRET_FORM} {site} {}\n", URL_SAFE_NO_PAD.encode(seed))
}

/// Reads a token's file. The error never repeats what was read.
///
/// # Errors
/// What is wrong with the form.
pub fn read_secret(text: &str) -> Result<Secret, &'static str> {
    let mut words = text.split_ascii_whitespace();
    if words.next() != Some(SECRET_FORM) {
        return Err("it does not begin with qb-join-token-1");
    }
    let site = words.next().and_then(|w| w.parse().ok()).ok_or("its second word is no site id")?;
    let mut seed = [0; 32];
    let read = words.next().and_then(|w| URL_SAFE_NO_PAD.decode_slice(w, &mut seed).ok());
    if read != Some(32) || words.next().is_some() {
        return Err("its third and last word is no key");
    }
    Ok(Secret { site, key: SecretKey::from_bytes(&seed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_host_names() {
        for (glob, host, fits) in [
            ("*", "web-1", true),
            ("web-*", "web-1", true),
            ("web-*", "db-1", false),
            ("web-?", "web-12", false),
            ("web-??", "web-12", true),
            ("*.lyon", "a.b.lyon", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("web", "web-1", false),
            ("web-1", "web", false),
            (
                "a*a*a*a*a*a*a*a*a*a*b",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                false,
            ),
        ] {
            assert_eq!(matches(&glob.parse().unwrap(), &host.parse().unwrap()), fits, "{glob} {host}");
        }
        for bad in ["", "Web*", "web 1", "[ab]"] {
            assert!(bad.parse::<HostGlob>().is_err(), "{bad}");
        }
    }

    #[test]
    fn blocks_of_addresses() {
        for (block, ip, fits) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.7/32", "192.0.2.7", true),
            ("192.0.2.7/32", "192.0.2.6", false),
            ("fd00::/8", "fdff::1", true),
            ("::/0", "fe80::1", true),
            ("2001:db8::1/128", "2001:db8::2", false),
        ] {
            assert_eq!(contains(&block.parse().unwrap(), ip.parse().unwrap()), fits, "{block} {ip}");
        }
        for bad in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0",
            "10.0.0.0/08",
            "fd00:0::/8",
            "::/129",
            "x/1",
            "10.0.0.0/+8",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_is_read_back_and_an_error_tells_nothing_of_it() {
        let site = SiteId(Digest([5; 32]));
        let text = secret_text(site, &[7; 32]);
        assert!(text.len() as u64 <= SECRET_BYTES);
        let read = read_secret(&text).ok().unwrap();
        assert_eq!(read.site, site);
        assert_eq!(read.key.public_key(), SecretKey::from_bytes(&[7; 32]).public_key());
        for bad in ["", "x", "qb-join-token-1 y z", &text[..text.len() - 3], &format!("{text} more")] {
            assert!(read_secret(bad).is_err(), "{bad}");
        }
    }
}
