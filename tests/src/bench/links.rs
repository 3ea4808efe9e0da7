//! What an idle link costs a relay: many small sites, two links each, nobody asks anything.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use qb_link::{
    Admission, DialConfig, Hints, LinkState, OuterTls, RosterEntry, Source, Uplink, UplinkConfig,
    UplinkHandle,
};
use qb_model::action::{Action, AuthorizedNode, KeyClass, NewKey};
use qb_model::charter::{CharterBody, CharterRelay, Founder};
use qb_model::command::{Command, Entry, Found};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::intent::{Anchor, Intent};
use qb_model::state::SiteState;
use qb_model::statement::SignedBytes;
use qb_model::trust::TrustEntry;
use qb_model::{Digest, Millis, Name, NodeId, Nonce, Nonce16, PublicKey};
use serde_json::json;

use super::idle::pss_kib;
use super::print;
use crate::binaries::Binaries;
use crate::relay::{Relay, TlsFiles};
use crate::signals;
use crate::signing::now;

/// Ends all links.
type Stop = tokio::sync::watch::Receiver<bool>;

/// Sites; each has a gateway and a standby.
const SITES: u16 = 300;
/// How long the links stay idle before the relay is looked at: longer than two beats, so that what
/// a link allocates at its first ones is there.
const IDLE: Duration = Duration::from_secs(35);
/// How long all links may take to come up.
const LIMIT: Duration = Duration::from_secs(120);
/// Port of the relay.
const PORT: u16 = 18_402;

/// Once without TLS and once with it, on the same sites.
pub(super) fn measure(binaries: &Binaries) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("qb-bench-").tempdir()?;
    let mut relay = Relay::open(dir.path(), PORT, binaries)?;
    let mut sites = Vec::new();
    for number in 0..SITES {
        let site = Arc::new(Idle::found(number, &relay.url(), relay.key)?);
        relay.take(&site.registration()?)?;
        sites.push(site);
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let files = TlsFiles { certificate: dir.path().join("certificate.pem"), key: dir.path().join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem())?;
    std::fs::write(&files.key, made.signing_key.serialize_pem())?;
    // Both begin with a relay that has read the sites from its store.
    relay.kill();
    relay.start()?;
    one(&relay, &sites, false).inspect_err(|_| eprintln!("{}", relay.tail(15)))?;
    relay.restart_with_tls(files)?;
    one(&relay, &sites, true).inspect_err(|_| eprintln!("{}", relay.tail(15)))
}

fn one(relay: &Relay, sites: &[Arc<Idle>], tls: bool) -> Result<()> {
    let empty = pss_kib(relay.pid()?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let links = {
        let _in = runtime.enter();
        let each = |site: &Arc<Idle>| [0, 1].map(|node| site.dial(node, relay, &stopped));
        sites.iter().flat_map(each).collect::<Result<Vec<_>>>()?
    };
    runtime.block_on(all_up(&links))?;
    let began = std::time::Instant::now();
    while began.elapsed() < IDLE {
        signals::check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let full = pss_kib(relay.pid()?)?;
    let still = links.iter().filter(|l| matches!(*l.state().borrow(), LinkState::Up { .. })).count();
    ensure!(still == links.len(), "{still} of {} links are up", links.len());
    drop(stop);
    let each = full.saturating_sub(empty) as f64 / links.len() as f64;
    print(
        "relay_idle_link",
        &json!({ "tls": tls, "links": links.len(), "sites": SITES, "kib_per_link": (each * 10.0).round() / 10.0,
            "relay_before_kib": empty, "relay_after_kib": full }),
    )
}

async fn all_up(links: &[UplinkHandle]) -> Result<()> {
    let wait = async {
        for link in links {
            let mut state = link.state();
            state.wait_for(|s| matches!(s, LinkState::Up { .. })).await.context("an uplink ended")?;
        }
        Ok(())
    };
    tokio::time::timeout(LIMIT, wait).await.context("not all links come up")?
}

/// A founded site of two nodes that says nothing.
pub(super) struct Idle {
    nodes: [Arc<SecretKey>; 2],
    owner: SecretKey,
    state: SiteState,
    founding: Vec<u8>,
    relay: PublicKey,
    /// An org belongs to whoever founds it: each site has its own.
    org: Name,
}

impl Idle {
    pub(super) fn found(number: u16, url: &str, relay: PublicKey) -> Result<Self> {
        let key = |part: u8| {
            let mut seed = [part; 32];
            seed[..2].copy_from_slice(&number.to_be_bytes());
            SecretKey::from_bytes(&seed)
        };
        let (nodes, owner) = ([Arc::new(key(1)), Arc::new(key(2))], key(3));
        let own = NewKey { key: owner.public_key(), class: KeyClass::Cli, expires_ms: None };
        let admin = "bench".parse()?;
        let founder = Founder { admin, name: "Bench".into(), keys: vec![own] };
        let charter = CharterBody {
            v: 1,
            name: format!("site-{number}").parse()?,
            nonce: Nonce16([7; 16]),
            founders: vec![founder],
            recovery: None,
            relays: vec![CharterRelay { url: url.into(), key: relay }],
            issued_ms: now(),
        };
        let charter = charter.sign(&[&owner]).to_bytes();
        let mut state = SiteState::new(&charter)?;
        let authorized = |part: usize| -> Result<AuthorizedNode> {
            let node = NodeId(nodes[part].public_key().0);
            let knock = Digest([9; 32]);
            Ok(AuthorizedNode { node, host: format!("n{part}").parse()?, knock })
        };
        let mut both = vec![authorized(0)?, authorized(1)?];
        both.sort_by_key(|n| n.node);
        let founding = order(&state, 0, Action::SiteFound { nodes: both })?.sign(&[&owner])?.to_bytes();
        let command = Command::Found(Found { charter, envelope: founding.clone() });
        let entry = Entry { stamp: now(), command }.encode()?;
        state.apply(1, &entry)?;
        ensure!(state.founded(), "a site of the bench is not founded");
        let org = format!("org-{number}").parse()?;
        Ok(Self { nodes, owner, state, founding, relay, org })
    }

    /// What `qb relay register` presents.
    pub(super) fn id(&self) -> qb_model::SiteId {
        self.state.site()
    }

    pub(super) fn registration(&self) -> Result<Vec<u8>> {
        let action = Action::RelayRegister { org: self.org.clone(), key: self.relay };
        let intent = order(&self.state, 1, action)?.sign(&[&self.owner])?.to_bytes();
        let form = json!({ "v": 1, "charter": String::from_utf8(self.state.charter().to_vec())?,
            "trust": self.state.trust().log(), "intent": String::from_utf8(intent)? });
        Ok(serde_json::to_vec(&form)?)
    }

    fn dial(self: &Arc<Self>, node: usize, relay: &Relay, stop: &Stop) -> Result<UplinkHandle> {
        let dial = DialConfig { url: relay.url(), proxy: None, outer: OuterTls::Any };
        let config = UplinkConfig {
            dial,
            relay: relay.key,
            site: self.state.site(),
            signer: self.nodes[node].clone(),
            incarnation: 1,
            source: self.clone(),
        };
        let (uplink, handle) = Uplink::new(config)?;
        let mut stop = stop.clone();
        let stopped = async move {
            // The sender gone is the end as well.
            let _ = stop.wait_for(|s| *s).await;
        };
        // Whatever the relay asks is closed at once: an idle site has nothing to show.
        tokio::spawn(uplink.run(drop, stopped));
        Ok(handle)
    }
}

/// An intent as it would be signed now.
fn order(state: &SiteState, number: u8, action: Action) -> Result<Intent> {
    let (index, hash) = state.chain_head();
    let names_trust = qb_model::trust::required(&action).names_trust;
    let expect = names_trust.then(|| qb_model::intent::Expect::Trust { hash: state.trust().head() });
    let anchor = if state.founded() { Anchor { index, hash } } else { Anchor::founding(state.site()) };
    Ok(Intent {
        v: 1,
        site: state.site(),
        id: ulid::Ulid::from_parts(now().0, u128::from(number)).to_string().parse()?,
        by: "bench".parse()?,
        issued_ms: now(),
        expires_ms: now().plus(3_600_000),
        anchor,
        after: None,
        expect: expect.into_iter().collect(),
        action,
        note: None,
    })
}

impl Source for Idle {
    fn log_time(&self) -> Millis {
        self.state.log_time()
    }
    fn epoch(&self) -> u64 {
        self.state.epoch()
    }
    fn trust_after(&self, _: &Digest) -> Vec<TrustEntry> {
        // The relay has it from the registration.
        Vec::new()
    }
    fn roster_after(&self, index: u64) -> Vec<RosterEntry> {
        let founding =
            RosterEntry { index: 1, log_time: self.state.log_time(), envelope: self.founding.clone() };
        if index == 0 { vec![founding] } else { Vec::new() }
    }
    fn knock(&self, _: PublicKey, _: Nonce) -> Option<SignedBytes> {
        None
    }
    fn hints(&self) -> Option<Hints> {
        None
    }
    fn admitted(&self, _: Admission, _: Vec<TrustEntry>) {}
    fn revoked(&self, _: Vec<u8>, _: Vec<TrustEntry>) {}
}
