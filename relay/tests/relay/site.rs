//! A site in memory: the real state machine, fed by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use qb_model::action::{Action, AuthorizedNode, KeyClass, NewKey, RevokeMode, Role};
use qb_model::chain::AuditKind;
use qb_model::charter::{CharterBody, CharterRelay, Founder};
use qb_model::command::{Command, Entry, Found};
use qb_model::dsse::{SecretKey, Signer};
use qb_model::intent::{Anchor, Expect, Intent};
use qb_model::outcome::Outcome;
use qb_model::state::{Applied, SiteState};
use qb_model::statement::{Statement as _, TokenEntry, TokenUse};
use qb_model::trust::required;
use qb_model::*;
use qb_relay::Registration;

pub(crate) const OLGA: u8 = 1;
pub(crate) const VERA: u8 = 2;

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A site. Keys are made of `base` and a number, so that two sites share none.
pub(crate) struct FakeSite {
    pub(crate) base: u8,
    pub(crate) name: Name,
    pub(crate) relay: PublicKey,
    state: Mutex<SiteState>,
    applied: AtomicU64,
    made: AtomicU64,
}

impl FakeSite {
    /// A founded site whose charter trusts a relay; its nodes are numbers 101 and 102, its owner is
    /// olga, its viewer vera.
    pub(crate) fn founded(base: u8, name: &str, url: &str, relay: PublicKey) -> Arc<Self> {
        let olga = NewKey { key: public(base, OLGA), class: KeyClass::Cli, expires_ms: None };
        let charter = CharterBody {
            v: 1,
            name: name.parse().unwrap(),
            nonce: Nonce16([base; 16]),
            founders: vec![Founder { admin: "olga".parse().unwrap(), name: "Olga".into(), keys: vec![olga] }],
            recovery: None,
            relays: vec![CharterRelay { url: url.into(), key: relay }],
            issued_ms: Millis(now() - 60_000),
        };
        let charter = charter.sign(&[&key(base, OLGA)]).to_bytes();
        let state = SiteState::new(&charter).unwrap();
        let site = Arc::new(Self {
            base,
            name: name.parse().unwrap(),
            relay,
            state: Mutex::new(state),
            applied: AtomicU64::new(0),
            made: AtomicU64::new(1),
        });
        let mut nodes = vec![site.authorized(101), site.authorized(102)];
        nodes.sort_by_key(|n| n.node);
        let envelope = site.sign("olga", Action::SiteFound { nodes }, OLGA);
        site.commit(Command::Found(Found { charter, envelope }));
        let key = NewKey { key: public(base, VERA), class: KeyClass::Cli, expires_ms: None };
        let (admin, name) = ("vera".parse().unwrap(), "Vera".into());
        let vera = Action::AdminAdd { admin, name, role: Role::Viewer, keys: vec![key] };
        site.must(vera);
        site
    }

    /// The same charter and the same beginning, and nothing since.
    pub(crate) fn forked(&self) -> Arc<Self> {
        let state = self.lock();
        let charter = state.charter().to_vec();
        let founding = state.audit().first().unwrap().body.clone();
        let site = Arc::new(Self {
            base: self.base,
            name: self.name.clone(),
            relay: self.relay,
            state: Mutex::new(SiteState::new(&charter).unwrap()),
            applied: AtomicU64::new(0),
            made: AtomicU64::new(1_000),
        });
        site.commit(Command::Found(Found { charter, envelope: founding }));
        site
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, SiteState> {
        self.state.lock().unwrap()
    }

    pub(crate) fn id(&self) -> SiteId {
        self.lock().site()
    }

    pub(crate) fn node(&self, number: u8) -> NodeId {
        NodeId(public(self.base, number).0)
    }

    pub(crate) fn host(number: u8) -> HostName {
        format!("host-{number}").parse().unwrap()
    }

    pub(crate) fn authorized(&self, number: u8) -> AuthorizedNode {
        AuthorizedNode { node: self.node(number), host: Self::host(number), knock: Digest([number; 32]) }
    }

    /// An intent as it would be signed now.
    pub(crate) fn intent(&self, by: &str, action: Action) -> Intent {
        let state = self.lock();
        let (index, hash) = state.chain_head();
        let founding = matches!(action, Action::SiteFound { .. });
        let names = required(&action).names_trust;
        let expect = if names { vec![Expect::Trust { hash: state.trust().head() }] } else { vec![] };
        Intent {
            v: 1,
            site: state.site(),
            id: ulid(self.made.fetch_add(1, Ordering::SeqCst)),
            by: by.parse().unwrap(),
            issued_ms: Millis(now()),
            expires_ms: Millis(now() + 3_600_000),
            anchor: if founding { Anchor::founding(state.site()) } else { Anchor { index, hash } },
            after: None,
            expect,
            action,
            note: None,
        }
    }

    pub(crate) fn sign(&self, by: &str, action: Action, number: u8) -> Vec<u8> {
        let intent = self.intent(by, action);
        intent.sign(&[&key(self.base, number)]).unwrap().to_bytes()
    }

    /// Leaves out labels of intents.
    pub(crate) fn skip_labels(&self, count: u64) {
        self.made.fetch_add(count, Ordering::SeqCst);
    }

    /// The next label intent: small, and changes the site each time.
    pub(crate) fn label(&self, value: &str) -> Action {
        let label = qb_model::action::Label { key: "rack".into(), value: value.into() };
        Action::NodeLabel { node: self.node(101), labels: vec![label] }
    }

    pub(crate) fn revoke(&self, number: u8) -> Action {
        Action::NodeRevoke { node: self.node(number), then: RevokeMode::Isolate }
    }

    /// The group lets a voter go: of two, none can be revoked.
    pub(crate) fn unseat(&self, number: u8) {
        let seat = self.lock().node(&self.node(number)).and_then(|node| node.seat).unwrap();
        assert_eq!(self.commit(Command::Unseat(seat)), Applied::Done);
    }

    pub(crate) fn must(&self, action: Action) {
        let envelope = self.sign("olga", action, OLGA);
        let (_, outcome, _) = self.judge(envelope).unwrap();
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    }

    /// Puts an envelope into the log.
    pub(crate) fn judge(&self, envelope: Vec<u8>) -> Result<(Digest, Outcome, u64), String> {
        match self.commit(Command::Intent(envelope)) {
            Applied::Intent { digest, outcome, index } => Ok((digest, outcome, index)),
            other => Err(format!("{other:?}")),
        }
    }

    fn commit(&self, command: Command) -> Applied {
        let entry = Entry { stamp: Millis(now()), command }.encode().unwrap();
        let index = self.applied.fetch_add(1, Ordering::SeqCst) + 1;
        self.lock().apply(index, &entry).unwrap().0
    }

    /// The roster's intents with their places in the chain.
    pub(crate) fn roster_after(&self, index: u64) -> Vec<qb_link::RosterEntry> {
        let state = self.lock();
        let makes = |body: &[u8]| {
            let payload = qb_model::envelope::Envelope::parse(body).unwrap();
            let action = Intent::parse(payload.payload()).unwrap().action;
            matches!(action.name(), "site.found" | "node.authorize" | "node.revoke")
        };
        let lets_in = |r: &&std::sync::Arc<qb_model::chain::AuditRecord>| match r.kind {
            AuditKind::Intent => matches!(r.outcome, Some(Outcome::Accepted { .. })) && makes(&r.body),
            kind => kind == AuditKind::TokenEntry,
        };
        let records = state.audit().iter();
        records
            .filter(|r| r.index > index && lets_in(r))
            .map(|r| qb_link::RosterEntry { index: r.index, log_time: r.log_time, envelope: r.body.clone() })
            .collect()
    }

    /// A node comes in by a join token of number 90, which is minted for it.
    pub(crate) fn enter(&self, number: u8) -> Applied {
        let token = public(self.base, 90);
        self.must(Action::TokenMint {
            token,
            uses: 1,
            expires_ms: Millis(now() + 3_600_000),
            host: None,
            addresses: vec![],
            labels: vec![],
        });
        let entry = {
            let state = self.lock();
            let held = &state.tokens()[&token];
            let (site, voter, v) = (state.site(), self.node(101), 1);
            let used = TokenUse { v, site, node: self.node(number), voter, nonce: Nonce([1; 32]) };
            TokenEntry {
                v,
                site,
                voter,
                token_use: used.sign(&key(self.base, 90)),
                host: Self::host(number),
                address: "127.0.0.1".into(),
                knock: Digest([number; 32]),
                mint_index: held.cites.index,
                minted_at: held.at,
                mint: state.intents()[&held.cites.digest].envelope.clone(),
            }
        };
        let envelope = qb_model::token::sign_entry(&entry, &key(self.base, 101));
        self.commit(Command::TokenUse(envelope))
    }

    /// What `qb relay register` would present.
    pub(crate) fn registration(&self, org: &str) -> Registration {
        let action = Action::RelayRegister { org: org.parse().unwrap(), key: self.relay };
        let intent = self.sign("olga", action, OLGA);
        let state = self.lock();
        Registration {
            v: 1,
            charter: String::from_utf8(state.charter().to_vec()).unwrap(),
            trust: state.trust().log().to_vec(),
            intent: String::from_utf8(intent).unwrap(),
        }
    }
}

/// The bytes of a secret key.
pub(crate) fn seed(base: u8, number: u8) -> [u8; 32] {
    let mut seed = [number; 32];
    seed[0] = base;
    seed
}

pub(crate) fn key(base: u8, number: u8) -> SecretKey {
    SecretKey::from_bytes(&seed(base, number))
}

pub(crate) fn public(base: u8, number: u8) -> PublicKey {
    key(base, number).public_key()
}

fn ulid(mut number: u64) -> IntentId {
    let alphabet = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut text = *b"01JD0000000000000000000000";
    for at in (10..26).rev() {
        text[at] = alphabet[(number % 32) as usize];
        number /= 32;
    }
    String::from_utf8(text.to_vec()).unwrap().parse().unwrap()
}
