//! Identifiers. Each is a newtype that is valid by construction; text forms are the ones of
//! the signed formats.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a valid identifier. The message names the rule, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {kind}: {rule}")]
pub struct IdError {
    /// What was expected, in the project's words.
    pub kind: &'static str,
    /// The offending text, cut to 80 characters.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl IdError {
    pub(crate) fn new(kind: &'static str, value: &str, rule: &'static str) -> Self {
        Self { kind, value: value.chars().take(80).collect(), rule }
    }
}

/// Decodes exactly 32 bytes from unpadded base64url with zero trailing bits.
fn decode_32(kind: &'static str, text: &str) -> Result<[u8; 32], IdError> {
    const RULE: &str = "32 bytes as base64url without padding (43 characters)";
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| IdError::new(kind, text, RULE))?;
    <[u8; 32]>::try_from(bytes).map_err(|_| IdError::new(kind, text, RULE))
}

macro_rules! bytes_32 {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                decode_32($kind, text).map(Self)
            }
        }
        // JSON and TOML carry the text, postcard the 32 bytes.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(de::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

bytes_32!(
    /// SHA-256 over something signed (its PAE) or over a document.
    Digest, "digest"
);
bytes_32!(
    /// An ed25519 public key as 32 bytes. Not checked for weakness: see `key::check_public_key`.
    PublicKey, "public key"
);
bytes_32!(
    /// A node's ed25519 public key, which is also its libp2p identity.
    NodeId, "node id"
);
bytes_32!(
    /// A node's or an admin's X25519 public key, to which secrets are sealed.
    SealKey, "seal key"
);

bytes_32!(
    /// 32 bytes that are used once: what a challenge asks to be signed.
    Nonce, "nonce"
);

/// 16 bytes that are used once. Text: base64url without padding, 22 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce16(pub [u8; 16]);

impl fmt::Display for Nonce16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}
impl fmt::Debug for Nonce16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce16({self})")
    }
}
impl FromStr for Nonce16 {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| b.try_into().ok());
        bytes.map(Self).ok_or_else(|| IdError::new("nonce", text, "16 bytes as base64url without padding"))
    }
}
impl Serialize for Nonce16 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}
impl<'de> Deserialize<'de> for Nonce16 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(deserializer).map(Self)
        }
    }
}

impl NodeId {
    /// The node's signing key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0)
    }
}

/// A site: the digest of its charter. Text: `qb1` and 52 lower-case base32 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub Digest);

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("qb1")?;
        let (mut acc, mut bits) = (0u32, 0u32);
        for byte in self.0.0 {
            acc = (acc << 8) | u32::from(byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                let index = (acc >> bits) & 31;
                write!(f, "{}", BASE32[index as usize] as char)?;
            }
            acc &= (1 << bits) - 1;
        }
        // 256 bits are 51 characters and one bit; the last character carries it, left aligned.
        write!(f, "{}", BASE32[((acc << (5 - bits)) & 31) as usize] as char)
    }
}
impl fmt::Debug for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteId({self})")
    }
}
impl FromStr for SiteId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        const RULE: &str = "qb1 and 52 characters of a-z and 2-7";
        let fail = || IdError::new("site id", text, RULE);
        let body = text.strip_prefix("qb1").filter(|b| b.len() == 52).ok_or_else(fail)?;
        let (mut out, mut at, mut acc, mut bits) = ([0u8; 32], 0, 0u32, 0u32);
        for c in body.bytes() {
            let value = BASE32.iter().position(|b| *b == c).ok_or_else(fail)?;
            acc = (acc << 5) | value as u32;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                let slot = out.get_mut(at).ok_or_else(fail)?;
                *slot = (acc >> bits) as u8;
                at += 1;
                acc &= (1 << bits) - 1;
            }
        }
        if at != 32 || acc != 0 {
            return Err(fail());
        }
        Ok(Self(Digest(out)))
    }
}
impl Serialize for SiteId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}
impl<'de> Deserialize<'de> for SiteId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            Digest::deserialize(deserializer).map(Self)
        }
    }
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(IdError::new($kind, text, $rule)) }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

fn is_name(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

checked_text!(
    /// The name of a site, cluster, admin, driver or publisher.
    Name, "name", "1 to 63 of a-z, 0-9 and -, not - at either end", is_name
);
checked_text!(
    /// A machine's host name as the machine says it, lower case, dots allowed.
    HostName, "host name", "1 to 63 of a-z, 0-9, - and ., each part a name",
    |t| t.len() <= 63 && !t.is_empty() && t.split('.').all(is_name)
);
checked_text!(
    /// Host names that a join token is for: `*` stands for any characters, `?` for one.
    HostGlob, "host pattern", "1 to 63 of a-z, 0-9, -, ., * and ?",
    |t| (1..=63).contains(&t.len())
        && t.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.*?".contains(&c))
);
checked_text!(
    /// A block of addresses: `10.1.0.0/16`, `fd00::/8`. No bit is set behind the prefix.
    Cidr, "address block", "an address and a prefix length, as in 10.1.0.0/16, with no bit set behind the prefix",
    |t| crate::token::block(t).is_some_and(|(ip, bits)| format!("{ip}/{bits}") == t)
);
fn is_endpoint(text: &str) -> bool {
    let number = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
    // What ends in a number is an address or nothing: no program takes it for a name.
    if text.rsplit('.').next().is_some_and(number) {
        return text.parse::<std::net::Ipv4Addr>().is_ok();
    }
    text.len() <= 253 && text.split('.').all(is_name)
}

checked_text!(
    /// Where an API server is reached: a host name or an IPv4 address, without port.
    Endpoint, "endpoint", "a host name in lower case or an IPv4 address, without port", is_endpoint
);
checked_text!(
    /// A label for people on an intent: a ULID, 26 characters of Crockford base32, upper case.
    /// Never the replay key, which is the [`Digest`].
    IntentId, "intent id", "a ULID: 26 characters of Crockford base32 in upper case, at most 7ZZZ...",
    |t| t.len() == 26
        && t.bytes().all(|c| matches!(c, b'0'..=b'9' | b'A'..=b'H' | b'J' | b'K' | b'M' | b'N' | b'P'..=b'T' | b'V'..=b'Z'))
        && t.as_bytes()[0] <= b'7'
);
checked_text!(
    /// A version of a driver's software, `1.2.3` with an optional `-suffix`.
    Version, "version", "three numbers joined by dots, optionally - and letters, digits or dots; at most 32 characters",
    |t| {
        let (core, suffix) = t.split_once('-').map_or((t, None), |(a, b)| (a, Some(b)));
        t.len() <= 32
            && core.split('.').count() == 3
            && core.split('.').all(|p| !p.is_empty() && p.len() <= 6 && p.bytes().all(|c| c.is_ascii_digit()))
            && suffix.is_none_or(|s| !s.is_empty() && s.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'.' || c == b'-'))
    }
);

impl Version {
    /// Which of two versions is newer, as semantic versions order them: by numbers, and one with a
    /// suffix before the same without. (`Ord` is the order of the texts, for maps.)
    pub fn precedence(&self, other: &Self) -> Ordering {
        let split = |t: &Self| {
            let (core, suffix) = t.0.split_once('-').map_or((t.0.as_str(), None), |(a, b)| (a, Some(b)));
            // Checked when it was made: three numbers of at most six digits.
            let numbers: Vec<u32> = core.split('.').filter_map(|p| p.parse().ok()).collect();
            (numbers, suffix.map(|s| s.split('.').map(str::to_owned).collect::<Vec<_>>()))
        };
        let ((a, a_suffix), (b, b_suffix)) = (split(self), split(other));
        a.cmp(&b).then_with(|| match (a_suffix, b_suffix) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => suffixes(&a, &b),
        })
    }
}

/// Identifiers from left to right: numbers by value and before texts, fewer before more.
fn suffixes(a: &[String], b: &[String]) -> Ordering {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|c| c.is_ascii_digit());
    let one = |(a, b): (&String, &String)| match (digits(a), digits(b)) {
        (true, true) => {
            let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        }
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.cmp(b),
    };
    a.iter().zip(b).map(one).find(|o| o.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// How often an object changed. Only grows; survives deletion and re-creation under the same name.
    Generation
);
impl Generation {
    /// The next generation.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
number!(
    /// A voter's or learner's number in the Raft group: from the log, never used again, not a [`NodeId`].
    RaftId
);
number!(
    /// Milliseconds since the Unix epoch, UTC.
    Millis
);
impl Millis {
    /// `self + ms`, saturating.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Milliseconds from `earlier` to `self`, 0 if it is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn site_id_text_round_trips() {
        for seed in 0..=255u8 {
            let id = SiteId(Digest([seed; 32]));
            assert_eq!(id.to_string().len(), 55);
            assert_eq!(id.to_string().parse::<SiteId>(), Ok(id));
        }
    }

    #[test]
    fn trailing_bits_are_refused() {
        let good = SiteId(Digest([0; 32])).to_string();
        let bad = format!("{}b", &good[..54]);
        assert!(bad.parse::<SiteId>().is_err());
        assert!(format!("{}B", "A".repeat(42)).parse::<Digest>().is_err());
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let sorted =
            ["0.9.9", "0.10.0-1", "0.10.0-2", "0.10.0-10", "0.10.0-rc", "0.10.0-rc.1", "0.10.0", "1.0.0"];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                let (a, b): (Version, Version) = (a.parse().unwrap(), b.parse().unwrap());
                assert_eq!(a.precedence(&b), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "clus100", "a-b", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", &"a".repeat(64), "a\n", "$(x)"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
