//! What both ends sign into the handshake.
//!
//! Rule for changing this file: these are signed bytes. A change to a struct is a new type.

use qb_model::dsse::Purpose;
use qb_model::statement::Statement;
use qb_model::{NodeId, PublicKey, SiteId};
use serde::{Deserialize, Serialize};

use crate::limits::{HOST_BYTES, VERSIONS};

/// An X25519 key of one process, for Noise only.
pub type NoiseKey = [u8; 32];

/// The relay's end: message 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRelay {
    /// 1.
    pub v: u8,
    /// The relay: the pin.
    pub relay: PublicKey,
    /// Its Noise key of this handshake.
    pub noise: NoiseKey,
    /// The host that it was asked for.
    pub host: String,
    /// The versions that it speaks, sorted.
    pub versions: Vec<u16>,
}

/// The node's end: message 3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkAgent {
    /// 1.
    pub v: u8,
    /// The site.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// Its Noise key of this handshake.
    pub noise: NoiseKey,
    /// How often the node's agent was started.
    pub incarnation: u64,
    /// The site's epoch.
    pub epoch: u64,
    /// The relay that it means to speak to.
    pub relay: PublicKey,
    /// The versions that it offered, sorted.
    pub versions: Vec<u16>,
}

impl Statement for LinkRelay {
    const PURPOSE: Purpose = Purpose::LinkRelay;
    const MAX: usize = 512;

    fn version(&self) -> u8 {
        self.v
    }

    fn signer(&self) -> Option<PublicKey> {
        Some(self.relay)
    }

    fn check(&self) -> Result<(), &'static str> {
        check_host(&self.host)?;
        check_versions(&self.versions)
    }
}

impl Statement for LinkAgent {
    const PURPOSE: Purpose = Purpose::LinkAgent;
    const MAX: usize = 512;

    fn version(&self) -> u8 {
        self.v
    }

    fn signer(&self) -> Option<PublicKey> {
        Some(self.node.public_key())
    }

    fn check(&self) -> Result<(), &'static str> {
        check_versions(&self.versions)
    }
}

/// A host as the header `Host` has it: visible ASCII, in lower case.
pub(crate) fn check_host(host: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_graphic() && !b.is_ascii_uppercase();
    if (1..=HOST_BYTES).contains(&host.len()) && host.bytes().all(plain) {
        Ok(())
    } else {
        Err("host is not 1 to 259 visible characters in lower case")
    }
}

pub(crate) fn check_versions(versions: &[u16]) -> Result<(), &'static str> {
    let sorted = versions.windows(2).all(|pair| pair[0] < pair[1]);
    if (1..=VERSIONS).contains(&versions.len()) && sorted {
        Ok(())
    } else {
        Err("versions are not 1 to 8, sorted and unique")
    }
}

/// The newest version that both ends speak.
pub(crate) fn common(ours: &[u16], theirs: &[u16]) -> Option<u16> {
    ours.iter().rev().find(|version| theirs.contains(version)).copied()
}
