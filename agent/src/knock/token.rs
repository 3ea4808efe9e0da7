//! Join tokens (security rules 4). The knocker's half: the token's file is read at the start, signs a
//! use for each challenge, and is erased once the node is in. The voter's half: what it heard goes into
//! the log, where one entry checks, counts and lets in.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::outcome::{Outcome, Reason};
use qb_model::state::Applied;
use qb_model::statement::{Knock, Signed, SignedBytes, Statement as _, TokenEntry, TokenUse};
use qb_model::token::{self, Entry};
use qb_model::{NodeId, Nonce, SiteId};
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::node::Node;
use crate::propose;
use crate::rpc::{Propose, ProposeAnswer, TokenRefused};

/// The administrator's place for a token's file.
pub const PLACE: &str = "/etc/qb/join.token";
/// Its name in the agent's state.
pub const KEPT: &str = "join.token";
/// How long a use may take to get into the log. Below the mesh's bound of a knock.
const DEADLINE: Duration = Duration::from_secs(4);

/// The join token of a machine that is not in yet.
pub struct Held {
    path: PathBuf,
    key: SecretKey,
}

/// Why a token's file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The one that was named is not there.
    #[error("there is no file {0}: --join-token names a file that `qb token mint` made")]
    Missing(String),
    /// It is no token.
    #[error("{path} is no join token: {why}; copy it again, or mint another one: qb token mint")]
    Malformed {
        /// Which file.
        path: String,
        /// What is wrong; never what stands there.
        why: &'static str,
    },
    /// It is another site's.
    #[error(
        "{path} is a join token of site {theirs}, this machine's enrolment file is of {ours}: use this site's"
    )]
    OtherSite {
        /// Which file.
        path: String,
        /// The token's site.
        theirs: SiteId,
        /// The enrolment file's.
        ours: SiteId,
    },
}

/// The file of a token: the one that was named, else the one in the state, else the administrator's.
pub fn place(given: Option<&Path>, state: &Path) -> Option<PathBuf> {
    match given {
        Some(path) => Some(path.to_owned()),
        None => [state.join(KEPT), PathBuf::from(PLACE)].into_iter().find(|p| p.exists()),
    }
}

impl Held {
    /// Reads the token of a machine, if it has one.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or it is no token of this site.
    pub fn read(given: Option<&Path>, state: &Path, site: SiteId) -> Result<Option<Self>, TokenFileError> {
        let Some(path) = place(given, state) else { return Ok(None) };
        let shown = path.display().to_string();
        let Some(bytes) = files::read_secret(&path, token::SECRET_BYTES)?.map(Zeroizing::new) else {
            return if given.is_some() { Err(TokenFileError::Missing(shown)) } else { Ok(None) };
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| "it is no text");
        let secret = text.and_then(token::read_secret);
        let secret = secret.map_err(|why| TokenFileError::Malformed { path: shown.clone(), why })?;
        if secret.site != site {
            return Err(TokenFileError::OtherSite { path: shown, theirs: secret.site, ours: site });
        }
        Ok(Some(Self { path, key: secret.key }))
    }

    /// Signs a use of the token for one voter and its challenge.
    pub fn sign(&self, site: SiteId, node: NodeId, voter: NodeId, nonce: Nonce) -> SignedBytes {
        TokenUse { v: 1, site, node, voter, nonce }.sign(&self.key)
    }

    /// The token's name for people: its public key.
    pub fn name(&self) -> String {
        qb_model::words::fingerprint(&self.key.public_key().0)
    }

    /// Where its file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Erases the file of a token that is needed no more, as far as this program may, and says what is left.
pub fn erase(given: Option<&Path>, state: &Path) {
    let Some(path) = place(given, state) else { return };
    match files::erase(&path, token::SECRET_BYTES) {
        Ok(false) => {}
        Ok(true) => tracing::info!(path = %path.display(), "this node is in: its join token is erased"),
        Err(e) => tracing::warn!(
            path = %path.display(),
            "this node is in and needs its join token no more, but may not erase it ({e}): as root, rm {}",
            path.display()
        ),
    }
}

fn refused(code: &str, text: &str, remedy: &str) -> TokenRefused {
    TokenRefused { code: code.into(), text: text.into(), remedy: Some(remedy.into()) }
}

/// Takes a knock's use of a token to the log: `Ok` when the site let the node in, now or before.
///
/// # Errors
/// Why not, for the node. It may go on knocking for an administrator.
pub async fn enter(node: &Arc<Node>, knock: &Signed<Knock>, from: IpAddr) -> Result<(), TokenRefused> {
    let entry = entry(node, knock, from)?;
    let what = Propose::Token(entry);
    let applied = match propose::anywhere(node, &what, DEADLINE).await {
        ProposeAnswer::Applied(bytes) => postcard::from_bytes::<Applied>(&bytes).ok(),
        ProposeAnswer::Refused { code, text, remedy } => return Err(TokenRefused { code, text, remedy }),
        _ => None,
    };
    match applied {
        Some(Applied::Token { outcome: Outcome::Accepted { .. } | Outcome::Duplicate { .. }, .. }) => Ok(()),
        Some(Applied::Token { outcome: Outcome::Rejected(reason), .. }) => Err(told(&reason)),
        Some(Applied::Ignored(why)) => Err(refused("token_invalid", &why, "qb token mint")),
        _ => Err(refused(
            "unavailable",
            "the site did not decide in time",
            "the machine tries again by itself",
        )),
    }
}

fn told(reason: &Reason) -> TokenRefused {
    TokenRefused { code: reason.code().to_owned(), text: reason.to_string(), remedy: reason.remedy() }
}

/// What this node vouches for, signed: the use was made for this very challenge.
fn entry(node: &Node, knock: &Signed<Knock>, from: IpAddr) -> Result<Vec<u8>, TokenRefused> {
    let said = knock.value();
    let used = said
        .token_use
        .clone()
        .ok_or_else(|| refused("token_none", "the knock has no token", "qb token mint"))?;
    let invalid = || {
        refused(
            "token_invalid",
            "the token was not used for this knock",
            "start the agent of that machine anew",
        )
    };
    let opened = used.open::<TokenUse>().map_err(|_| invalid())?;
    let use_of = opened.value();
    let fits = use_of.site == said.site
        && use_of.node == said.node
        && use_of.voter == node.id()
        && use_of.nonce == said.nonce;
    if !fits {
        return Err(invalid());
    }
    let state = node.site();
    let held = state.tokens().get(&used.key);
    let live = held.and_then(|t| state.intents().get(&t.cites.digest).map(|live| (t, live)));
    let Some((held, live)) = live else {
        let text = "the join token is unknown: it ended, was revoked, or is another site's";
        return Err(refused("token_unknown", text, "mint another one: qb token mint"));
    };
    let entry = TokenEntry {
        v: 1,
        site: state.site(),
        voter: node.id(),
        token_use: used,
        host: said.host.clone(),
        address: from.to_canonical().to_string(),
        knock: knock.digest(),
        mint_index: held.cites.index,
        minted_at: held.at,
        mint: live.envelope.clone(),
    };
    let envelope = token::sign_entry(&entry, &node.identity.key);
    // Judged here first, so that nobody fills the log with tokens that let nobody in.
    let opened =
        Entry::open(&envelope).map_err(|e| refused("token_invalid", &e.to_string(), "qb token mint"))?;
    state.judge_token(&opened, node.site_now()).map_err(|reason| told(&reason))?;
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qb_model::Digest;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_read_by_its_owner_alone_and_erased() {
        let dir = std::env::temp_dir().join(format!("qb-token-{}", std::process::id()));
        files::make_dir(&dir).unwrap();
        let (site, other) = (SiteId(Digest([1; 32])), SiteId(Digest([2; 32])));
        let path = dir.join(KEPT);
        let write = |text: &str| files::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
        assert!(matches!(Held::read(Some(&dir.join("none")), &dir, site), Err(TokenFileError::Missing(_))));
        write(&token::secret_text(site, &[7; 32]));
        let held = Held::read(None, &dir, site).unwrap().unwrap();
        assert_eq!(held.path(), path);
        let used = held.sign(site, NodeId([3; 32]), NodeId([4; 32]), Nonce([5; 32]));
        assert!(used.open::<TokenUse>().is_ok());
        let theirs = Held::read(None, &dir, other).err().unwrap();
        assert!(matches!(theirs, TokenFileError::OtherSite { .. }));
        let secret = token::secret_text(site, &[7; 32]);
        let secret = secret.split(' ').nth(2).unwrap().trim();
        assert!(!theirs.to_string().contains(secret));
        write(&format!("{secret} {secret}"));
        let bad = Held::read(None, &dir, site).err().unwrap();
        assert!(
            matches!(bad, TokenFileError::Malformed { .. }) && !bad.to_string().contains(secret),
            "{bad}"
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Held::read(None, &dir, site), Err(TokenFileError::File(FileError::Mode { .. }))));
        assert!(files::erase(&path, token::SECRET_BYTES).unwrap() && !path.exists());
        assert!(!files::erase(&path, token::SECRET_BYTES).unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
