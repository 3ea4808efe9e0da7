//! The one judgement (security rules 2.6): a pure function that relay, leader, every replica and
//! every executor run in the same order.
//!
//! size, envelope, type, base64; digest; replay table; signatures by current admins; payload; author;
//! room in the table | site; issued floor; cancelled; window; `after`; label; anchor; role and class
//! of key; threshold; expectations. Before the bar a failure is refused and leaves no trace; after it
//! a failure is final and recorded, except "not yet valid" and a missing `after`, which are held.
//!
//! Rule for changing this file: it is consensus-critical. A change that alters one verdict needs a
//! new feature level.

mod logged;
mod stages;

use crate::action::{Action, Role};
use crate::chain::AnchorRing;
use crate::dsse::Purpose;
use crate::envelope::{Envelope, EnvelopeError};
use crate::ids::{Digest, Generation, IntentId, Millis, Name, PublicKey, SiteId};
use crate::intent::{Intent, IntentError, ObjectRef};
use crate::key::{KeyId, KeyKind, verify_kind};
use crate::outcome::{Outcome, Reason};
use crate::replay::ReplayTable;
use crate::trust::{Signatory, TrustState, required};

pub use logged::{LoggedError, verify_author, verify_logged};
use stages::{Stop, stages};

/// What an intent is judged against.
pub struct Context<'a> {
    /// This site.
    pub site: SiteId,
    /// Who may do what.
    pub trust: &'a TrustState,
    /// What was judged before.
    pub replay: &'a ReplayTable,
    /// The chain heads that an intent may name.
    pub anchors: &'a AnchorRing,
    /// The site's feature level: an action of a later one is no action yet.
    pub feature_level: u32,
    /// The site's time; 0 until the first tick.
    pub log_time: Millis,
    /// Intents issued before this are refused: raised by restore, recover and a reset of time.
    pub issued_floor: Millis,
    /// Generations of clusters and nodes; of admins the trust state knows them.
    pub generation: &'a dyn Fn(&ObjectRef) -> Option<Generation>,
}

/// Why bytes are refused without a trace: nobody who may sign has signed them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not an envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// An envelope of something else.
    #[error("the envelope holds {0}, not an intent")]
    Purpose(Purpose),
    /// No signature is valid by a key of a current admin.
    #[error("no signature is by a current admin's key: see qb admin list")]
    Unsigned,
    /// Not an intent.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// An action that older agents of the site would not understand.
    #[error(
        "{action} needs feature level {needs}, the site is at {has}: upgrade all agents first, see qb agent list"
    )]
    Level {
        /// The action.
        action: &'static str,
        /// The level that it needs.
        needs: u32,
        /// The site's.
        has: u32,
    },
    /// Others signed, but not the admin whom it names as author.
    #[error("no signature is by a key of its author {0}")]
    NotByAuthor(Name),
    /// It cannot be remembered now.
    #[error("{0}: wait for some intents to expire, then try again")]
    Busy(Reason),
}

impl Refusal {
    /// The stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::Envelope(_) => "envelope",
            Self::Purpose(_) => "payload_type",
            Self::Unsigned => "unsigned",
            Self::Intent(_) => "malformed",
            Self::Level { .. } => "feature_level",
            Self::NotByAuthor(_) => "not_by_author",
            Self::Busy(reason) => reason.code(),
        }
    }
}

/// What is remembered of a validly signed intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its digest: what tells intents apart.
    pub digest: Digest,
    /// Its label.
    pub id: IntentId,
    /// Its author.
    pub author: Name,
    /// The author's key (the smallest one, if several signed).
    pub key: PublicKey,
    /// When it ends.
    pub expires: Millis,
    /// Its envelope with only the signatures that verified, sorted by key.
    pub envelope: Vec<u8>,
}

/// An intent that passed. Only this module makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    intent: Intent,
    record: Record,
    role: Role,
    signers: Vec<Signatory>,
}

impl Verified {
    /// The intent.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.record.digest
    }

    /// Its envelope with only the signatures that verified, sorted by key.
    pub fn envelope(&self) -> &[u8] {
        &self.record.envelope
    }

    /// Its author.
    pub fn author(&self) -> &Name {
        &self.record.author
    }

    /// The author's role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Every key that signed validly.
    pub fn signers(&self) -> &[Signatory] {
        &self.signers
    }

    /// What the replay table keeps.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// What the judgement came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody who may sign has signed it: never logged.
    Refused(Refusal),
    /// Judged before.
    Duplicate {
        /// The intent.
        digest: Digest,
        /// What became of it.
        outcome: Outcome,
        /// Its record in the audit chain.
        index: u64,
    },
    /// Too early. The leader keeps it and tries again; nothing is recorded.
    Hold {
        /// The intent.
        digest: Digest,
        /// What it waits for.
        reason: Reason,
        /// When waiting is in vain.
        expires: Millis,
    },
    /// Refused for good: to be recorded.
    Rejected {
        /// Why.
        reason: Reason,
        /// What to remember.
        record: Record,
    },
    /// Waits for more admins: kept, not in the replay table, judged again with every new signature.
    Pending {
        /// Admins who signed with the power to.
        have: u8,
        /// Admins who must.
        need: u8,
        /// What to remember.
        record: Record,
        /// What it wants.
        action: Action,
    },
    /// Every check passed; the action's own preconditions are next.
    Pass(Box<Verified>),
}

/// Which current admins' keys signed an envelope validly, one entry per key, sorted by key; and the
/// envelope with only those signatures. Bad and unknown signatures are skipped, never fatal.
pub fn signers_of(envelope: &Envelope, trust: &TrustState, log_time: Millis) -> (Vec<Signatory>, Envelope) {
    let mut found = std::collections::BTreeMap::new();
    for line in envelope.signatures() {
        let Ok(keyid) = line.keyid.parse::<KeyId>() else { continue };
        let Some(signatory) = trust.signatory(&keyid.key, log_time) else { continue };
        let kind = KeyKind::of(signatory.class);
        if found.contains_key(&keyid.key) || kind != keyid.kind {
            continue;
        }
        if verify_kind(kind, envelope.purpose(), envelope.payload(), &keyid.key, &line.sig) {
            found.insert(keyid.key, (signatory, line.clone()));
        }
    }
    let (signers, lines) = found.into_values().unzip();
    (signers, envelope.with_signatures(lines))
}

/// An intent whose author signed it, before anything else is known of it.
struct Signed {
    intent: Intent,
    record: Record,
    signers: Vec<Signatory>,
}

fn read(bytes: &[u8]) -> Result<Envelope, Refusal> {
    let envelope = Envelope::parse(bytes)?;
    if envelope.purpose() != Purpose::Intent {
        return Err(Refusal::Purpose(envelope.purpose()));
    }
    Ok(envelope)
}

fn signed(
    envelope: &Envelope,
    digest: Digest,
    trust: &TrustState,
    log_time: Millis,
) -> Result<Signed, Refusal> {
    let (signers, stripped) = signers_of(envelope, trust, log_time);
    if signers.is_empty() {
        return Err(Refusal::Unsigned);
    }
    let intent = Intent::parse(envelope.payload())?;
    let author = signers.iter().find(|s| s.admin == intent.by);
    let key = author.ok_or_else(|| Refusal::NotByAuthor(intent.by.clone()))?.key;
    let record = Record {
        digest,
        id: intent.id.clone(),
        author: intent.by.clone(),
        key,
        expires: intent.expires_ms,
        envelope: stripped.to_bytes(),
    };
    Ok(Signed { intent, record, signers })
}

/// Judges an envelope. Never panics, whatever the bytes.
pub fn judge(ctx: &Context<'_>, envelope: &[u8]) -> Verdict {
    let envelope = match read(envelope) {
        Ok(envelope) => envelope,
        Err(refusal) => return Verdict::Refused(refusal),
    };
    let digest = envelope.digest();
    if let Some(entry) = ctx.replay.get(&digest) {
        return Verdict::Duplicate { digest, outcome: entry.outcome.clone(), index: entry.index };
    }
    let signed = match signed(&envelope, digest, ctx.trust, ctx.log_time) {
        Ok(signed) => signed,
        Err(refusal) => return Verdict::Refused(refusal),
    };
    let class = required(&signed.intent.action);
    if class.level > ctx.feature_level {
        // Without a trace, since to an agent of that level it is malformed.
        let (action, needs, has) = (class.name, class.level, ctx.feature_level);
        return Verdict::Refused(Refusal::Level { action, needs, has });
    }
    let owner = signed.signers.iter().any(|s| s.admin == signed.intent.by && s.role == Role::Owner);
    let removal = owner && class.removal;
    if let Err(busy) = ctx.replay.room(&signed.intent.by, removal) {
        return Verdict::Refused(Refusal::Busy(busy));
    }
    match stages(ctx, &signed) {
        Ok(role) => {
            let Signed { intent, record, signers } = signed;
            Verdict::Pass(Box::new(Verified { intent, record, role, signers }))
        }
        Err(Stop::Hold(reason)) => Verdict::Hold { digest, reason, expires: signed.intent.expires_ms },
        Err(Stop::Reject(reason)) => Verdict::Rejected { reason, record: signed.record },
        Err(Stop::Pending { have, need }) => {
            Verdict::Pending { have, need, record: signed.record, action: signed.intent.action }
        }
    }
}
