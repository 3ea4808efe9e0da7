//! The relay as a door: registration, login, and whose word an outcome is.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::post;
use qb_cli::cmd::relay::Registration;
use qb_cli::keyfile::KeyFile;
use qb_model::PublicKey;
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::trust::replay_log;
use qb_portal::{Access, DoorConfig};
use zeroize::Zeroizing;

use crate::door::{Lab, Ran};
use crate::log::{Log, Mode};

/// A site with a real log behind a socket, and a relay in front of it.
struct Far {
    lab: Lab,
    url: String,
    key: PublicKey,
    registered: Arc<Mutex<Vec<Registration>>>,
    runtime: tokio::runtime::Runtime,
}

impl Far {
    fn new() -> Self {
        let lab = Lab::new(2);
        let file = KeyFile::load(&lab.folder.path().join("config/keys/lyon.key")).unwrap();
        let secret = file.open(|| Ok(Zeroizing::new(String::new()))).unwrap();
        lab.site.lock().log = Some(Log::founded(&lab.site.charter, &secret));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut far = Self { lab, url: String::new(), key: key(50), registered: Arc::default(), runtime };
        far.url = far.serve(far.key);
        far
    }

    /// Serves a relay with a key; its address.
    fn serve(&self, server_key: PublicKey) -> String {
        let _guard = self.runtime.enter();
        let listener = self.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let url = format!("http://{host}");
        let access = Access::Network { origins: vec![url.clone()], hosts: vec![host] };
        let kept = Arc::clone(&self.registered);
        let take = move |axum::Json(form): axum::Json<Registration>| async move {
            kept.lock().unwrap().push(form);
            axum::Json(serde_json::json!({"v": 1}))
        };
        let pages = Router::new().route("/v1/register", post(take));
        let router =
            qb_portal::api_with_pages(self.lab.site.clone(), DoorConfig { access, server_key }, pages);
        self.runtime.spawn(qb_portal::serve(listener, router, std::future::pending()));
        url
    }

    /// Through the relay, which answers for intents like this.
    fn far(&self, mode: Mode, args: &[&str]) -> Ran {
        self.lab.site.lock().mode = mode;
        let door = format!("relay:{}", self.url);
        let ran = self.lab.qb(&[&["--door", &door], args].concat());
        self.lab.site.lock().mode = Mode::Site;
        ran
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.lab.folder.path().join("config/config.toml")).unwrap()
    }
}

fn key(number: u8) -> PublicKey {
    SecretKey::from_bytes(&[number; 32]).public_key()
}

/// `qb admin add NAME` with a key made of a number.
fn admin(name: &str, number: u8) -> Vec<String> {
    let key = key(number).to_string();
    ["admin", "add", name, "--role", "viewer", "--public-key", &key, "-y"].map(str::to_owned).to_vec()
}

#[test]
fn a_relay_is_added_registered_listed_and_removed() {
    let far = Far::new();
    let (url, told) = (far.url.as_str(), far.key.to_string());
    let wrong = far.lab.qb(&["relay", "add", url, "--relay-key", &key(9).to_string(), "-y"]);
    assert_eq!(wrong.code, 3, "{wrong:?}");
    assert!(wrong.err.contains("Another key answers at"), "{}", wrong.err);
    assert!(far.lab.sent().is_empty(), "nothing was sent");
    let early = far.lab.qb(&["relay", "register", url, "--org", "acme", "-y"]);
    assert_eq!(early.code, 3, "{early:?}");
    assert!(early.err.contains("lyon does not trust the relay"), "{}", early.err);

    let added = far.lab.qb(&["relay", "add", url, "-y"]);
    assert_eq!(added.code, 0, "{added:?}");
    assert!(added.err.contains("Trust on first use"), "{}", added.err);
    assert!(added.err.contains(&format!("next: qb relay register {url} --org ORG")), "{}", added.err);
    assert!(far.config().contains(&format!("door.sock\", \"relay:{url}\"]")), "{}", far.config());

    let registered = far.lab.qb(&["relay", "add", url, "--relay-key", &told, "--org", "acme", "-y"]);
    assert_eq!(registered.code, 0, "{registered:?}");
    assert!(!registered.err.contains("first use"), "{}", registered.err);
    let again = far.lab.qb(&["relay", "register", url, "--org", "acme", "-y"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(far.lab.sent(), ["relay.add", "relay.register"], "what is so already is not signed again");
    let shown = far.registered.lock().unwrap().clone();
    assert_eq!(shown.len(), 2);
    for form in shown {
        let charter = qb_model::charter::Charter::verify(form.charter.as_bytes()).unwrap();
        let trust = replay_log(&charter, &form.trust).unwrap();
        assert_eq!(trust.relays()[&far.key].org.as_ref().unwrap().as_str(), "acme");
        assert_eq!(form.intent.as_bytes(), form.trust.last().unwrap().envelope, "the one in the log");
    }

    let list = far.lab.qb(&["relay", "list", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(
        (&list[0]["url"], &list[0]["org"], &list[0]["door"]),
        (&url.into(), &"acme".into(), &true.into())
    );
    let removed = far.lab.qb(&["relay", "remove", url, "-y"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    assert!(!far.config().contains("relay:"), "{}", far.config());
    let list = far.lab.qb(&["relay", "list"]);
    assert!(list.out.is_empty() && list.err.contains("lyon trusts no relay"), "{list:?}");
}

#[test]
fn everything_is_read_through_the_relay() {
    let far = Far::new();
    let first = far.far(Mode::Site, &["node", "list", "-o", "name"]);
    assert_eq!((first.code, first.out.as_str()), (0, "lyon-r1-01\nlyon-r1-02\n"), "{first:?}");
    assert!(first.err.contains("First time at http://127.0.0.1:"), "{}", first.err);
    let reads: [&[&str]; 6] = [
        &["site", "status"],
        &["cluster", "list"],
        &["events", "--max", "2"],
        &["audit", "verify"],
        &["alert", "list"],
        &["relay", "list"],
    ];
    for args in reads {
        let ran = far.far(Mode::Site, args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        assert!(!ran.err.contains("First time"), "{args:?}: {}", ran.err);
    }
}

#[test]
fn a_relay_with_another_key_gets_no_login() {
    let far = Far::new();
    assert_eq!(far.far(Mode::Site, &["node", "list"]).code, 0);
    let logins = far.lab.site.lock().logins;
    let memory = far.lab.folder.path().join("config/known/lyon.json");
    let text = std::fs::read_to_string(&memory).unwrap();
    std::fs::write(&memory, text.replace(&far.key.to_string(), &key(51).to_string())).unwrap();
    let refused = far.far(Mode::Site, &["node", "list"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("another key than the one that is known"), "{}", refused.err);
    assert_eq!(far.lab.site.lock().logins, logins);
}

/// S33: done is what a node of the site signed and what was verified here.
#[test]
fn s33_without_a_verified_receipt_it_is_the_relays_word() {
    let far = Far::new();
    let cases: [(Mode, i32, &[&str]); 5] = [
        (Mode::Queued, 5, &["The relay says: waits at the relay since 2 min: lyon is offline; expires "]),
        (Mode::Lies, 5, &["the relay says done, but no node of the site has signed for it"]),
        (Mode::Forges, 5, &["the relay says done, but its receipt is signed by", "no node of the site"]),
        (Mode::Signed, 0, &["accepted by lyon"]),
        (Mode::Twists, 0, &["accepted by lyon"]),
    ];
    for (at, (mode, code, says)) in cases.into_iter().enumerate() {
        let args = admin(&format!("a{at}"), 60 + at as u8);
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.push("--no-wait");
        let ran = far.far(mode, &args);
        assert_eq!(ran.code, code, "{mode:?}: {ran:?}");
        for said in says {
            assert!(ran.err.contains(said), "{mode:?}: {}", ran.err);
        }
        assert_eq!(ran.err.contains("accepted by"), code == 0, "{mode:?}: {}", ran.err);
        if code != 0 {
            assert!(ran.err.contains("qb intent show "), "how to look again: {}", ran.err);
        }
    }
    let list = far.far(Mode::Site, &["intent", "list", "-o", "json"]);
    let list: Vec<serde_json::Value> = serde_json::from_str(&list.out).unwrap();
    let said: Vec<(&str, &str)> =
        list.iter().map(|i| (i["says"].as_str().unwrap(), i["state"].as_str().unwrap())).collect();
    let unproven = [("relay", "held"), ("relay", "unknown"), ("relay", "unknown")];
    let proven = [("site", "done"), ("site", "doing")];
    let mut wanted: Vec<(&str, &str)> = unproven.into_iter().chain(proven).collect();
    let mut found = said.clone();
    wanted.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, wanted);
    // An interrupted or late sender finds it again, here and at the relay.
    let digest = list.iter().find(|i| i["state"] == "held").unwrap()["digest"].as_str().unwrap().to_owned();
    let shown = far.far(Mode::Site, &["intent", "show", &digest]);
    assert!(shown.out.contains("none: no node of the site has signed for it"), "{shown:?}");
    let kept = std::fs::read_dir(far.lab.folder.path().join("config/intents")).unwrap().count();
    assert_eq!(kept, 3, "what is not settled is kept here too");
}

#[test]
fn a_rejection_that_a_node_signed_is_a_rejection() {
    let far = Far::new();
    let args = admin("mira", 70);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ran = far.far(Mode::Signed, &args);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("Refused: there is an admin mira already."), "{}", ran.err);
}

#[test]
fn interrupting_loses_nothing_and_says_how_to_look_again() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let far = Far::new();
    assert_eq!(far.far(Mode::Site, &["node", "list"]).code, 0);
    far.lab.site.lock().mode = Mode::Queued;
    let folder = far.lab.folder.path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_qb"));
    command.env_clear().env("QB_CONFIG", folder.join("config/config.toml"));
    command.args(["--door", &format!("relay:{}", far.url), "--wait=10m"]).args(admin("ana", 61));
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waits = lines.find(|line| line.contains("waits at the relay")).expect("it says that it waits");
    assert!(waits.contains("Ctrl-C leaves it there"), "{waits}");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest = lines.collect::<Vec<String>>().join("\n");
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("qb intent show "), "{rest}");
    assert_eq!(std::fs::read_dir(folder.join("config/intents")).unwrap().count(), 1, "a copy is here");
}

#[test]
fn a_bundle_that_does_not_get_through_a_relay_goes_in_at_the_site() {
    use qb_cli::client::api::not_by_relay;
    use qb_cli::error::CliError;
    use qb_portal::view::Problem;
    let away = Problem::unavailable("The site cannot be asked through the relay", "no link", "wait");
    for problem in [Problem::too_large("The bundle", 1), away] {
        let error = not_by_relay(CliError::from_problem(problem));
        assert!(
            error.remedy.as_ref().unwrap().contains("at a door of the site: qb --door https://"),
            "{error:?}"
        );
    }
    let own = Problem::refused("unknown_publisher", "Nobody knows this publisher.", "qb bundle trust");
    let error = not_by_relay(CliError::from_problem(own));
    assert_eq!(error.remedy.as_deref(), Some("qb bundle trust"));
}

#[test]
fn doctor_looks_at_relays_too() {
    use qb_cli::cmd::doctor::relay;
    use qb_cli::error::CliError;
    use qb_cli::out::paint::Tone;
    let url = "https://relay.example".parse().unwrap();
    let tones = [
        (relay(&url, Some(&key(1)), Ok(key(1))), Tone::Good, "answers with its key"),
        (relay(&url, Some(&key(1)), Ok(key(2))), Tone::Broken, "another key"),
        (relay(&url, None, Ok(key(2))), Tone::You, "nobody here compared"),
        (relay(&url, None, Err(CliError::failed("No."))), Tone::Broken, "not as a relay"),
    ];
    for (check, tone, text) in tones {
        assert_eq!(check.tone, tone, "{check:?}");
        assert!(check.text.contains(text), "{check:?}");
    }
    let far = Far::new();
    assert_eq!(far.lab.qb(&["relay", "add", &far.url, "-y"]).code, 0);
    let ran = far.lab.qb(&["doctor"]);
    assert!(ran.out.contains(&format!("relay:{} answers with its key", far.url)), "{ran:?}");
}

#[test]
fn a_key_that_a_browser_made_is_compared_and_added() {
    let far = Far::new();
    assert_eq!(far.lab.qb(&admin("ana", 60).iter().map(String::as_str).collect::<Vec<_>>()).code, 0);
    let verb = qb_cli::args::help::parse([
        "qb",
        "admin",
        "add-key",
        "ana",
        &key(62).to_string(),
        "--class",
        "browser",
    ]);
    let Some(qb_cli::args::Command::Admin(verb)) = verb.unwrap().command else { panic!("another verb") };
    let text = qb_cli::cmd::admin::to_compare(&verb).unwrap();
    let words = qb_model::words::words(&key(62).0).join(" ");
    assert!(text.contains("what the page shows") && text.contains(&words), "{text}");
}

#[test]
fn s30_a_machine_that_a_relay_shows_is_let_in_by_what_its_own_console_shows() {
    let far = Far::new();
    for named in [&["--waiting"][..], &["lyon-r1-01"]] {
        let ran = far.far(Mode::Site, &[&["node", "authorize"], named, &["-y"]].concat());
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.err.contains("the relay could show another one's"), "{}", ran.err);
    }
    assert!(far.lab.sent().is_empty(), "nothing was sent");
}

#[test]
fn what_names_a_machine_is_its_key() {
    use qb_cli::cmd::compare::{fits, unproven};
    let nodes = [crate::made::waiting_node(1), crate::made::waiting_node(2)];
    let chosen: Vec<_> = nodes.iter().collect();
    let named = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        unproven(&chosen, &names).len()
    };
    let print = qb_model::words::fingerprint(&nodes[0].id.0);
    assert_eq!(named(&[]), 2);
    assert_eq!(named(&[nodes[0].name.as_str(), nodes[1].name.as_str()]), 2, "names are the relay's word");
    assert_eq!(named(&[&print[..9], &nodes[1].id.to_string()]), 1, "half a fingerprint is found by trying");
    assert_eq!(named(&[&print, &nodes[1].id.to_string()]), 0);

    let six = qb_model::words::words(&nodes[0].id.0);
    let last = format!(" {}  {} ", six[4].to_uppercase(), six[5]);
    assert!(fits(&last, &nodes[0]) && !fits(&last, &nodes[1]));
    assert!(!fits(six[5], &nodes[0]) && !fits("", &nodes[0]) && !fits(&six.join(" "), &nodes[0]));
    // What the door says the words are counts for nothing.
    let lying = qb_portal::view::NodeView { words: "a b c d e f".into(), ..nodes[0].clone() };
    assert!(!fits("e f", &lying));
}
