//! S73: a page that a relay serves can misuse the key of its origin. It signs every action outside the
//! portal set with it; the site refuses each for the key's class.

use anyhow::{Context as _, Result, ensure};
use qb_model::action::{Action, KeyClass, NewKey, PORTAL_SET, Policy, RevokeMode, RevokeReason, Role};
use qb_model::intent::{Anchor, Intent};
use qb_model::trust::ACTIONS;
use qb_model::{Digest, Millis, NodeId, PublicKey, SiteId};
use qb_tests::signing::Signatory;
use qb_tests::site::ADMIN;
use serde_json::{Value, json};

use super::Fixture;

/// Signs payloads with the key that the page keeps, as its own code would, and sends them.
const MISUSE: &str = "const [payloads] = arguments;
    const text = b => btoa(String.fromCharCode(...new Uint8Array(b)));
    const bytes = s => new TextEncoder().encode(s);
    const db = await new Promise((ok, no) => { const r = indexedDB.open('qb', 1); r.onsuccess = () => ok(r.result); r.onerror = no; });
    const key = await new Promise((ok, no) => { const r = db.transaction('keys').objectStore('keys').get('browser'); r.onsuccess = () => ok(r.result); r.onerror = no; });
    const type = 'application/vnd.qb.intent.v1+json';
    const out = [];
    for (const payload of payloads) {
        const body = bytes(payload);
        const pae = bytes(`DSSEv1 ${type.length} ${type} ${body.length} ${payload}`);
        const sig = await crypto.subtle.sign('Ed25519', key.pair.privateKey, pae);
        const envelope = { payload: text(body), payloadType: type, signatures: [{ keyid: `ed25519:${key.public}`, sig: text(sig) }] };
        const answer = await fetch('/v1/sites/lyon/intents?wait=10s', { method: 'POST', body: JSON.stringify(envelope),
            headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${sessionStorage.getItem('qb.token')}` } });
        out.push({ envelope: JSON.stringify(envelope), answer: await answer.json() });
    }
    return out;";

/// Signs and sends all of them from the page of `url`; the site refuses all and is as before.
pub(super) fn holds(f: &mut Fixture, site: SiteId, url: &str) -> Result<()> {
    let founder = f.site.founder()?;
    let node: NodeId = f.node("node-2")?["id"].as_str().context("its key")?.parse()?;
    let head = f.site.head()?;
    let mut names = Vec::new();
    let mut payloads = Vec::new();
    for action in outside(&founder, node)? {
        names.push(action.name());
        let mut intent = founder.intent(site, &head, action)?;
        if intent.action.name() == "site.found" {
            intent.anchor = Anchor::founding(site);
        }
        payloads.push(payload(&founder, &intent)?);
    }
    let mut all: Vec<&str> = names.iter().copied().chain(PORTAL_SET).collect();
    all.sort_unstable();
    let mut known = ACTIONS.to_vec();
    known.sort_unstable();
    ensure!(all == known, "an action is missing: {all:?}");

    let before = f.site.desired()?;
    f.browser.go(&format!("{url}/lyon"))?;
    f.browser.shows(super::SOON, "Mira Okafor")?;
    let script = format!(
        "return (async (...arguments_) => {{ {} }})(...arguments)",
        MISUSE.replace("= arguments;", "= arguments_;")
    );
    let answers = f.browser.js(&script, &[json!(payloads)])?;
    let answers = answers.as_array().context("no answers")?;
    ensure!(answers.len() == names.len(), "{} of {}", answers.len(), names.len());
    for (name, made) in names.iter().zip(answers) {
        // An honest relay takes none of them.
        ensure!(made["answer"]["type"] == "key_class", "{name}: {}", made["answer"]);
        // One that lies passes them on: the site refuses each for good.
        let envelope = made["envelope"].as_str().context("an envelope")?;
        let answer = f.site.send(envelope.as_bytes())?.json();
        ensure!(answer["state"] == "rejected" && answer["reason"] == "key_class", "{name}: {answer}");
    }
    ensure!(f.site.desired()? == before, "the site changed");
    Ok(())
}

/// The bytes that are signed of an intent.
fn payload(founder: &Signatory, intent: &Intent) -> Result<String> {
    use base64::Engine as _;
    let envelope: Value = serde_json::from_slice(&founder.sign(intent)?)?;
    let text = envelope["payload"].as_str().context("a payload")?;
    Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text)?)?)
}

/// Every action that no browser key may order, as it could be meant.
fn outside(founder: &Signatory, node: NodeId) -> Result<Vec<Action>> {
    let fresh = || -> Result<PublicKey> { Ok(Signatory::fresh("eve")?.public_key()) };
    let key =
        || -> Result<NewKey> { Ok(NewKey { key: fresh()?, class: KeyClass::Browser, expires_ms: None }) };
    let reason = RevokeReason::Retired;
    let authorized =
        qb_model::action::AuthorizedNode { node, host: "node-2".parse()?, knock: Digest([9; 32]) };
    let intent = Digest([7; 32]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as u64;
    let mut all = ACTIONS.map(str::to_owned).to_vec();
    all.sort_unstable();
    let policy = Policy { browser_actions: all, ..Policy::default() };
    Ok(vec![
        Action::SiteFound { nodes: vec![authorized] },
        Action::NodeRevoke { node, then: RevokeMode::Isolate },
        Action::ClusterDelete { cluster: "clus100".parse()? },
        Action::AdminAdd {
            admin: "eve".parse()?,
            name: "Eve".to_owned(),
            role: Role::Owner,
            keys: vec![key()?],
        },
        Action::AdminRemove { admin: ADMIN.parse()?, reason },
        Action::AdminRole { admin: ADMIN.parse()?, role: Role::Viewer },
        Action::KeyAdd { admin: ADMIN.parse()?, key: key()? },
        Action::KeyRevoke { admin: ADMIN.parse()?, key: founder.public_key(), reason },
        Action::PolicySet { policy },
        Action::PublisherAdd { publisher: "eve".parse()?, key: fresh()? },
        Action::PublisherRemove { key: fresh()? },
        Action::RelayAdd { url: "https://eve.example".to_owned(), key: fresh()? },
        Action::RelayRemove { key: fresh()? },
        Action::RelayRegister { org: "eve".parse()?, key: fresh()? },
        Action::IntentRelease { intent },
        Action::IntentCancel { intent },
        Action::AgentUpgrade { bundle: intent, version: "9.0.0".parse()?, first: vec![node], batch: 1 },
        Action::AgentUpgradeStop { upgrade: intent },
        Action::ClusterUpgrade {
            cluster: "clus100".parse()?,
            driver: "rehearsal".parse()?,
            version: "9.0.0".parse()?,
            bundle: intent,
            batch: 1,
            settings: None,
        },
        Action::ClusterUpgradeStop { cluster: "clus100".parse()?, upgrade: intent },
        Action::ClusterBackup { cluster: "clus100".parse()? },
        Action::ClusterRestore { cluster: "clus100".parse()?, node, backup: intent, others: Vec::new() },
        Action::ClusterLabel {
            cluster: "clus100".parse()?,
            node,
            host: "node-2".parse()?,
            labels: Vec::new(),
            taints: Vec::new(),
        },
        Action::ClusterAddonSet {
            cluster: "clus100".parse()?,
            addon: "eve".parse()?,
            manifest: vec!["kind: ClusterRoleBinding".to_owned()],
        },
        Action::ClusterAddonRemove { cluster: "clus100".parse()?, addon: "dns".parse()? },
        Action::TokenMint {
            token: fresh()?,
            uses: 1,
            expires_ms: Millis(now + 3_600_000),
            host: None,
            addresses: Vec::new(),
            labels: Vec::new(),
        },
        Action::TokenRevoke { token: fresh()? },
    ])
}
