//! A site's log in memory: the real state machine, and how a relay may answer for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_cli::out::text::now;
use qb_model::action::{Action, AuthorizedNode};
use qb_model::charter::Charter;
use qb_model::command::{Command, Entry, Found};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::envelope::Envelope;
use qb_model::intent::{Anchor, Intent};
use qb_model::outcome::Outcome;
use qb_model::state::{Applied, SiteState};
use qb_model::statement::{Receipt, Statement as _};
use qb_model::waiting::WaitingOn;
use qb_model::{Digest, Millis, NodeId};
use qb_portal::view::*;

use crate::made;
use crate::site::State;

/// How intents are answered for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As a node of the site does.
    #[default]
    Site,
    /// As a relay that has a receipt.
    Signed,
    /// As a relay whose site is offline.
    Queued,
    /// As a relay that says done and has nothing.
    Lies,
    /// As a relay with a receipt by a key of its own.
    Forges,
    /// As a relay that calls an acceptance a rejection.
    Twists,
}

/// The log.
pub(crate) struct Log {
    state: SiteState,
    applied: u64,
}

fn node(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

impl Log {
    /// Founded on node 1.
    pub(crate) fn founded(charter: &Charter, founder: &SecretKey) -> Self {
        let state = SiteState::new(charter.envelope()).unwrap();
        let mut log = Self { state, applied: 0 };
        let first = made::waiting_node(1);
        let nodes = vec![AuthorizedNode { node: first.id, host: first.name, knock: Digest([1; 32]) }];
        let intent = Intent {
            v: 1,
            site: charter.site_id(),
            id: "01JD0000000000000000000000".parse().unwrap(),
            by: charter.body().founders[0].admin.clone(),
            issued_ms: now(),
            expires_ms: now().plus(600_000),
            anchor: Anchor::founding(charter.site_id()),
            after: None,
            expect: vec![],
            action: Action::SiteFound { nodes },
            note: None,
        };
        let envelope = intent.sign(&[founder]).unwrap().to_bytes();
        log.commit(Command::Found(Found { charter: charter.envelope().to_vec(), envelope }));
        log
    }

    fn commit(&mut self, command: Command) -> Applied {
        self.applied += 1;
        let entry = Entry { stamp: now(), command }.encode().unwrap();
        self.state.apply(self.applied, &entry).unwrap().0
    }

    pub(crate) fn head(&self) -> Head {
        let (index, hash) = self.state.chain_head();
        Head { index, hash, trust: self.state.trust().head(), log_time: self.state.log_time() }
    }

    pub(crate) fn records(&self, from: u64) -> Vec<AuditView> {
        let view = |r: &qb_model::chain::AuditRecord| AuditView {
            number: r.index,
            index: r.index,
            at: r.log_time,
            by: "mira".into(),
            sentence: String::new(),
            outcome: String::new(),
            digest: r.digest,
            head: r.head,
            record: STANDARD.encode(postcard::to_stdvec(r).unwrap()),
        };
        self.state.audit().iter().filter(|r| r.index >= from).map(|r| view(r)).collect()
    }

    fn receipt(&self, intent: Digest, outcome: Outcome, index: u64, by: u8) -> String {
        let key = node(by);
        let (site, node) = (self.state.site(), NodeId(key.public_key().0));
        let head = self.state.chain_head().1;
        let receipt = Receipt { v: 1, site, node, intent, outcome, index, head };
        STANDARD.encode(receipt.sign(&key).to_bytes())
    }
}

/// What becomes of an intent, and what is said of it.
pub(crate) fn answer(state: &mut State, envelope: &Envelope, intent: &Intent) -> IntentView {
    let mode = state.mode;
    let log = state.log.as_mut().unwrap();
    let mut view = made::intent(envelope.digest(), intent, None);
    if mode == Mode::Queued {
        view.state = IntentState::Held;
        view.detail = Some("the relay says: queued 0 s ago, expires in 15 min".into());
        let wait = WaitingOn::itself(
            "relay.link",
            intent.id.as_str(),
            "waits for a link",
            Millis(now().0 - 130_000),
        );
        view.waiting_on = Some(wait);
        view.says = Some(Says::Relay);
        return view;
    }
    if mode == Mode::Lies {
        view.says = Some(Says::Site);
        return view;
    }
    let Applied::Intent { digest, outcome, index } = log.commit(Command::Intent(envelope.to_bytes())) else {
        panic!("signed by the founder");
    };
    view.index = Some(index);
    if let Outcome::Rejected(reason) = &outcome {
        view.state = IntentState::Rejected;
        view.detail = Some(reason.to_string());
    }
    view.receipt = match mode {
        Mode::Signed | Mode::Twists => Some(log.receipt(digest, outcome, index, 1)),
        Mode::Forges => Some(log.receipt(digest, outcome, index, 77)),
        _ => None,
    };
    if mode == Mode::Twists {
        view.state = IntentState::Rejected;
        view.detail = Some("nobody likes it".into());
    }
    view.says = Some(Says::Site);
    view
}
