//! What each action on trust changes, and the rules that hold after the change (security rules 3.1
//! to 3.3).

use crate::action::{Action, NewKey, Policy, RevokeReason, Role};
use crate::ids::{Generation, Millis, Name, PublicKey};
use crate::intent::ObjectRef;
use crate::judge::Verified;
use crate::key::check_public_key;
use crate::limits::{ADMIN_KEYS, ADMINS, PUBLISHERS, RELAYS, TRUST_BYTES, TRUST_ENTRIES};
use crate::outcome::Reason;
use crate::trust::state::{Former, Members};
use crate::trust::{Admin, AdminKey, KeyUse, Publisher, Relay, TrustEntry, TrustState, required};

/// Says for what else the site uses a key: nodes and tokens, which the trust state does not know.
type Elsewhere<'a> = &'a dyn Fn(&PublicKey) -> Option<KeyUse>;

impl TrustState {
    /// Applies an action on trust. On a refusal nothing has changed.
    ///
    /// `index` is the number of its record in the audit chain. `elsewhere` says which keys are nodes
    /// or tokens. The generation returned is that of the admin, or of the trust log.
    ///
    /// # Errors
    /// A rule that would be broken; the intent is then rejected for good.
    pub fn apply(
        &mut self,
        verified: &Verified,
        index: u64,
        log_time: Millis,
        elsewhere: Elsewhere<'_>,
    ) -> Result<Generation, Reason> {
        let action = &verified.intent().action;
        let class = required(action);
        if !class.trust {
            return Err(Reason::Malformed { what: format!("{} is no action on trust", class.name) });
        }
        let bytes = self.log_bytes.saturating_add(verified.envelope().len() as u64);
        if !class.removal && (self.log.len() >= TRUST_ENTRIES || bytes > TRUST_BYTES as u64) {
            return Err(Reason::Cap { what: "entries of the trust log".into(), max: TRUST_ENTRIES as u64 });
        }
        let mut next = self.members.clone();
        let subject = next.change(action, elsewhere)?;
        next.keeps_an_owner()?;
        self.members = next;
        self.log_bytes = bytes;
        let entry = TrustEntry {
            parent: self.head,
            digest: verified.digest(),
            index,
            log_time,
            envelope: verified.envelope().to_vec(),
        };
        self.head = entry.head();
        self.log.push(entry);
        let object = subject.map_or(ObjectRef::Trust, ObjectRef::Admin);
        Ok(self.generation(&object).unwrap_or_default())
    }
}

impl Members {
    /// Makes the change and returns the admin that it changed, if it is one.
    fn change(&mut self, action: &Action, elsewhere: Elsewhere<'_>) -> Result<Option<Name>, Reason> {
        match action {
            Action::AdminAdd { admin, name, role, keys } => {
                self.admin_add(admin, name, *role, keys, elsewhere)?;
                Ok(Some(admin.clone()))
            }
            Action::AdminRemove { admin, reason } => {
                self.admin_remove(admin, *reason)?;
                Ok(Some(admin.clone()))
            }
            Action::AdminRole { admin, role } => {
                let entry = self.admin(admin)?;
                if entry.role == *role {
                    return Err(Reason::NoChange { what: format!("the role of admin {admin}") });
                }
                entry.role = *role;
                entry.generation = entry.generation.next();
                Ok(Some(admin.clone()))
            }
            Action::KeyAdd { admin, key } => {
                self.key_add(admin, key, elsewhere)?;
                Ok(Some(admin.clone()))
            }
            Action::KeyRevoke { admin, key, reason } => {
                self.key_revoke(admin, key, *reason)?;
                Ok(Some(admin.clone()))
            }
            Action::PolicySet { policy } => self.policy_set(policy).map(|()| None),
            Action::PublisherAdd { publisher, key } => {
                self.usable(key, KeyUse::Publisher, elsewhere)?;
                cap("publishers", self.publishers.len(), PUBLISHERS)?;
                self.publishers.insert(*key, Publisher { name: publisher.clone() });
                Ok(None)
            }
            Action::PublisherRemove { key } => {
                self.publishers.remove(key).ok_or(Reason::UnknownPublisher { key: *key })?;
                self.retire(*key, KeyUse::Publisher, RevokeReason::Retired);
                Ok(None)
            }
            Action::RelayAdd { url, key } => {
                self.usable(key, KeyUse::Relay, elsewhere)?;
                cap("relays", self.relays.len(), RELAYS)?;
                self.relays.insert(*key, Relay { url: url.clone(), org: None });
                Ok(None)
            }
            Action::RelayRemove { key } => {
                self.relays.remove(key).ok_or(Reason::UnknownRelay { key: *key })?;
                self.retire(*key, KeyUse::Relay, RevokeReason::Retired);
                Ok(None)
            }
            Action::RelayRegister { org, key } => {
                let relay = self.relays.get_mut(key).ok_or(Reason::UnknownRelay { key: *key })?;
                if relay.org.replace(org.clone()).as_ref() == Some(org) {
                    return Err(Reason::NoChange { what: format!("the org at relay {key}") });
                }
                Ok(None)
            }
            other => Err(Reason::Malformed { what: format!("{} is no action on trust", other.name()) }),
        }
    }

    fn admin(&mut self, admin: &Name) -> Result<&mut Admin, Reason> {
        self.admins.get_mut(admin).ok_or_else(|| Reason::UnknownAdmin { admin: admin.clone() })
    }

    fn admin_add(
        &mut self,
        admin: &Name,
        name: &str,
        role: Role,
        keys: &[NewKey],
        elsewhere: Elsewhere<'_>,
    ) -> Result<(), Reason> {
        if self.admins.contains_key(admin) {
            return Err(Reason::AdminExists { admin: admin.clone() });
        }
        cap("admins", self.admins.len(), ADMINS)?;
        for key in keys {
            self.usable(&key.key, KeyUse::Admin, elsewhere)?;
        }
        let generation = self.gone.remove(admin).unwrap_or_default().next();
        let keys = keys.iter().map(|k| (k.key, AdminKey::from(k))).collect();
        self.admins.insert(admin.clone(), Admin { name: name.to_owned(), role, keys, generation });
        Ok(())
    }

    fn admin_remove(&mut self, admin: &Name, reason: RevokeReason) -> Result<(), Reason> {
        let entry = self.admins.remove(admin).ok_or_else(|| Reason::UnknownAdmin { admin: admin.clone() })?;
        for key in entry.keys.into_keys() {
            self.retire(key, KeyUse::Admin, reason);
        }
        self.gone.insert(admin.clone(), entry.generation.next());
        Ok(())
    }

    fn key_add(&mut self, admin: &Name, key: &NewKey, elsewhere: Elsewhere<'_>) -> Result<(), Reason> {
        self.admin(admin)?;
        self.usable(&key.key, KeyUse::Admin, elsewhere)?;
        let entry = self.admin(admin)?;
        cap("keys of that admin", entry.keys.len(), ADMIN_KEYS)?;
        entry.keys.insert(key.key, AdminKey::from(key));
        entry.generation = entry.generation.next();
        Ok(())
    }

    fn key_revoke(&mut self, admin: &Name, key: &PublicKey, reason: RevokeReason) -> Result<(), Reason> {
        let entry = self.admin(admin)?;
        entry.keys.remove(key).ok_or(Reason::UnknownKey { key: *key })?;
        entry.generation = entry.generation.next();
        self.retire(*key, KeyUse::Admin, reason);
        Ok(())
    }

    fn policy_set(&mut self, policy: &Policy) -> Result<(), Reason> {
        if self.policy == *policy {
            return Err(Reason::NoChange { what: "the policy".into() });
        }
        self.policy = policy.clone();
        Ok(())
    }

    fn retire(&mut self, key: PublicKey, used_as: KeyUse, reason: RevokeReason) {
        self.former.insert(key, Former { used_as, reason });
    }

    /// Whether a key may be added for this use: a good key, not in use, never used for another thing,
    /// not compromised.
    fn usable(&self, key: &PublicKey, used_as: KeyUse, elsewhere: Elsewhere<'_>) -> Result<(), Reason> {
        check_public_key(key).map_err(|e| Reason::WeakKey { what: e.to_string() })?;
        if let Some(used_as) = self.key_use(key).or_else(|| elsewhere(key)) {
            return Err(Reason::KeyInUse { key: *key, used_as });
        }
        match self.former.get(key) {
            Some(former) if former.reason == RevokeReason::Compromised => {
                Err(Reason::KeyRevoked { key: *key })
            }
            Some(former) if former.used_as != used_as => {
                Err(Reason::KeyInUse { key: *key, used_as: former.used_as })
            }
            _ => Ok(()),
        }
    }

    /// The last-owner rule: after every change as many owners with a lasting key are left as must sign.
    fn keeps_an_owner(&self) -> Result<(), Reason> {
        let need = u32::from(self.policy.owners_needed.max(1));
        let left = self.admins.values().filter(|a| a.is_lasting_owner()).count();
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        if left < need { Err(Reason::LastOwner { left, need }) } else { Ok(()) }
    }
}

fn cap(what: &str, have: usize, max: usize) -> Result<(), Reason> {
    if have < max { Ok(()) } else { Err(Reason::Cap { what: what.to_owned(), max: max as u64 }) }
}
