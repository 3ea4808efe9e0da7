//! A site made by hand: charter, trust log, upgrades that are signed, bundles.

use qb_drivers::agent::{Programs, build_agent_bundle};
use qb_drivers::bundle::{Unsigned, manifest_digest};
use qb_model::action::{Action, KeyClass, NewKey};
use qb_model::agent_order::{AgentGrounds, AgentOrder};
use qb_model::assignment::Citation;
use qb_model::charter::{Charter, CharterBody, Founder};
use qb_model::dsse::{SecretKey, Signer};
use qb_model::envelope::Envelope;
use qb_model::ids::{Digest, Generation, Millis, NodeId, Nonce16, SealKey, SiteId, Version};
use qb_model::intent::{Anchor, Expect, Intent};
use qb_model::statement::{SealKeyRecord, SignedBytes, Statement as _};
use qb_model::trust::{TrustEntry, replay_log, required};
use sha2::{Digest as _, Sha256};

const HOUR: u64 = 3_600_000;
const NOW: u64 = 1_750_000_000_000;

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

pub(crate) fn node() -> NodeId {
    NodeId(key(101).public_key().0)
}

/// A bundle as it is pushed.
#[derive(Clone)]
pub(crate) struct Built {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) version: Version,
}

/// A site that trusts publisher 50.
pub(crate) struct Signed {
    charter: Charter,
    trust: Vec<TrustEntry>,
}

impl Signed {
    pub(crate) fn new() -> Self {
        let mira = NewKey { key: key(1).public_key(), class: KeyClass::Cli, expires_ms: None };
        let body = CharterBody {
            v: 1,
            name: "lyon".parse().unwrap(),
            nonce: Nonce16([3; 16]),
            founders: vec![Founder { admin: "mira".parse().unwrap(), name: "Mira".into(), keys: vec![mira] }],
            recovery: None,
            relays: vec![],
            issued_ms: Millis(NOW - HOUR),
        };
        let charter = Charter::verify(&body.sign(&[&key(1)]).to_bytes()).unwrap();
        let mut site = Self { charter, trust: Vec::new() };
        let (publisher, key) = ("kubex".parse().unwrap(), key(50).public_key());
        site.trusts(Action::PublisherAdd { publisher, key });
        site
    }

    pub(crate) fn id(&self) -> SiteId {
        self.charter.site_id()
    }

    fn envelope(&self, number: u64, action: Action) -> Envelope {
        let trust = replay_log(&self.charter, &self.trust).unwrap();
        let names = required(&action).names_trust;
        let intent = Intent {
            v: 1,
            site: self.id(),
            id: format!("01JD00000000000000000000{number:02}").parse().unwrap(),
            by: "mira".parse().unwrap(),
            issued_ms: Millis(NOW),
            expires_ms: Millis(NOW + HOUR),
            anchor: Anchor::founding(self.id()),
            after: None,
            expect: names.then(|| Expect::Trust { hash: trust.head() }).into_iter().collect(),
            action,
            note: None,
        };
        intent.sign(&[&key(1) as &dyn Signer]).unwrap()
    }

    /// Adds an entry to the trust log.
    pub(crate) fn trusts(&mut self, action: Action) {
        let parent = replay_log(&self.charter, &self.trust).unwrap().head();
        let index = 2 + self.trust.len() as u64;
        let envelope = self.envelope(index, action);
        let (digest, log_time, envelope) = (envelope.digest(), Millis(NOW), envelope.to_bytes());
        self.trust.push(TrustEntry { parent, digest, index, log_time, envelope });
    }

    fn upgrade(&self, of: (Digest, &Version)) -> Envelope {
        let (bundle, version) = (of.0, of.1.clone());
        self.envelope(20, Action::AgentUpgrade { bundle, version, first: vec![node()], batch: 1 })
    }

    /// The order to bring in a bundle.
    pub(crate) fn order(&self, generation: u64, built: &Built) -> AgentOrder {
        let cites = Citation { digest: self.upgrade((built.digest, &built.version)).digest(), index: 20 };
        AgentOrder {
            site: self.id(),
            node: node(),
            generation: Generation(generation),
            bundle: built.digest,
            version: built.version.clone(),
            cites,
        }
    }

    /// What an order for a bundle of this version rests on.
    pub(crate) fn grounds(&self, bundle: Digest, version: &Version) -> AgentGrounds {
        AgentGrounds {
            charter: self.charter.envelope().to_vec(),
            trust_log: self.trust.clone(),
            upgrade: (self.upgrade((bundle, version)).to_bytes(), Millis(NOW)),
        }
    }

    /// The node's seal key record.
    pub(crate) fn record(&self, seal: SealKey) -> SignedBytes {
        let not_after = Millis(u64::from(u32::MAX) * 1_000);
        SealKeyRecord { v: 1, site: self.id(), node: node(), key: seal, seq: 1, not_after }.sign(&key(101))
    }

    /// A bundle of the agent for machines like this one, signed by a key.
    pub(crate) fn build(&self, version: &str, by: u8) -> Built {
        self.build_by(version, &[by])
    }

    pub(crate) fn build_by(&self, version: &str, by: &[u8]) -> Built {
        let machine = if std::env::consts::ARCH == "aarch64" { 183 } else { 62 };
        built(version, machine, by)
    }

    pub(crate) fn build_for(&self, version: &str, machine: u16) -> Built {
        built(version, if std::env::consts::ARCH == "aarch64" { 62 } else { machine }, &[50])
    }

    /// A bundle of a cluster.
    pub(crate) fn rehearsal(&self, version: &str) -> Built {
        let version: Version = version.parse().unwrap();
        let (manifest, artifacts) = qb_drivers::build_rehearsal_bundle(&version, Millis(1)).unwrap();
        together(&manifest, &artifacts, &[&key(50)], version)
    }
}

fn built(version: &str, machine: u16, by: &[u8]) -> Built {
    let (agent, exec) =
        (elf(machine, &format!("qb-agent {version}")), elf(machine, &format!("qb-exec {version}")));
    let version: Version = version.parse().unwrap();
    let programs = Programs { agent: &agent, exec: &exec };
    let oldest = "0.1.0".parse().unwrap();
    let (manifest, artifacts) = build_agent_bundle(&version, &oldest, Millis(5), &programs).unwrap();
    let keys: Vec<SecretKey> = by.iter().map(|seed| key(*seed)).collect();
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as &dyn Signer).collect();
    together(&manifest, &artifacts, &signers, version)
}

fn together(unsigned: &Unsigned, artifacts: &[u8], signers: &[&dyn Signer], version: Version) -> Built {
    let mut bytes = unsigned.sign(signers);
    bytes.extend_from_slice(artifacts);
    Built { bytes, digest: manifest_digest(&unsigned.manifest), version }
}

/// An executable by its head, with content that does not pack well.
fn elf(machine: u16, text: &str) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend_from_slice(&3u16.to_le_bytes());
    file.extend_from_slice(&machine.to_le_bytes());
    let mut block: [u8; 32] = Sha256::digest(text).into();
    for _ in 0..64 {
        file.extend_from_slice(&block);
        block = Sha256::digest(block).into();
    }
    file
}
