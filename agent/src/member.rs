//! What a node keeps of its admission, so that it finds its way back after a restart: the intent
//! that let it in, and where members were last seen. Verified again at every start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use qb_model::action::Action;
use qb_model::assignment::{Citation, signed_intent};
use qb_model::charter::Charter;
use qb_model::judge::verify_logged;
use qb_model::token::{Entry, TokenError};
use qb_model::trust::{TrustEntry, TrustState, replay_log};
use qb_model::{Digest, NodeId};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::rpc::Admit;

/// Most bytes of the file.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// The file's content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Membership {
    /// Format: 1.
    pub v: u8,
    /// What let this node in; none on a founder.
    pub admit: Option<Admit>,
    /// Envelope of the founding intent that this node obeys, on a founder: another one is refused,
    /// and a founding that was cut short goes on from here.
    pub founding: Option<Vec<u8>>,
    /// Where members were last seen, text.
    pub addresses: Vec<(NodeId, Vec<String>)>,
    /// Who voted then.
    pub voters: Vec<NodeId>,
}

impl Membership {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Option<Self>, FileError> {
        let Some(bytes) = files::read_bounded(path, MAX_BYTES)? else { return Ok(None) };
        match postcard::from_bytes::<Self>(&bytes) {
            Ok(held) if held.v == 1 => Ok(Some(held)),
            _ => {
                // It can be had again by knocking, so a damaged one is no reason to stay out.
                tracing::warn!(path = %path.display(), "membership file is damaged: knocking again");
                Ok(None)
            }
        }
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        let bytes = postcard::to_stdvec(self).unwrap_or_default();
        files::write_atomic(path, &bytes, 0o600)
    }

    /// The addresses that parse.
    pub fn known(&self) -> BTreeMap<NodeId, Vec<SocketAddr>> {
        parse_addresses(&self.addresses)
    }
}

/// Reads address texts of members; what does not parse is left out.
pub fn parse_addresses(texts: &[(NodeId, Vec<String>)]) -> BTreeMap<NodeId, Vec<SocketAddr>> {
    texts.iter().map(|(node, list)| (*node, list.iter().filter_map(|a| a.parse().ok()).collect())).collect()
}

/// Why an admission is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the admission does not stand: {0}")]
pub struct AdmitError(String);

/// Verifies that an admin derived from this node's own charter let this very node in.
pub fn verify_admit(admit: &Admit, charter: &[u8], me: NodeId) -> Result<(), AdmitError> {
    let fail = |e: String| AdmitError(e);
    let trust = trust_of(charter, &admit.trust_log).map_err(fail)?;
    if Entry::is_one(&admit.envelope) {
        return by_token(&admit.envelope, &trust, me);
    }
    let envelope = qb_model::envelope::Envelope::parse(&admit.envelope).map_err(|e| fail(e.to_string()))?;
    let cites = Citation { digest: envelope.digest(), index: admit.index };
    // The time at which it was accepted is not known here; the intent's own time is as good, since
    // the question is who signed it, not when it arrived.
    let intent = qb_model::intent::Intent::parse(envelope.payload()).map_err(|e| fail(e.to_string()))?;
    let at = intent.issued_ms;
    let intent = signed_intent(&admit.envelope, &trust, &cites, at).map_err(fail)?;
    match intent.action {
        Action::NodeAuthorize { nodes } | Action::SiteFound { nodes }
            if nodes.iter().any(|n| n.node == me) =>
        {
            Ok(())
        }
        _ => Err(fail("its intent does not authorize this node".into())),
    }
}

/// Verifies that a token which an admin minted let this very node in. When that was is not known here;
/// that it was minted then, and is this node's, is what counts: the site judged time and number.
fn by_token(envelope: &[u8], trust: &TrustState, me: NodeId) -> Result<(), AdmitError> {
    let fail = |e: TokenError| AdmitError(e.to_string());
    let entry = Entry::open(envelope).map_err(fail)?;
    if entry.node() != me {
        return Err(AdmitError("its join token was used for another node".into()));
    }
    entry.verify(trust, entry.said().minted_at).map(drop).map_err(fail)
}

/// Why a revocation is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the revocation does not stand: {0}")]
pub struct RevokedError(String);

/// What somebody says of this node's revocation.
#[derive(Debug, Clone, Copy)]
pub struct SaidRevoked<'a> {
    /// The intent's envelope.
    pub envelope: &'a [u8],
    /// The trust log that it is to stand under.
    pub trust_log: &'a [TrustEntry],
}

/// Verifies that admins who may do so revoked this very node. Whoever says it may be anybody: a relay, or what
/// answers at an address that a lonely node asks. So the intent needs what the site itself would ask of it, under
/// a trust log that has all that this node knows: `floor` is the head of the newest one that it has verified, so
/// that no admin who was removed comes back with a log that ends before that.
///
/// # Errors
/// It does not stand, or is about something else.
pub fn verify_revoked(
    said: SaidRevoked<'_>,
    charter: &[u8],
    floor: &Digest,
    me: NodeId,
) -> Result<qb_model::action::RevokeMode, RevokedError> {
    let fail = |e: String| RevokedError(e);
    let trust = trust_of(charter, said.trust_log).map_err(fail)?;
    if !trust.contains(floor) {
        return Err(fail("its trust log lacks what this node has verified".into()));
    }
    let parsed = qb_model::envelope::Envelope::parse(said.envelope).map_err(|e| fail(e.to_string()))?;
    let intent = qb_model::intent::Intent::parse(parsed.payload()).map_err(|e| fail(e.to_string()))?;
    // When it was accepted is not known here: it is judged as if it had been at once.
    let verified = verify_logged(&trust, said.envelope, intent.issued_ms).map_err(|e| fail(e.to_string()))?;
    match verified.intent().action {
        Action::NodeRevoke { node, then } if node == me => Ok(then),
        _ => Err(fail("its intent does not revoke this node".into())),
    }
}

fn trust_of(charter: &[u8], log: &[TrustEntry]) -> Result<TrustState, String> {
    let charter = Charter::verify(charter).map_err(|e| e.to_string())?;
    replay_log(&charter, log).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qb_model::action::{AuthorizedNode, KeyClass, NewKey, RevokeMode, RevokeReason, Role};
    use qb_model::charter::{CharterBody, Founder};
    use qb_model::dsse::{SecretKey, Signer as _};
    use qb_model::intent::{Anchor, Expect, Intent};
    use qb_model::{Millis, Nonce16, SiteId};

    const ISSUED: Millis = Millis(1_800_000_000_000);

    fn key(n: u8) -> SecretKey {
        SecretKey::from_bytes(&[n; 32])
    }

    fn node(n: u8) -> NodeId {
        NodeId(key(n).public_key().0)
    }

    /// A charter whose only admin has key 1.
    fn charter() -> Vec<u8> {
        let keys = vec![NewKey { key: key(1).public_key(), class: KeyClass::Cli, expires_ms: None }];
        let body = CharterBody {
            v: 1,
            name: "lyon".parse().unwrap(),
            nonce: Nonce16([3; 16]),
            founders: vec![Founder { admin: "mira".parse().unwrap(), name: "Mira".into(), keys }],
            recovery: None,
            relays: Vec::new(),
            issued_ms: ISSUED,
        };
        body.sign(&[&key(1)]).to_bytes()
    }

    /// An intent of Mira's.
    fn of_mira(site: SiteId, action: Action) -> Intent {
        Intent {
            v: 1,
            site,
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            by: "mira".parse().unwrap(),
            issued_ms: ISSUED,
            expires_ms: ISSUED.plus(600_000),
            anchor: Anchor { index: 1, hash: Digest([8; 32]) },
            after: None,
            expect: Vec::new(),
            action,
            note: None,
        }
    }

    /// An admission by the intent of whoever has key `by`, for node `who`.
    fn admit(charter: &[u8], by: u8, who: u8) -> Admit {
        let site = Charter::verify(charter).unwrap().site_id();
        let (host, knock) = ("n".parse().unwrap(), Digest([9; 32]));
        let intent = of_mira(
            site,
            Action::NodeAuthorize { nodes: vec![AuthorizedNode { node: node(who), host, knock }] },
        );
        let envelope = intent.sign(&[&key(by)]).unwrap().to_bytes();
        Admit { envelope, index: 7, trust_log: Vec::new(), members: Vec::new(), voters: Vec::new() }
    }

    /// An admission by a join token that `by` minted, for node `who`, heard by voter 9.
    fn by_token(charter: &[u8], by: u8, minted: u8, used: u8, who: u8) -> Admit {
        use qb_model::statement::{Statement as _, TokenEntry, TokenUse};
        let site = Charter::verify(charter).unwrap().site_id();
        let mint = Action::TokenMint {
            token: key(minted).public_key(),
            uses: 1,
            expires_ms: ISSUED.plus(600_000),
            host: None,
            addresses: Vec::new(),
            labels: Vec::new(),
        };
        let intent = of_mira(site, mint);
        let use_of =
            TokenUse { v: 1, site, node: node(who), voter: node(9), nonce: qb_model::Nonce([1; 32]) };
        let entry = TokenEntry {
            v: 1,
            site,
            voter: node(9),
            token_use: use_of.sign(&key(used)),
            host: "n".parse().unwrap(),
            address: "127.0.0.1".into(),
            knock: Digest([9; 32]),
            mint_index: 7,
            minted_at: ISSUED,
            mint: intent.sign(&[&key(by)]).unwrap().to_bytes(),
        };
        let envelope = qb_model::token::sign_entry(&entry, &key(9));
        Admit { envelope, index: 8, trust_log: Vec::new(), members: Vec::new(), voters: Vec::new() }
    }

    /// A trust log with these changes by Mira, one after the other.
    fn log(charter: &[u8], changes: &[Action]) -> Vec<TrustEntry> {
        let mut log: Vec<TrustEntry> = Vec::new();
        for (number, action) in (2..).zip(changes) {
            let trust = trust_of(charter, &log).unwrap();
            let mut intent = of_mira(trust.site(), action.clone());
            intent.id = format!("01JD00000000000000000000{number:02}").parse().unwrap();
            intent.expect = vec![Expect::Trust { hash: trust.head() }];
            let envelope = intent.sign(&[&key(1)]).unwrap();
            let (digest, envelope) = (envelope.digest(), envelope.to_bytes());
            log.push(TrustEntry { parent: trust.head(), digest, index: number, log_time: ISSUED, envelope });
        }
        log
    }

    /// Adds an admin whose id is `who` with key `n`.
    fn add(who: &str, role: Role, n: u8, class: KeyClass) -> Action {
        let expires_ms = (class == KeyClass::Browser).then(|| ISSUED.plus(86_400_000));
        let keys = vec![NewKey { key: key(n).public_key(), class, expires_ms }];
        Action::AdminAdd { admin: who.parse().unwrap(), name: who.into(), role, keys }
    }

    #[test]
    fn only_who_may_revoke_puts_this_node_out() {
        let charter = charter();
        let remove =
            Action::AdminRemove { admin: "olaf".parse().unwrap(), reason: RevokeReason::Compromised };
        let all = log(
            &charter,
            &[
                add("vera", Role::Viewer, 2, KeyClass::Cli),
                add("olaf", Role::Operator, 3, KeyClass::Cli),
                add("bert", Role::Operator, 4, KeyClass::Browser),
                remove,
            ],
        );
        let head = |log: &[TrustEntry]| trust_of(&charter, log).unwrap().head();
        let said = |by: &str, n: u8, who: u8| {
            let mut intent = of_mira(
                Charter::verify(&charter).unwrap().site_id(),
                Action::NodeRevoke { node: node(who), then: RevokeMode::Wipe },
            );
            intent.by = by.parse().unwrap();
            intent.sign(&[&key(n)]).unwrap().to_bytes()
        };
        let judge = |by: &str, n: u8, who: u8, trust_log: &[TrustEntry], floor: &Digest| {
            let said = SaidRevoked { envelope: &said(by, n, who), trust_log };
            verify_revoked(said, &charter, floor, node(5))
        };
        let (newest, none) = (head(&all), head(&[]));
        assert_eq!(judge("mira", 1, 5, &all, &newest), Ok(RevokeMode::Wipe));
        assert_eq!(judge("mira", 1, 5, &all, &none), Ok(RevokeMode::Wipe), "it knows less than it is told");
        assert_eq!(judge("olaf", 3, 5, &all[..3], &none), Ok(RevokeMode::Wipe), "he could, then");
        for (what, judged) in [
            ("a viewer", judge("vera", 2, 5, &all, &newest)),
            ("a key of a browser", judge("bert", 4, 5, &all, &newest)),
            ("one who was removed", judge("olaf", 3, 5, &all, &newest)),
            ("one who was removed, with the log before that", judge("olaf", 3, 5, &all[..3], &newest)),
            ("an owner, with an old log", judge("mira", 1, 5, &all[..3], &newest)),
            ("nobody", judge("mira", 9, 5, &all, &newest)),
            ("another node", judge("mira", 1, 6, &all, &newest)),
        ] {
            assert!(judged.is_err(), "{what}: {judged:?}");
        }
    }

    #[test]
    fn only_a_token_that_an_admin_minted_lets_this_node_in() {
        let charter = charter();
        assert_eq!(verify_admit(&by_token(&charter, 1, 20, 20, 5), &charter, node(5)), Ok(()));
        for (what, admit) in [
            ("minted by nobody", by_token(&charter, 2, 20, 20, 5)),
            ("another token", by_token(&charter, 1, 20, 21, 5)),
            ("for another node", by_token(&charter, 1, 20, 20, 6)),
        ] {
            assert!(verify_admit(&admit, &charter, node(5)).is_err(), "{what}");
        }
    }

    #[test]
    fn only_an_admin_of_this_charter_lets_this_node_in() {
        let charter = charter();
        assert_eq!(verify_admit(&admit(&charter, 1, 5), &charter, node(5)), Ok(()));
        for (what, admit) in [
            ("signed by nobody's key", admit(&charter, 2, 5)),
            ("for another node", admit(&charter, 1, 6)),
            ("no intent", Admit { envelope: b"{}".to_vec(), ..admit(&charter, 1, 5) }),
            ("a trust log of somebody else's", {
                let mut admit = admit(&charter, 1, 5);
                let (parent, digest) = (Digest([1; 32]), Digest([2; 32]));
                let envelope = admit.envelope.clone();
                let entry =
                    qb_model::trust::TrustEntry { parent, digest, index: 2, log_time: ISSUED, envelope };
                admit.trust_log.push(entry);
                admit
            }),
        ] {
            assert!(verify_admit(&admit, &charter, node(5)).is_err(), "{what}");
        }
    }
}
