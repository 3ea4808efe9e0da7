//! Join tokens that have not ended, and who comes in by them.

use serde::{Deserialize, Serialize};

use super::apply::{Applied, Happened};
use super::nodes::NodeRecord;
use super::pool::MAX_NODES;
use super::{LiveIntent, SiteState};
use crate::action::Action;
use crate::assignment::Citation;
use crate::chain::AuditKind;
use crate::ids::{Generation, Millis, PublicKey};
use crate::intent::ObjectRef;
use crate::limits::{TOKEN_LIFE_MS, TOKENS};
use crate::outcome::{Outcome, Reason};
use crate::token::{Entry, Terms, TokenError};
use crate::trust::KeyUse;

/// A join token that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The intent that minted it.
    pub cites: Citation,
    /// When, by log time.
    pub at: Millis,
    /// Machines that it lets in.
    pub uses: u16,
    /// Machines that it still lets in.
    pub left: u16,
    /// When it ends, by log time.
    pub expires: Millis,
}

fn refused(code: &str, text: String, remedy: &str) -> Reason {
    Reason::Precondition { code: code.into(), text, remedy: Some(remedy.into()) }
}

const ANOTHER: &str = "mint another one: qb token mint";

impl SiteState {
    /// Join tokens that have not ended, used up ones among them.
    pub fn tokens(&self) -> &std::collections::BTreeMap<PublicKey, JoinToken> {
        &self.tokens
    }

    /// What a token allows: as the intent says that minted it.
    pub fn terms(&self, token: &JoinToken) -> Option<Terms> {
        let live = self.intents.get(&token.cites.digest)?;
        let envelope = crate::envelope::Envelope::parse(&live.envelope).ok()?;
        Terms::of(&crate::intent::Intent::parse(envelope.payload()).ok()?.action)
    }

    pub(super) fn mint(&mut self, action: &Action, cites: Citation) -> Result<Generation, Reason> {
        let Some(terms) = Terms::of(action) else {
            return Err(Reason::Malformed { what: "it mints no token".into() });
        };
        let (key, now) = (terms.token, self.log_time);
        let node = crate::ids::NodeId(key.0);
        let is_node = self.nodes.contains_key(&node) || self.tombstones.contains_key(&node);
        let token = self.tokens.contains_key(&key).then_some(KeyUse::Token);
        let used = is_node.then_some(KeyUse::Node).or(token);
        if let Some(used_as) = self.trust.key_use(&key).or(used) {
            return Err(Reason::KeyInUse { key, used_as });
        }
        if terms.expires <= now || terms.expires.since(now) > TOKEN_LIFE_MS {
            let text =
                format!("the token ends at {} ms, site time is {now} ms: allowed are 7 d", terms.expires);
            return Err(refused("token_expiry", text, "qb token mint --expires 24h"));
        }
        if self.tokens.len() >= TOKENS {
            return Err(Reason::Cap { what: "join tokens".into(), max: TOKENS as u64 });
        }
        let (uses, expires) = (terms.uses, terms.expires);
        self.tokens.insert(key, JoinToken { cites, at: now, uses, left: uses, expires });
        Ok(Generation(0))
    }

    pub(super) fn end_token(&mut self, token: &PublicKey) -> Result<Generation, Reason> {
        let ended = self.tokens.remove(token).ok_or(Reason::UnknownKey { key: *token })?;
        self.finish_mint(&ended);
        Ok(Generation(0))
    }

    /// Ended tokens leave, by log time alone.
    pub(super) fn prune_tokens(&mut self) {
        let now = self.log_time;
        let ended: Vec<_> = self.tokens.iter().filter(|(_, t)| now > t.expires).map(|(k, _)| *k).collect();
        for token in ended.iter().filter_map(|key| self.tokens.remove(key)).collect::<Vec<_>>() {
            self.finish_mint(&token);
        }
    }

    fn finish_mint(&mut self, token: &JoinToken) {
        let now = self.log_time;
        if let Some(live) = self.intents.get_mut(&token.cites.digest) {
            live.finished = Some(now);
        }
    }

    /// Whether the site would let a node in by this entry, at log time `at` or now, whichever is later:
    /// `Ok(None)` for a node that is in already. Signatures of voter and token were verified.
    ///
    /// # Errors
    /// Why not, with the remedy.
    pub fn judge_token(&self, entry: &Entry, at: Millis) -> Result<Option<Terms>, Reason> {
        let (node, key) = (entry.node(), entry.token());
        if entry.said().site != self.site {
            return Err(Reason::WrongSite { site: entry.said().site });
        }
        if self.tombstones.contains_key(&node) {
            return Err(Reason::NodeRevoked { node });
        }
        if self.nodes.contains_key(&node) {
            return Ok(None);
        }
        // Who hears a machine vouches for its name and address: members that administrators trust to vote.
        if self.nodes.get(&entry.said().voter).is_none_or(|voter| voter.seat.is_none()) {
            return Err(refused(
                "token_voter",
                "who heard the machine is no voter".into(),
                "name a voter's knock port as a seed in the enrolment file",
            ));
        }
        let Some(token) = self.tokens.get(&key) else {
            let text = "the join token is unknown: it ended, was revoked, or is another site's".into();
            return Err(refused("token_unknown", text, ANOTHER));
        };
        let live = self.intents.get(&token.cites.digest);
        if entry.mint().ok() != Some(token.cites) || entry.said().minted_at != token.at {
            return Err(Reason::Malformed {
                what: "the entry does not cite the intent that minted its token".into(),
            });
        }
        if live.is_none_or(|live| live.held) {
            let text = "the join token is held: the key that minted it was revoked as compromised".into();
            return Err(refused("token_held", text, ANOTHER));
        }
        let node_key = node.public_key();
        let token_key = self.tokens.contains_key(&node_key).then_some(KeyUse::Token);
        if let Some(used_as) = self.trust.key_use(&node_key).or(token_key) {
            return Err(Reason::KeyInUse { key: node_key, used_as });
        }
        let terms = entry.verify(&self.trust, self.log_time.max(at)).map_err(misfit)?;
        if token.left == 0 {
            let text = format!("the join token has let in its {} machines", token.uses);
            return Err(refused("token_used_up", text, ANOTHER));
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(Reason::Cap { what: "nodes".into(), max: MAX_NODES as u64 });
        }
        Ok(Some(terms))
    }

    /// One entry checks everything, counts the use and lets the node in, on probation.
    pub(super) fn apply_token(&mut self, envelope: &[u8], told: &mut Vec<Happened>) -> Applied {
        let entry = match Entry::open(envelope) {
            Ok(entry) => entry,
            Err(why) => return Applied::Ignored(why.to_string()),
        };
        match self.judge_token(&entry, self.log_time) {
            Err(reason) => Applied::Token { outcome: Outcome::Rejected(reason), index: 0 },
            Ok(None) => {
                let index = self.nodes.get(&entry.node()).map_or(0, |n| n.authorized.index);
                let generation = self.generation(&ObjectRef::Node(entry.node()));
                let first = Box::new(Outcome::Accepted { generation });
                Applied::Token { outcome: Outcome::Duplicate { first, index }, index }
            }
            Ok(Some(terms)) => self.let_in(&entry, terms, told),
        }
    }

    fn let_in(&mut self, entry: &Entry, terms: Terms, told: &mut Vec<Happened>) -> Applied {
        let (node, said, now) = (entry.node(), entry.said(), self.log_time);
        let mut by = self.name.clone();
        if let Some(token) = self.tokens.get_mut(&terms.token) {
            token.left = token.left.saturating_sub(1);
            if let Some(live) = self.intents.get(&token.cites.digest) {
                by = live.by.clone();
            }
        }
        let index = self.chain_up(AuditKind::TokenEntry, entry.digest(), None, entry.envelope().to_vec());
        let cites = Citation { digest: entry.digest(), index };
        let mut record = NodeRecord::new(node, said.host.clone(), cites, now);
        record.probation = true;
        record.labels = terms.labels;
        self.nodes.insert(node, record);
        let generation = self.bump(ObjectRef::Node(node));
        let envelope = entry.envelope().to_vec();
        told.push(self.tell(
            "node",
            said.host.as_str(),
            format!("came in by a join token of {by}, on probation"),
        ));
        let live = LiveIntent { cites, at: now, by, envelope, finished: Some(now), held: false };
        self.intents.insert(entry.digest(), live);
        Applied::Token { outcome: Outcome::Accepted { generation }, index }
    }

    /// Whether every token rests on a mint that admins signed, as the state has it.
    pub(super) fn token_stands(key: &PublicKey, token: &JoinToken, minted: &Action) -> bool {
        Terms::of(minted).is_some_and(|terms| {
            terms.token == *key
                && terms.uses == token.uses
                && token.left <= token.uses
                && terms.expires == token.expires
        })
    }
}

fn misfit(why: TokenError) -> Reason {
    let (code, remedy) = match &why {
        TokenError::Expired { .. } => ("token_expired", ANOTHER),
        TokenError::Host { .. } => {
            ("token_host", "name the machine as the token says, or mint another one: qb token mint")
        }
        TokenError::Address(_) => {
            ("token_address", "knock from where the token says, or mint another one: qb token mint")
        }
        _ => ("token_invalid", ANOTHER),
    };
    refused(code, why.to_string(), remedy)
}
