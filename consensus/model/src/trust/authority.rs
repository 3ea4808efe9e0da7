//! Whether these signers may order this action: role, class of key, number of owners (security rules
//! 3.2, 1.1 of the portal set).

use std::collections::BTreeSet;

use crate::action::{Action, KeyClass, Role};
use crate::ids::{Name, PublicKey};
use crate::intent::Intent;
use crate::outcome::Reason;
use crate::trust::{ActionClass, TrustState, required};

/// A key that signed validly, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatory {
    /// The key.
    pub key: PublicKey,
    /// Its class.
    pub class: KeyClass,
    /// The admin.
    pub admin: Name,
    /// The admin's role now.
    pub role: Role,
}

/// The power under which an intent acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    /// The author's role.
    pub role: Role,
    /// Admins who signed with the power to.
    pub have: u8,
    /// Admins who had to.
    pub need: u8,
}

/// Why signers may not order an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortfall {
    /// Never.
    Refused(Reason),
    /// Not yet.
    Pending {
        /// Admins who signed with the power to.
        have: u8,
        /// Admins who must.
        need: u8,
    },
}

/// Judges the signers of an intent. `signers` hold one entry per valid key; one of them is the
/// author's.
///
/// # Errors
/// The role or the class of the keys is too low, or more admins must sign.
pub fn authority(trust: &TrustState, intent: &Intent, signers: &[Signatory]) -> Result<Authority, Shortfall> {
    let class = required(&intent.action);
    let own = class.own && subject(&intent.action) == Some(&intent.by);
    let author = signers.iter().find(|s| s.admin == intent.by);
    let role = author.map_or(Role::Viewer, |s| s.role);
    if !own && role < class.role {
        let (admin, have, need) = (intent.by.clone(), role, class.role);
        return Err(Shortfall::Refused(Reason::Role { admin, have, need }));
    }
    let listed = trust.policy().browser_actions.iter().any(|name| name == class.name);
    let able = |s: &&Signatory| s.role >= class.role || (own && s.admin == intent.by);
    let strong = |s: &&Signatory| listed || s.class != KeyClass::Browser;
    let counted: Vec<&Signatory> = signers.iter().filter(able).filter(strong).collect();
    let ceiling = counted.iter().map(|s| ceiling(s.class)).max();
    if ceiling.is_none_or(|c| c < needed_ceiling(&intent.action)) {
        let class = author.map_or(KeyClass::Browser, |s| s.class);
        let action = intent.action.name().to_owned();
        return Err(Shortfall::Refused(Reason::KeyClass { action, class }));
    }
    let need = threshold(trust, &intent.action, class, own);
    let admins: BTreeSet<&Name> = counted.iter().map(|s| &s.admin).collect();
    let have = u8::try_from(admins.len()).unwrap_or(u8::MAX);
    if have < need { Err(Shortfall::Pending { have, need }) } else { Ok(Authority { role, have, need }) }
}

/// Whose keys the action changes.
fn subject(action: &Action) -> Option<&Name> {
    match action {
        Action::KeyAdd { admin, .. } | Action::KeyRevoke { admin, .. } => Some(admin),
        _ => None,
    }
}

/// How many admins must sign. A policy that asks for more owners is signed by as many.
fn threshold(trust: &TrustState, action: &Action, class: &ActionClass, own: bool) -> u8 {
    if own || !class.many {
        return 1;
    }
    match action {
        Action::PolicySet { policy } => trust.policy().owners_needed.max(policy.owners_needed),
        _ => trust.policy().owners_needed,
    }
}

/// What a class may do at most: a browser key is below all others, which are equal.
fn ceiling(class: KeyClass) -> u8 {
    u8::from(class != KeyClass::Browser)
}

/// A key adds only keys whose ceiling is not above its own.
fn needed_ceiling(action: &Action) -> u8 {
    match action {
        Action::KeyAdd { key, .. } => ceiling(key.class),
        Action::AdminAdd { keys, .. } => keys.iter().map(|k| ceiling(k.class)).max().unwrap_or(0),
        _ => 0,
    }
}
