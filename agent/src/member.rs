//! What a node keeps of its admission, so that it finds its way back after a restart: the intent
//! that let it in, and where members were last seen. Verified again at every start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use qb_model::NodeId;
use qb_model::action::Action;
use qb_model::assignment::{Citation, signed_intent};
use qb_model::charter::Charter;
use qb_model::judge::verify_author;
use qb_model::token::{Entry, TokenError};
use qb_model::trust::{TrustState, replay_log};
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

/// Verifies that an admin revoked this very node.
pub fn verify_revoked(
    envelope: &[u8],
    trust_log: &[qb_model::trust::TrustEntry],
    charter: &[u8],
    me: NodeId,
) -> Result<qb_model::action::RevokeMode, AdmitError> {
    let fail = |e: String| AdmitError(e);
    let trust = trust_of(charter, trust_log).map_err(fail)?;
    let parsed = qb_model::envelope::Envelope::parse(envelope).map_err(|e| fail(e.to_string()))?;
    let intent = qb_model::intent::Intent::parse(parsed.payload()).map_err(|e| fail(e.to_string()))?;
    verify_author(&trust, envelope, intent.issued_ms).map_err(|e| fail(e.to_string()))?;
    match intent.action {
        Action::NodeRevoke { node, then } if node == me => Ok(then),
        _ => Err(fail("its intent does not revoke this node".into())),
    }
}

fn trust_of(charter: &[u8], log: &[qb_model::trust::TrustEntry]) -> Result<TrustState, String> {
    let charter = Charter::verify(charter).map_err(|e| e.to_string())?;
    replay_log(&charter, log).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qb_model::action::{AuthorizedNode, KeyClass, NewKey};
    use qb_model::charter::{CharterBody, Founder};
    use qb_model::dsse::{SecretKey, Signer as _};
    use qb_model::intent::{Anchor, Intent};
    use qb_model::{Digest, Millis, Nonce16, SiteId};

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
