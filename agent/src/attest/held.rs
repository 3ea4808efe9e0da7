//! What a member keeps: the chain of voters on disk, the newest checkpoint in memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use qb_model::attest::{Ballot, Link, SignedBody, VoterSet, reach};
use qb_model::charter::Charter;
use qb_model::dsse::Purpose;
use qb_model::statement::Checkpoint;
use qb_model::trust::TrustState;

use super::capture::Captures;
use crate::files::{self, FileError};
use crate::rpc::{ProofAnswer, ProofRequest, VoterChain};

/// The file's name in the agent's directory.
pub const FILE: &str = "voters";
/// Most bytes of the file: what one message between members carries.
const MAX_BYTES: u64 = 1 << 20;

/// Why a chain is not kept.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// It does not verify.
    #[error(transparent)]
    Unverified(#[from] qb_model::attest::Unverified),
    /// It cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It would fit into no message.
    #[error("the chain of voters has over 1 MiB")]
    TooLarge,
}

/// A chain and the set that it leads to.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The chain.
    pub chain: VoterChain,
    /// The last set.
    pub set: VoterSet,
}

#[derive(Default)]
struct Inner {
    reached: Option<Reached>,
    checkpoint: Option<SignedBody>,
    /// Place of the checkpoint: epoch, index, time. It never goes back.
    place: (u64, u64, u64),
    why: Option<String>,
}

/// What voters signed, as this member has it.
pub struct Attest {
    /// States at indices that are signed.
    pub captures: Arc<Captures>,
    path: PathBuf,
    /// The charter's own trust: founding intents are judged under it.
    trust: TrustState,
    inner: Mutex<Inner>,
}

impl Attest {
    /// Reads what is on disk and verifies it again.
    ///
    /// # Errors
    /// The charter is none. A damaged file is no error: the chain can be had from other members.
    pub fn open(state: &Path, charter: &[u8], captures: Arc<Captures>) -> anyhow::Result<Self> {
        let trust = TrustState::from_charter(&Charter::verify(charter)?);
        let path = state.join(FILE);
        let attest = Self { captures, path, trust, inner: Mutex::default() };
        if let Some(bytes) = files::read_bounded(&attest.path, MAX_BYTES)? {
            let chain: Option<VoterChain> = postcard::from_bytes(&bytes).ok();
            let reached = chain.filter(|c| c.v == 1).map(|c| attest.reach(c)).transpose();
            match reached {
                Ok(Some(reached)) => attest.lock().reached = Some(reached),
                _ => {
                    let path = attest.path.display();
                    tracing::warn!(%path, "the chain of voters is damaged: asking other members");
                }
            }
        }
        Ok(attest)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code that holds the lock can panic")
    }

    fn reach(&self, chain: VoterChain) -> Result<Reached, HeldError> {
        let set = reach(&self.trust, &chain.founding, &chain.links)?;
        Ok(Reached { chain, set })
    }

    /// The chain and its last set.
    pub fn reached(&self) -> Option<Reached> {
        self.lock().reached.clone()
    }

    /// The last set.
    pub fn set(&self) -> Option<VoterSet> {
        self.lock().reached.as_ref().map(|r| r.set.clone())
    }

    /// Verifies a chain and keeps it on disk if it is longer than the one held, or if it is another of
    /// the same length and `preferred`: two leaders may each have finished a link, and the one that
    /// leads now goes on from its own.
    ///
    /// # Errors
    /// It does not verify or cannot be written; the one held stays.
    pub fn adopt(&self, chain: VoterChain, preferred: bool) -> Result<bool, HeldError> {
        let new = self.reach(chain)?;
        let mut inner = self.lock();
        let better = inner.reached.as_ref().is_none_or(|held| {
            new.set.seq > held.set.seq
                || (preferred && new.set.seq == held.set.seq && new.set.digest != held.set.digest)
        });
        if better {
            let bytes = postcard::to_stdvec(&new.chain).unwrap_or_default();
            if bytes.is_empty() || bytes.len() as u64 > MAX_BYTES {
                return Err(HeldError::TooLarge);
            }
            files::write_atomic(&self.path, &bytes, 0o600)?;
            inner.reached = Some(new);
        }
        Ok(better)
    }

    /// Appends a link that a majority of the last set signed.
    ///
    /// # Errors
    /// As [`Self::adopt`].
    pub fn append(
        &self,
        link: Link,
        roster: Vec<qb_model::attest::CitedEnvelope>,
    ) -> Result<bool, HeldError> {
        let Some(Reached { mut chain, .. }) = self.reached() else { return Ok(false) };
        chain.links.push(link);
        chain.roster = roster;
        self.adopt(chain, true)
    }

    /// Keeps a checkpoint if a majority of the last set signed it and it is newer.
    pub fn keep(&self, signed: SignedBody) -> bool {
        let Some(set) = self.set() else { return false };
        let Some(body) = read(&signed) else { return false };
        if body.site != set.site || body.epoch != set.epoch || body.voters_seq != set.seq {
            return false;
        }
        if !Ballot::count(Purpose::Checkpoint, &signed, &set.nodes).is_majority() {
            return false;
        }
        let mut inner = self.lock();
        let place = (body.epoch, body.index, body.log_time.0);
        let newer = inner.checkpoint.is_none() || place > inner.place;
        if newer {
            (inner.checkpoint, inner.place) = (Some(signed), place);
        }
        newer
    }

    /// The newest checkpoint that a majority signed.
    pub fn checkpoint(&self) -> Option<SignedBody> {
        self.lock().checkpoint.clone()
    }

    /// Why there is no newer one.
    pub fn why(&self) -> Option<String> {
        self.lock().why.clone()
    }

    /// Notes why there is no newer one; says it in the log when it is something new.
    pub fn note(&self, why: Option<String>) {
        let mut inner = self.lock();
        if inner.why != why {
            match &why {
                Some(why) => tracing::warn!("no new checkpoint: {why}"),
                None => tracing::info!("voters sign checkpoints again"),
            }
            inner.why = why;
        }
    }

    /// What another member asks for.
    pub fn proof(&self, asked: &ProofRequest) -> ProofAnswer {
        let inner = self.lock();
        let reached = inner.reached.as_ref().filter(|r| asked.voters != Some(r.set.digest));
        ProofAnswer {
            chain: reached.map(|r| r.chain.clone()),
            checkpoint: inner.checkpoint.clone(),
            why: inner.why.clone(),
        }
    }
}

/// The checkpoint in a signed body; its signatures are not looked at.
pub(super) fn read(signed: &SignedBody) -> Option<Checkpoint> {
    let body: Checkpoint = postcard::from_bytes(&signed.body).ok()?;
    (body.v == 1 && postcard::to_stdvec(&body).ok()? == signed.body).then_some(body)
}
